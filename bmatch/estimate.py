"""Two models and some tokens in, the gauge between their residual streams out.

Both models read the same tokens; at every site their streams are correlated; the correlations
of all sites are averaged, since one gauge holds for the whole stream; and the average is
matched. Activations are dropped as soon as they are counted: a batch's streams of all sites lie in
one buffer, update the moments in one go, and on a CUDA device do so while the models read the next.

Each token's stream is divided by its root mean square first, as every block does when it reads
it. This commutes with the gauge, and keeps a few massive tokens from drowning the others:
SmolLM2-135M at weight noise 0.3 and 4,096 tokens, one of them massive, recovers 99.3% of its
coordinates without and all with it. The sites' correlations are averaged, not their covariances,
in which late layers outweigh the rest: from 128 tokens that recovers 21%, the average all.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import torch

from bmatch import __version__
from bmatch.architecture import residual_axes
from bmatch.correlation.background import BATCHES_HELD, BackgroundUpdates
from bmatch.correlation.site_moments import SiteMoments, moments_bytes
from bmatch.gauge import Group, SignedPermutation, require_group
from bmatch.jobs.progress import Progress, silent
from bmatch.matching import GaugeMatch, match
from bmatch.models.activations import Sites, counted_tokens, resolve_sites, run, split_batch
from bmatch.models.checkpoint import Checkpoint, Digest, open_checkpoint, require_finite
from bmatch.models.text import default_text, file_text, token_batches

Batch: TypeAlias = "torch.Tensor | Mapping[str, torch.Tensor]"


@dataclass(frozen=True, eq=False)
class StreamCorrelation:
    """Cross-checkpoint correlation of a residual stream.

    Attributes
    ----------
    correlation : float32 tensor [D, D]
        ``C[i, j] = corr(target_i, source_j)``, the mean over the sites.
    sites : tuple of int
        After how many blocks the stream was read.
    tokens : int
        Tokens counted at each site.
    """

    correlation: torch.Tensor
    sites: tuple[int, ...]
    tokens: int


def correlate_streams(
    target_model: Any,
    source_model: Any,
    batches: Iterable[Batch],
    sites: Sites = "all",
    skip_positions: int = 1,
) -> StreamCorrelation:
    """Correlate the residual streams of two models that read the same tokens.

    Parameters
    ----------
    target_model, source_model
        Transformers models of one architecture, width and depth, on one device, in eval mode.
    batches : iterable of int64 [B, T] or of mappings with input_ids and attention_mask
    sites : "all" or sequence of int
        After how many blocks the stream is read: 0 is the embedding, -1 the end.
    skip_positions : int
        How many leading tokens of each sequence are not counted: the first one is an attention
        sink in most models.

    Returns
    -------
    StreamCorrelation

    Raises
    ------
    ValueError
        If the models do not fit together, no token counts, activations are not finite, or a CUDA
        device has less memory left than `correlation_bytes` says.
    """
    if isinstance(batches, (torch.Tensor, Mapping)):
        raise TypeError("batches must be a list of batches: wrap a single one in brackets")
    require_same_stream(target_model.config.to_dict(), source_model.config.to_dict())
    chosen = resolve_sites(target_model, sites)
    width = residual_axes(target_model).dim
    device = target_model.device
    place = {site: s for s, site in enumerate(chosen)}
    taken = correlation_bytes(len(chosen), width, 0, device)
    _require_memory(taken, device)
    moments = SiteMoments(chosen, width, width, device)
    with BackgroundUpdates(moments) as updates:
        for batch in batches:
            ids, _ = split_batch(batch)
            needed = correlation_bytes(len(chosen), width, ids.numel(), device)
            if needed > taken:
                _require_memory(needed - taken, device)
                taken = needed
            mask = counted_tokens(batch, skip_positions).to(device, non_blocking=True)
            updates.room()
            target, source = (
                torch.empty((len(chosen), *ids.shape, width), device=device) for _ in range(2)
            )
            for model, streams in ((source_model, source), (target_model, target)):

                def keep(site: int, stream: torch.Tensor, streams: torch.Tensor = streams) -> None:
                    streams[place[site]] = _normalized(stream)

                run(model, batch, chosen, keep)
            updates.add(target, source, mask)
            del target, source, streams, keep  # the next batch needs the room
    tokens = moments.count
    if tokens < 2:
        raise ValueError(
            f"{tokens} tokens were counted, and a correlation needs at least 2: give more batches "
            f"(the first {skip_positions} of each sequence do not count)"
        )
    total = torch.zeros(width, width, device=device)
    for s in range(len(chosen)):
        total += moments.correlation(s)
    return StreamCorrelation(total / len(chosen), chosen, tokens)


def correlation_bytes(sites: int, width: int, tokens: int, device: torch.device) -> int:
    """Bytes that `correlate_streams` takes beside the models and their forward passes.

    Parameters
    ----------
    sites, width : int
        How many sites are read, and D.
    tokens : int
        Token ids of the largest batch, padding included.
    device : torch device
        Where the models are.

    Returns
    -------
    int
        The statistics and what adding a batch needs, as `moments.moments_bytes` counts them; both
        models' streams of one batch in float32, on a CUDA device of two; and two matrices
        ``[D, D]``.
    """
    held = BATCHES_HELD if device.type == "cuda" else 1
    streams = 2 * held * sites * tokens * width
    normalised = 2 * tokens * width  # one site's stream as float32, and over its root mean square
    return (
        4 * (streams + normalised + 2 * width**2)
        + moments_bytes(sites, width, width, tokens, device)
    )  # fmt: skip


def _require_memory(needed: int, device: torch.device) -> None:
    """Refuse a CUDA device that has less than `needed` bytes left, its cached memory included."""
    if device.type != "cuda":
        return
    free, _ = torch.cuda.mem_get_info(device)
    free += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    if free < needed:
        raise ValueError(
            f"the correlation needs {needed / 1e9:.2f} GB on {device} and {free / 1e9:.2f} GB are "
            "free there: take fewer sites or smaller batches"
        )


def _normalized(stream: torch.Tensor) -> torch.Tensor:
    """Each token's stream at root mean square 1, float32 [B, T, D]."""
    return torch.nn.functional.rms_norm(stream.float(), stream.shape[-1:])


def estimate_gauge(
    target_model: Any,
    source_model: Any,
    batches: Iterable[Batch],
    sites: Sites = "all",
    group: Group | Literal["auto"] = "auto",
    skip_positions: int = 1,
) -> GaugeMatch:
    """Estimate the gauge from the residual stream of one model to that of another.

    Parameters
    ----------
    target_model, source_model, batches, sites, skip_positions
        As for `correlate_streams`.
    group : {"auto", "signed_permutation", "permutation", "permutation_global_sign"}
        ``"auto"`` takes the gauge group of the architecture: signed permutations for RMSNorm.

    Returns
    -------
    GaugeMatch
        Its gauge maps source to target coordinates, and its metadata tell sites and tokens.

    Raises
    ------
    ValueError
        As `correlate_streams`, and if the group is unknown.
    TypeError
        If `batches` is a single batch.

    Examples
    --------
    With ``batch = tokenizer(texts, return_tensors="pt", padding=True)`` of the models' tokenizer:
    ``estimate_gauge(target_model, source_model, [batch]).gauge``.
    """
    chosen_group = resolve_group(target_model, group)
    streams = correlate_streams(target_model, source_model, batches, sites, skip_positions)
    return match_streams(streams, chosen_group)


def match_streams(streams: StreamCorrelation, group: Group) -> GaugeMatch:
    """Match the correlation of two streams; the gauge notes where it comes from."""
    result = match(streams.correlation, group)
    result.gauge.metadata.update(
        matched_group=group,
        tokens=str(streams.tokens),
        sites=",".join(map(str, streams.sites)),
        score=f"{result.score:.6f}",
        bmatch_version=__version__,
    )
    return result


def resolve_group(model_or_config: Any, group: Group | Literal["auto"]) -> Group:
    """The group to match in: ``"auto"`` is the architecture's own.

    Raises
    ------
    ValueError
        If the group is unknown, or the architecture is (LayerNorm architectures are named).
    """
    own = residual_axes(model_or_config).group
    if group == "auto":
        return own
    require_group(group)
    return group


def require_same_stream(target: Mapping[str, Any], source: Mapping[str, Any]) -> None:
    """Refuse two configs whose residual streams cannot be coordinates of one another.

    Raises
    ------
    ValueError
        If architecture, width, depth or vocabulary differ.
    """
    residual_axes(target)
    residual_axes(source)
    for key, what in (
        ("model_type", "architectures"),
        ("hidden_size", "widths of the residual stream"),
        ("num_hidden_layers", "numbers of blocks"),
        ("vocab_size", "vocabulary sizes"),
    ):
        if target.get(key) != source.get(key):
            raise ValueError(
                f"the two models have different {what}: {source.get(key)} in the source and "
                f"{target.get(key)} in the target, so no gauge relates them"
            )


@dataclass(frozen=True, eq=False)
class Alignment:
    """What `align_checkpoints` found.

    Attributes
    ----------
    match : GaugeMatch
        Its gauge maps source to target coordinates and carries the provenance as metadata.
    streams : StreamCorrelation
    correlation_bytes : int
        What the correlation took beside the models, as `correlation_bytes` counts it.
    """

    match: GaugeMatch
    streams: StreamCorrelation
    correlation_bytes: int

    @property
    def gauge(self) -> SignedPermutation:
        """The gauge, as NumPy arrays."""
        return self.match.gauge


def align_checkpoints(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    text: Sequence[str | os.PathLike[str]] = (),
    tokens: int = 4096,
    sequence_length: int = 256,
    batch_size: int = 2,
    sites: Sites = "all",
    group: Group | Literal["auto"] = "auto",
    dtype: str = "float32",
    device: str = "cpu",
    progress: Progress = silent,
    tell: Callable[[str], None] | None = None,
) -> Alignment:
    """Estimate the gauge between two checkpoint folders: what ``bmatch align`` does.

    Parameters
    ----------
    source, target : path
        Folders in the format of transformers, with safetensors weights. The tokenizer is taken
        from the source, or from the target if the source has none.
    text : sequence of path
        UTF-8 text files to read. Default: the language reference that ships with Python.
    tokens : int
        How many tokens count.
    sequence_length, batch_size : int
        Shape of the batches.
    sites, group
        As for `estimate_gauge`.
    dtype : str
        Precision of the forward passes: float32, bfloat16 or float16.
    device : str
        Where the models run: both must fit.
    progress : callable, optional
        How to show how far it has come (see `bmatch.jobs.progress`).
    tell : callable, optional
        Is given a line about the memory that the correlation will take, before models are loaded.

    Returns
    -------
    Alignment

    Raises
    ------
    FileNotFoundError, ValueError
        If a checkpoint is incomplete, damaged or holds NaN, the two do not fit together, the text
        is too short, or a CUDA device has too little memory left. Nothing is loaded before this is
        known.
    """
    _require_precision_and_device(dtype, device)
    checkpoints = {"source": open_checkpoint(source), "target": open_checkpoint(target)}
    require_same_stream(checkpoints["target"].config, checkpoints["source"].config)
    chosen_group = resolve_group(checkpoints["target"].config, group)
    for checkpoint in checkpoints.values():
        residual_axes(checkpoint.config).require_names(checkpoint.names)

    tokenizer = _shared_tokenizer(checkpoints["source"], checkpoints["target"])
    words = file_text(text) if text else default_text()
    batches = token_batches(tokenizer, words, tokens, sequence_length, batch_size)
    _require_in_vocabulary(batches, checkpoints["source"])

    axes = residual_axes(checkpoints["target"].config)
    chosen = resolve_sites(checkpoints["target"].config, sites)
    largest = max(batch.numel() for batch in batches)
    needed = correlation_bytes(len(chosen), axes.dim, largest, torch.device(device))
    _require_memory(needed, torch.device(device))

    digests = {
        role: _checked_digest(checkpoint, progress, f"Checking {role}")
        for role, checkpoint in checkpoints.items()
    }
    if tell is not None:
        tell(
            f"moments of {len(chosen)} sites and streams of {largest} tokens a batch will take "
            f"{needed / 1e6:,.1f} MB on {device} beside the models"
        )
    models = {
        role: _load(checkpoints[role], dtype, device)
        for role in progress(list(checkpoints), "Loading models")
    }
    streams = correlate_streams(
        models["target"], models["source"], progress(batches, "Correlating"), sites
    )
    result = match_streams(streams, chosen_group)
    result.gauge.metadata.update(
        source=checkpoints["source"].folder.resolve().name,
        target=checkpoints["target"].folder.resolve().name,
        source_sha256=digests["source"],
        target_sha256=digests["target"],
        model_type=checkpoints["source"].config["model_type"],
        text=", ".join(os.path.basename(path) for path in text) or "Python language reference",
        sequence_length=str(sequence_length),
        dtype=dtype,
    )
    return Alignment(replace(result, gauge=result.gauge.to(None)), streams, needed)


def _checked_digest(checkpoint: Checkpoint, progress: Progress, description: str) -> str:
    """SHA-256 of the weights, which are found finite on the way."""
    digest = Digest()
    stream = checkpoint.tensors()
    for _ in progress(checkpoint.names, description):
        name, tensor = next(stream)
        require_finite(name, tensor, checkpoint.folder)
        digest.add(name, tensor)
    return digest.hexdigest()


def _load(checkpoint: Checkpoint, dtype: str, device: str) -> Any:
    from transformers import AutoModelForCausalLM

    with _reading(checkpoint, "weights"):
        model: Any = AutoModelForCausalLM.from_pretrained(
            checkpoint.folder, dtype=getattr(torch, dtype), local_files_only=True
        )
    return model.to(device).eval()


def _shared_tokenizer(source: Checkpoint, target: Checkpoint) -> Any:
    """The source's tokenizer; refused if the target has another."""
    found = {
        checkpoint.folder: _tokenizer(checkpoint)
        for checkpoint in (source, target)
        if any((checkpoint.folder / name).is_file() for name in _TOKENIZER_FILES)
    }
    if not found:
        raise FileNotFoundError(
            f"neither {source.folder} nor {target.folder} has a tokenizer: copy one of its files "
            f"({', '.join(_TOKENIZER_FILES)}) into the source"
        )
    tokenizers = list(found.values())
    if len(tokenizers) == 2 and tokenizers[0].get_vocab() != tokenizers[1].get_vocab():
        raise ValueError(
            f"the tokenizers of {source.folder} and {target.folder} have different vocabularies, "
            "so the two models cannot read the same tokens"
        )
    return tokenizers[0]


_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json")


def _tokenizer(checkpoint: Checkpoint) -> Any:
    from transformers import AutoTokenizer

    with _reading(checkpoint, "tokenizer"):
        return AutoTokenizer.from_pretrained(checkpoint.folder, local_files_only=True)


@contextmanager
def _reading(checkpoint: Checkpoint, what: str) -> Iterator[None]:
    """Says in one sentence which folder transformers could not read, and why."""
    try:
        yield
    except Exception as error:  # the libraries below raise bare Exception too
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(
            f"transformers cannot read the {what} in {checkpoint.folder}: {reason}"
        ) from error


def _require_precision_and_device(dtype: str, device: str) -> None:
    """Before anything is read."""
    if dtype not in ("float32", "bfloat16", "float16"):
        raise ValueError(f"dtype must be float32, bfloat16 or float16, got {dtype!r}")
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"device {device!r} cannot be used here: {reason}") from None


def _require_in_vocabulary(batches: Sequence[torch.Tensor], source: Checkpoint) -> None:
    largest = max(int(batch.max()) for batch in batches)
    if largest >= source.config["vocab_size"]:
        raise ValueError(
            f"the tokenizer of {source.folder} gives token {largest}, and the model's vocabulary "
            f"has {source.config['vocab_size']}: it belongs to another model"
        )
