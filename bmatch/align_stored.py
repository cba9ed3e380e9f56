"""Two sets of stored activations in, the gauge between them out, in chunks.

What `bmatch align` does with paths that hold activations in place of checkpoints: sums, ranks and
what is kept are those of models that run.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from dataclasses import replace

import torch

from bmatch.align import Alignment
from bmatch.correlation.stretches import LEAST
from bmatch.estimate import match_evidence
from bmatch.groups import Group, require_group
from bmatch.jobs.device import require_device
from bmatch.jobs.phases import peak_bytes, resident_bytes
from bmatch.jobs.progress import Progress, silent
from bmatch.jobs.ranks import ALONE, Ranks
from bmatch.models.activations import Sites
from bmatch.models.stored_activations import StoredActivations, open_activations, pair_stored
from bmatch.stream_jobs import Plan, kept_state
from bmatch.stream_reading import correlation_bytes, require_memory
from bmatch.streams import Job, correlate_streams


def align_activations(
    source: str | os.PathLike[str] | StoredActivations,
    target: str | os.PathLike[str] | StoredActivations,
    *,
    tokens: int | None = None,
    batch_tokens: int = 512,
    sites: Sites = "all",
    group: Group = "signed_permutation",
    device: str = "cpu",
    progress: Progress = silent,
    tell: Callable[[str], None] | None = None,
    warn: Callable[[str], object] = warnings.warn,
    cache_dir: str | os.PathLike[str] | None = None,
    save_every: float = 5.0,
    passed: Callable[[int], object] = bool,
    ranks: Ranks = ALONE,
) -> Alignment:
    """Estimate the gauge between activations that two models left on disk.

    Row t of both is the same token. They are read a few tokens at a time, and never lie in memory;
    each token is divided by its root mean square, as where models run.

    Parameters
    ----------
    source, target : path or StoredActivations
        An npy or safetensors file, a folder of such, or zarr: see
        `bmatch.models.stored_activations.open_activations`. Where a stream is [sequences, L, D],
        the first token of a sequence does not count.
    tokens : int, optional
        How many rows are read. Default: all.
    batch_tokens : int
        How many at a time.
    sites : "all" or sequence of int
        Which streams, by their places in the order of names.
    group : str
        Of the architecture, which activations do not tell: signed permutations for RMSNorm,
        ``"permutation_global_sign"`` for LayerNorm.
    device : str
        Where they are summed, ``cpu`` or a CUDA device.
    progress, tell, warn, cache_dir, save_every, passed, ranks
        As for `bmatch.align.align_checkpoints`.

    Returns
    -------
    Alignment

    Raises
    ------
    FileNotFoundError, ValueError
        If there are no activations, the two do not fit together, a file is damaged, or numbers are
        not finite.

    Examples
    --------
    With ``np.save("a/layer-3.npy", x)`` of one model and ``np.save("b/layer-3.npy", y)`` of the
    other, x and y of shape [T, D]: ``align_activations("a", "b").gauge``.
    """
    require_group(group)
    require_device(device)
    held = {
        role: given if isinstance(given, StoredActivations) else open_activations(given)
        for role, given in (("source", source), ("target", target))
    }
    pairs = pair_stored(held["target"], held["source"], sites)
    width, rows = held["source"].dim, held["source"].first_rows(tokens)
    if batch_tokens < 1:
        raise ValueError(f"batch_tokens must be at least 1, got {batch_tokens}")
    batches = [rows[at : at + batch_tokens] for at in range(0, len(rows), batch_tokens)]
    stretched = len(batches) >= LEAST
    largest = len(batches[0]) if batches else 0
    needed = correlation_bytes(len(pairs), width, largest, torch.device(device), stretched)
    require_memory(needed, torch.device(device))
    chunks = sum(activations.held_bytes for activations in held.values())
    say = tell or (lambda _: None)
    say(
        f"moments of {len(pairs)} sites and streams of {largest} tokens a batch will take "
        f"{needed / 1e6:,.1f} MB on {device}"
        f"{f', and chunks of zarr {chunks / 1e6:,.1f} MB' if chunks else ''}"
    )
    foreseen = resident_bytes() + chunks + needed if device == "cpu" else 0
    digests = {
        role: activations.sha256(progress, f"Checking {role}") for role, activations in held.items()
    }
    ranks.told(Plan(batches, sites))
    kept = None
    if cache_dir is not None:
        deciding = {"activations": digests, "pairs": pairs, "device": device.partition(":")[0]}
        kept = kept_state(cache_dir, save_every, deciding, batches, warn)
    streams = correlate_streams(
        held["target"],
        held["source"],
        batches,
        sites,
        largest_batch=largest,
        job=Job(ranks, kept, passed, progress, device),
    )
    peaks = ranks.gathered(peak_bytes())
    result, correlation, _ = match_evidence(group, streams, None)
    result.gauge.metadata.update(
        # Those of weights are asked for by who carries a checkpoint or an object.
        {f"{role}_activations_sha256": digest for role, digest in digests.items()},
        **{role: activations.path.resolve().name for role, activations in held.items()},
        site_names=",".join(held["target"].sites[pair.target] for pair in pairs),
    )
    return Alignment(
        replace(result, gauge=result.gauge.to(None)),
        correlation,
        streams,
        None,
        needed,
        kept,
        tuple(peaks),
        foreseen,
    )
