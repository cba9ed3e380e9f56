"""A batch added by the Triton kernels: the way of a CUDA device, all sites in one launch.

`begin` starts the sums, and sends what the host must know of them on its way; `add` multiplies.
Operands of 16 bits from which nothing has to be subtracted are multiplied where they lie, others as
copies in bfloat16 planes.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec

import torch

from bmatch.correlation.batch import Batch
from bmatch.correlation.pilot import DEVICE_PILOT_TOKENS
from bmatch.correlation.statistics import Statistics

# Tokens in a float32 sum, promoted or not: 8,192 bound the drift of one that is not to 1e-5. Where
# a device of many processors cuts a chunk into parts, each is a sum of its own, and chunks are
# longer: the fewer there are, the fewer kernels start, and masters are read and written.
_PROMOTED_TOKENS = 32_768
_CHUNK_TOKENS = 8192
_COPY_BYTES = 2**28  # of a chunk that is copied, if it is longer than that

_PEAK = 1e15  # the root of a sum of squares beyond which a site's batch is added in chunks

_PLANES = {"highest": 3, "high": 2, "medium": 1}  # bfloat16 planes of a float32 operand


@dataclass(frozen=True)
class Findings:
    """What the host has to know of a batch before it is multiplied."""

    largest: list[float]  # [S], each site's largest sum of squares, infinite for NaN
    shifted: list[bool]  # [S], whether any channel of a site is
    count: int  # tokens that count

    def beyond(self) -> list[int]:
        """The sites that the kernels cannot sum: numbers too large, or not finite."""
        return [s for s, largest in enumerate(self.largest) if not largest <= _PEAK**2]

    def groups(self) -> list[slice]:
        """The other sites, in groups that are shifted, or not, as a whole: all, or one by one."""
        beyond = self.beyond()
        if not beyond and len(set(self.shifted)) == 1:
            return [slice(0, len(self.shifted))]
        return [slice(s, s + 1) for s in range(len(self.shifted)) if s not in beyond]


@dataclass(frozen=True, eq=False)
class KernelSums:
    """Sums of a batch about its shift, on the device, and what the host has to know of them."""

    shift: torch.Tensor  # float32 [S, D1 + D2], of both streams
    sums: torch.Tensor  # float64 [S, 2, D1 + D2], of values and of their squares
    findings: torch.Tensor  # float64 [2 S B + 1], of B blocks of channels, on its way to the host
    arrived: torch.cuda.Event | None  # when it is there

    def read(self) -> Findings:
        """Wait for the findings."""
        if self.arrived is not None:
            self.arrived.synchronize()
        found = self.findings.numpy()
        largest, shifted = found[:-1].reshape(2, len(self.shift), -1).max(2)
        return Findings(largest.tolist(), (shifted > 0).tolist(), int(found[-1]))


def runs_kernels(device: torch.device) -> bool:
    """Whether the Triton kernels work on tensors of this device."""
    if device.type != "cuda" or find_spec("triton") is None:
        return False
    from bmatch.kernels.dispatch import has_matrix_units

    return has_matrix_units(device)


def takes(batch: Batch) -> bool:
    """Whether a batch is the kernels': there are tokens, on their device and not of float64."""
    narrow = torch.float64 not in (batch.target.dtype, batch.source.dtype)
    return narrow and batch.tokens > 0 and runs_kernels(batch.target.device)


def begin(batch: Batch, precision: str) -> KernelSums:
    """Start the kernels that sum a batch, and what the host must know of it on its way."""
    from bmatch.kernels.batch_sums import findings
    from bmatch.kernels.centred import column_sums
    from bmatch.kernels.pilot import pilot_shifts

    target, source, kept = batch.target, batch.source, batch.kept
    seen = None if kept is None else kept.cumsum(0)
    shift = pilot_shifts(target, source, seen, DEVICE_PILOT_TOKENS)
    planes = None if _in_place(batch) else _PLANES[precision]
    partial = column_sums(target, source, shift, kept, planes)
    sums, found = findings(partial, shift, seen, batch.tokens)
    found = found.to("cpu", non_blocking=True)  # pinned, so this does not wait
    arrived = None
    if target.device.type == "cuda":
        arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
        arrived.record(torch.cuda.current_stream(target.device))
    return KernelSums(shift, sums, found, arrived)


def add(
    statistics: Statistics, batch: Batch, sums: KernelSums, found: Findings, precision: str
) -> None:
    """Fold in the counted tokens of all sites that the kernels can sum.

    The statistics' count is left to the caller.
    """
    for sites in found.groups() if found.count else ():
        shifted = found.shifted[sites.start]
        _add_group(statistics, sites, batch, sums, shifted, found.count, precision)


def _add_group(
    statistics: Statistics,
    sites: slice,
    batch: Batch,
    sums: KernelSums,
    shifted: bool,
    count: int,
    precision: str,
) -> None:
    from bmatch.kernels.batch_sums import move
    from bmatch.kernels.centred import split_planes
    from bmatch.kernels.cross_moments import add_cross_moments

    target, source, kept = batch.target[sites], batch.source[sites], batch.kept
    d1, d2 = target.shape[2], source.shape[2]
    shift = sums.shift[sites]
    factors = move(
        (statistics.target_mean[sites], statistics.source_mean[sites]),
        (statistics.target_square[sites], statistics.source_square[sites]),
        shift, sums.sums[sites], statistics.count, count,
    )  # fmt: skip
    in_place = not shifted and _in_place(batch)
    # Of 16 bits, one product is exact and quick enough for all precisions to be the highest.
    promoted = in_place or precision == "highest"
    token_bytes = 0 if in_place else _copied_bytes(len(target), d1 + d2, precision)
    step = _chunk_tokens(target.device, d1, d2, promoted, token_bytes)
    for start in range(0, batch.tokens, step):
        chunk = slice(start, start + step)
        if in_place:
            operands = target[:, None, chunk], source[:, None, chunk]
        else:
            mask = None if kept is None else kept[chunk]
            operands = split_planes(
                target[:, chunk], source[:, chunk], shift, mask, _PLANES[precision]
            )
        once = factors if start == 0 else None
        add_cross_moments(statistics.comoment[sites], *operands, promoted, once)
        del operands  # the next chunk needs the room


def _copied_bytes(sites: int, width: int, precision: str) -> int:
    """Bytes of one token of all sites as planes."""
    return 2 * _PLANES[precision] * sites * width


def _chunk_tokens(
    device: torch.device, d1: int, d2: int, promoted: bool, token_bytes: int = 0
) -> int:
    """Tokens of a chunk, of which each is copied into so many bytes."""
    from bmatch.kernels.cross_moments import tokens_at_once

    most = _PROMOTED_TOKENS if promoted else _CHUNK_TOKENS
    tokens = tokens_at_once(device, d1, d2, most, promoted)
    if token_bytes:
        tokens = min(tokens, max(_CHUNK_TOKENS, _COPY_BYTES // token_bytes))
    return tokens


def _in_place(batch: Batch) -> bool:
    """Whether the kernels can multiply a batch as it lies, if nothing has to be subtracted."""
    return batch.kept is None and batch.target.dtype == batch.source.dtype != torch.float32


def update_bytes(
    sites: int,
    target_dim: int,
    source_dim: int,
    tokens: int,
    device: torch.device,
    precision: str,
) -> int:
    """What adding a batch of float32 takes: sums, a chunk of all sites in planes, partial sums."""
    from bmatch.kernels.centred import sum_parts
    from bmatch.kernels.cross_moments import partial_bytes

    width = target_dim + source_dim
    planes, promoted = _PLANES[precision], precision == "highest"
    token_bytes = _copied_bytes(sites, width, precision)
    chunk = min(tokens, _chunk_tokens(device, target_dim, source_dim, promoted, token_bytes))
    sums = sites * width * (8 * sum_parts(tokens) + 64) + 8 * tokens
    split = chunk * _copied_bytes(sites, width + 14, precision)  # rows are padded to 16 bytes
    partial = partial_bytes(device, sites, target_dim, source_dim, chunk, planes, promoted)
    return split + partial + sums
