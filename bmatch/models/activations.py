"""The residual stream of a transformer, read between its blocks while it runs.

Site k is the stream after k blocks: site 0 is the embedding, site L leaves the last block. (The
last entry of transformers' ``hidden_states`` is not site L: it is taken behind the final norm.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple

import torch

from bmatch.architecture.axes import ResidualAxes
from bmatch.architecture.table import residual_axes
from bmatch.architecture.wrappers import is_sharded, unwrapped
from bmatch.models.blocks import run_blocks, stream_blocks
from bmatch.models.placed import input_device

Sites = Literal["all"] | Sequence[int]


class SitePair(NamedTuple):
    """Where the streams of two models are held against each other: after how many blocks."""

    target: int
    source: int


def require_same_width(target: ResidualAxes, source: ResidualAxes) -> None:
    """Refuse two models whose residual streams cannot be coordinates of one another.

    Depth, vocabulary and type may differ: a gauge needs the same width and nothing else.

    Raises
    ------
    ValueError
        If the widths differ.
    """
    if target.dim != source.dim:
        raise ValueError(
            "the two models have different widths of the residual stream: "
            f"{source.dim} in the source and {target.dim} in the target, so no gauge relates them"
        )


def pair_sites(target_layers: int, source_layers: int, sites: Sites) -> tuple[SitePair, ...]:
    """The sites asked for in two models of so many blocks, ascending.

    Parameters
    ----------
    target_layers, source_layers : int
    sites : "all" or sequence of int
        Numbers are taken in each model by themselves: 3 is after three blocks in both, -1 the end
        of both. ``"all"`` is all sites of models of equal depth; where depths differ, all sites of
        the shallower model, each with the site of the deeper one that is nearest to the same
        fraction of its depth: embedding with embedding, end with end.

    Raises
    ------
    ValueError
        If a site is out of range or none is left.
    """
    last = min(target_layers, source_layers)
    if isinstance(sites, str) and sites == "all":

        def nearest(k: int, layers: int) -> int:
            return (2 * k * layers + last) // max(2 * last, 1)  # k / last of them, rounded

        return tuple(
            SitePair(nearest(k, target_layers), nearest(k, source_layers)) for k in range(last + 1)
        )
    listed = isinstance(sites, Iterable) and not isinstance(sites, str)
    numbers = list(sites) if listed else []
    if not numbers or not all(-last - 1 <= site <= last for site in numbers):
        raise ValueError(
            f"sites must be 'all' or numbers from 0 to {last} (after how many blocks the stream is "
            f"read), got {sites!r}"
        )
    pairs = {
        SitePair(int(site) % (target_layers + 1), int(site) % (source_layers + 1))
        for site in numbers
    }
    return tuple(sorted(pairs))


@dataclass(frozen=True, eq=False)
class Reader:
    """A model whose residual stream is read.

    Attributes
    ----------
    model
        The transformers model, without what wrapped it.
    axes : ResidualAxes
        Its table, made once.
    """

    model: Any
    axes: ResidualAxes

    @classmethod
    def of(cls, model: Any) -> Reader:
        """The reader of a model, wrapped or not; a reader is its own.

        Raises
        ------
        ValueError
            If the architecture is not in the table, or what wraps the model hides it.
        """
        if isinstance(model, cls):
            return model
        plain = unwrapped(model, shards=True)
        return cls(plain, residual_axes(plain))

    @cached_property
    def device(self) -> torch.device:
        """Where it takes its tokens."""
        return input_device(self.model)

    @cached_property
    def sharded(self) -> bool:
        """Whether other processes hold shards of it, and run it at the same time."""
        return any(map(is_sharded, self.model.modules()))

    @cached_property
    def blocks(self) -> Sequence[torch.nn.Module]:
        """The blocks, in order (see `stream_blocks`)."""
        return stream_blocks(self.model, self.axes)


@contextmanager
def residual_hooks(
    reader: Reader, sites: Iterable[int], receive: Callable[[int, torch.Tensor], None]
) -> Iterator[None]:
    """While the block lasts, every forward pass hands ``(site, stream [B, T, D])`` to `receive`.

    The stream is the model's own tensor: `receive` must not write to it.
    """
    blocks = reader.blocks
    wanted = set(sites)

    def embedding(_module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        receive(0, args[0] if args else kwargs["hidden_states"])

    def after(site: int) -> Callable[..., None]:
        def hook(_module: Any, _args: Any, output: Any) -> None:
            receive(site, output[0] if isinstance(output, tuple) else output)

        return hook

    handles = []
    try:
        if 0 in wanted:
            handles.append(blocks[0].register_forward_pre_hook(embedding, with_kwargs=True))
        for site, block in enumerate(blocks, start=1):
            if site in wanted:
                handles.append(block.register_forward_hook(after(site)))
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def replaced_stream(
    reader: Reader, site: int, change: Callable[[torch.Tensor], torch.Tensor]
) -> Iterator[None]:
    """While the block lasts, the model goes on with ``change(stream [B, T, D])`` at one site."""
    blocks = reader.blocks
    (pair,) = pair_sites(len(blocks), len(blocks), [site])

    def embedding(_module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if args:
            return (change(args[0]), *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": change(kwargs["hidden_states"])}

    def after(_module: Any, _args: Any, output: Any) -> Any:
        if isinstance(output, tuple):
            return (change(output[0]), *output[1:])
        return change(output)

    if pair.source == 0:
        handle = blocks[0].register_forward_pre_hook(embedding, with_kwargs=True)
    else:
        handle = blocks[pair.source - 1].register_forward_hook(after)
    try:
        yield
    finally:
        handle.remove()


def run(
    reader: Reader,
    batch: torch.Tensor | Mapping[str, torch.Tensor],
    sites: Iterable[int],
    receive: Callable[[int, torch.Tensor], None],
) -> None:
    """Run a batch through the blocks, without the unembedding, handing over the stream.

    Parameters
    ----------
    reader : Reader
    batch : int64 [B, T] or mapping
        Token ids, or a tokenizer's output with ``input_ids`` and ``attention_mask``.
    sites, receive
        As for `residual_hooks`.
    """
    tokens, attention_mask = split_batch(batch)
    model, vocab_size = reader.model, reader.axes.vocab_size
    if tokens.numel() and not 0 <= int(tokens.min()) <= int(tokens.max()) < vocab_size:
        raise ValueError(
            f"token ids must be from 0 to {vocab_size - 1}, the model's vocabulary; "
            f"got {int(tokens.min())} to {int(tokens.max())}"
        )

    def receive_tokens(site: int, stream: torch.Tensor) -> None:
        while stream.ndim > 3:  # the first of several copies, which blocks predict from each other
            stream = stream[0]
        receive(site, stream[:, : tokens.shape[1]])  # padded to whole windows by some

    # FSDP2 counts the versions of what it gathers, which inference tensors have not.
    ungraded = torch.no_grad() if reader.sharded else torch.inference_mode()
    with ungraded, residual_hooks(reader, sites, receive_tokens):
        run_blocks(
            model,
            reader.blocks,
            tokens.to(reader.device, non_blocking=True),
            None if attention_mask is None else attention_mask.to(reader.device, non_blocking=True),
        )


def counted_tokens(
    batch: torch.Tensor | Mapping[str, torch.Tensor], skip_positions: int = 1
) -> torch.Tensor:
    """Which tokens count: attended, and not among the first of their sequence, bool ``[B, T]``.

    The first position is an attention sink: in many models its activations are so massive that
    they drown what the rest says about single coordinates.
    """
    tokens, attention_mask = split_batch(batch)
    attended = torch.ones_like(tokens) if attention_mask is None else (attention_mask != 0).long()
    return (attended == 1) & (attended.cumsum(-1) > skip_positions)


def split_batch(
    batch: torch.Tensor | Mapping[str, torch.Tensor],
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Token ids and attention mask, ``[B, T]`` each.

    Raises
    ------
    TypeError
        If the batch is neither a tensor nor has ``input_ids``.
    ValueError
        If the token ids are not 2-D.
    """
    mask = None
    if isinstance(batch, Mapping):
        if "input_ids" not in batch:
            raise TypeError(f"a batch must have input_ids, got the keys {', '.join(batch)}")
        tokens, mask = batch["input_ids"], batch.get("attention_mask")
    else:
        tokens = batch
    if not isinstance(tokens, torch.Tensor):
        raise TypeError(
            "a batch must be a tensor of token ids [B, T] or a tokenizer's output with "
            f"return_tensors='pt', got {type(tokens).__name__}"
        )
    if tokens.ndim != 2:
        raise ValueError(f"token ids must be [batch, tokens], got shape {tuple(tokens.shape)}")
    return tokens, mask
