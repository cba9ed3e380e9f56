"""Streaming moments of paired activations at many sites: tokens pass by, D x D statistics stay.

Channels whose median is not small beside their spread lose it, chunks of tokens are multiplied in
float32 and folded into float64 statistics about the mean of everything seen so far. So neither a
large mean nor a massive activation, wherever in the stream it comes, drowns the variance of the
rest; and a chunk is short enough that its float32 accumulators lose nothing that matters: 10^6
tokens agree with float64 to 1e-6.

On the CPU a batch is added chunk by chunk, as `bmatch.correlation.chunks` tells. On a CUDA device
products and sums are the Triton kernels of `bmatch.kernels`, which serve all sites in one launch. A
site's statistics do not depend on the sites beside it, to the bit.

T. F. Chan, G. H. Golub, R. J. LeVeque, "Algorithms for computing the sample variance: analysis and
recommendations", The American Statistician 37 (1983).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from types import ModuleType

import torch

from bmatch import _core
from bmatch.correlation import chunks
from bmatch.correlation.chunks import Stream, Workspace, add_outer
from bmatch.kernels import reference

PRECISIONS = ("highest", "high", "medium")

# Tokens from which the shift of a batch is estimated. On a GPU medians are cheap, and a channel
# that is shifted by chance, one in 10^6 from 32 tokens, makes six products of one in 16 bits.
_PILOT_TOKENS = 32
_DEVICE_PILOT_TOKENS = 256

# Tokens per flush into the float64 masters of a GPU. Operands that are read in place need no
# workspace, and long chunks spread the cost of the flush; 8,192 bound the drift of an unpromoted
# accumulator to 1e-5 of its sum.
_DEVICE_CHUNK_PROMOTED = 32_768
_DEVICE_CHUNK = 8192

_KERNEL_PEAK = 1e15  # the root of a sum of squares beyond which a site's batch is added in chunks

_PLANES = {"highest": 3, "high": 2, "medium": 1}  # bfloat16 planes of a float32 operand


@dataclass(frozen=True, eq=False)
class PendingUpdate:
    """A batch on its way: checked and, on a GPU, being summed; nothing has been added yet.

    Attributes
    ----------
    target, source : floating [S, N, D1] and [S, N, D2]
    kept : bool [N] or None
        Which tokens count; all if None.
    target_shift, source_shift : float32 or float64 [S, D1] and [S, D2]
        What is subtracted before anything is multiplied.
    sums : _KernelSums or None
        What the kernels are finding out; None where the batch is added in chunks.
    """

    target: torch.Tensor
    source: torch.Tensor
    kept: torch.Tensor | None
    target_shift: torch.Tensor
    source_shift: torch.Tensor
    sums: _KernelSums | None


@dataclass(frozen=True, eq=False)
class _KernelSums:
    """Sums about the shifts on the device, and what the host has to know of them."""

    shift: torch.Tensor  # float32 [S, D1 + D2], of both streams
    sums: torch.Tensor  # float64 [S, 2, D1 + D2], of values and of their squares
    findings: torch.Tensor  # float64 [2 S + 1], on its way to the host
    arrived: torch.cuda.Event | None  # when it is there

    def read(self) -> tuple[list[float], list[bool], int]:
        """Each site's largest sum of squares, whether it was shifted; and the tokens counted."""
        if self.arrived is not None:
            self.arrived.synchronize()
        *per_site, count = self.findings.tolist()
        sites = len(per_site) // 2
        return per_site[:sites], [bool(shifted) for shifted in per_site[sites:]], int(count)


class SiteMoments:
    """First and second moments of pairs of streams, one pair a site, that read the same tokens.

    Parameters
    ----------
    sites : sequence of int or str
        By which numbers, or names, messages call the sites; S is how many there are.
    target_dim, source_dim : int
        Widths D1 and D2 of the two streams, the same at all sites.
    device : torch device, optional
        Where the statistics live and where batches must come from. Default: the CPU.
    precision : {"highest", "high", "medium"}
        As for `bmatch.CrossMoments`.

    Attributes
    ----------
    count : int
        Tokens seen, the same at all sites.
    batches : int
        Batches added.
    comoment : float64 tensor [S, D1, D2]
        Sums of products about the means.
    target_mean, source_mean, target_square, source_square : float64 tensors [S, D1] and [S, D2]
        Means, and sums of squares about them.
    """

    def __init__(
        self,
        sites: Sequence[int | str],
        target_dim: int,
        source_dim: int,
        device: torch.device | str | None = None,
        precision: str = "highest",
    ) -> None:
        if target_dim < 1 or source_dim < 1:
            raise ValueError(f"widths must be at least 1, got {target_dim} and {source_dim}")
        if precision not in PRECISIONS:
            raise ValueError(f"precision must be 'highest', 'high' or 'medium', got {precision!r}")
        if len(sites) == 0:
            raise ValueError("sites must name at least one site, got none")
        self.sites = tuple(sites)
        self.target_dim = target_dim
        self.source_dim = source_dim
        self.precision = precision
        self.count = 0
        self.batches = 0

        def zeros(*shape: int) -> torch.Tensor:
            with torch.inference_mode(False):  # so that they can be updated in any mode
                return torch.zeros((len(sites), *shape), dtype=torch.float64, device=device)

        self.comoment = zeros(target_dim, source_dim)
        self.target_mean = zeros(target_dim)
        self.source_mean = zeros(source_dim)
        self.target_square = zeros(target_dim)
        self.source_square = zeros(source_dim)
        self.device = self.comoment.device

    # -- streaming ------------------------------------------------------------------------

    def update(
        self, target: torch.Tensor, source: torch.Tensor, mask: torch.Tensor | None = None
    ) -> None:
        """Add a batch of paired tokens to every site.

        Parameters
        ----------
        target, source : floating [S, ..., D1] and [S, ..., D2]
            Activations of the same tokens, of any shape in between, on the device of the
            statistics. float16 and bfloat16 are read as float32; float64 stays float64.
        mask : bool [...], optional
            True where a token counts, at all sites.

        Raises
        ------
        ValueError
            If shapes or devices do not fit, or a counted token holds NaN or infinity: the
            message names the batch, and the statistics are left as they were.
        TypeError
            If the activations are not floating point or the mask is not boolean.
        """
        self.finish(self.begin(target, source, mask))

    @torch.no_grad()
    def begin(
        self, target: torch.Tensor, source: torch.Tensor, mask: torch.Tensor | None = None
    ) -> PendingUpdate:
        """The half of `update` that waits for nothing; `finish` is the other.

        Between the two the device may be given other work. Only one batch may be on its way, and
        `target` and `source` must stay as they are until it has been added.
        """
        target = self._tokens("target", target, self.target_dim)  # [S, ..., D1]
        source = self._tokens("source", source, self.source_dim)  # [S, ..., D2]
        if target.shape[:-1] != source.shape[:-1]:
            raise ValueError(
                f"target and source must pair the same tokens, got shapes {tuple(target.shape[1:])}"
                f" and {tuple(source.shape[1:])}"
            )
        kept = None if mask is None else self._kept(mask, target.shape[1:-1])
        target = target.reshape(len(self.sites), -1, self.target_dim)
        source = source.reshape(len(self.sites), -1, self.source_dim)
        narrow = torch.float64 not in (target.dtype, source.dtype)
        if narrow and target.shape[1] > 0 and runs_kernels(self.device):
            sums = self._kernel_sums(target, source, kept)
            d1 = self.target_dim
            return PendingUpdate(target, source, kept, sums.shift[:, :d1], sums.shift[:, d1:], sums)
        most = _DEVICE_PILOT_TOKENS if self.device.type == "cuda" else _PILOT_TOKENS
        pilot = reference.pilot_tokens(target.shape[1], kept, most, self.device)
        y_shift, x_shift = (reference.pilot_shift(values, pilot) for values in (target, source))
        return PendingUpdate(target, source, kept, y_shift, x_shift, None)

    @torch.no_grad()
    def finish(self, pending: PendingUpdate) -> None:
        """Add the batch that `begin` checked; raises as `update` does."""
        sites = range(len(self.sites))
        kept = pending.kept
        if pending.sums is None:
            count = pending.target.shape[1] if kept is None else int(kept.sum())
            by_chunks, by_kernels = list(sites), []
        else:
            largest, shifted, count = pending.sums.read()
            # What the kernels cannot sum is named by the chunks, or added in float64.
            by_chunks = [s for s in sites if not largest[s] <= _KERNEL_PEAK**2]
            by_kernels = [slice(s, s + 1) for s in sites if s not in by_chunks]
            if not by_chunks and len(set(shifted)) == 1:
                by_kernels = [slice(0, len(self.sites))]
        if count and by_chunks:  # all is checked before anything is added
            rows = None if kept is None else kept.nonzero()[:, 0]
            work = count * self.target_dim * self.source_dim * len(by_chunks)
            threads = chunks.threads_for(self.device, work)
            given = (
                ("target", pending.target, pending.target_shift, Workspace()),
                ("source", pending.source, pending.source_shift, Workspace()),
            )
            pairs = [
                [
                    self._finite(name, s, Stream(values[s], rows, shift[s], workspace, threads))
                    for name, values, shift, workspace in given
                ]
                for s in by_chunks
            ]
            for s, (target, source) in zip(by_chunks, pairs, strict=True):
                self._add_by_chunks(s, target, source, threads)
        if count and pending.sums is not None:
            for group in by_kernels:
                self._add_by_kernels(group, pending, pending.sums, shifted[group.start], count)
        self.count += count
        self.batches += 1

    def _add_by_chunks(
        self, s: int, target: Stream, source: Stream, threads: _core.Threads | None
    ) -> None:
        """Fold in one site's tokens chunk by chunk, float64 where float32 does not reach."""
        site = slice(s, s + 1)
        seen = self.count
        rounded = self.precision == "medium" and chunks.multiplies_bfloat16(self.device)
        for chunk in range(target.chunks):
            y, x = target.centred(chunk, rounded), source.centred(chunk, rounded)
            n = len(y.values)
            products = chunks.multiply(y.values, x.values, threads)  # [D1, D2]
            parts = (y.centre, x.centre, y.total, x.total, y.square, x.square)
            left, right = self._move(site, seen, n, *(part[None] for part in parts))
            chunks.fold(self.comoment[s], products, left[0], right[0], threads)
            seen += n

    def _kernel_sums(
        self, target: torch.Tensor, source: torch.Tensor, kept: torch.Tensor | None
    ) -> _KernelSums:
        """Start the kernels that sum a batch, and what the host must know of it on its way."""
        from bmatch.kernels.batch_sums import findings
        from bmatch.kernels.centred import column_sums
        from bmatch.kernels.pilot import pilot_shifts

        shift = pilot_shifts(target, source, kept, _DEVICE_PILOT_TOKENS)
        planes = None if _in_place(target, source, kept) else _PLANES[self.precision]
        sums = column_sums((target, source), shift, kept, planes)
        found = findings(sums, shift, kept, target.shape[1])
        found = found.to("cpu", non_blocking=True)  # pinned, so this does not wait
        arrived = None
        if self.device.type == "cuda":
            arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
            arrived.record(torch.cuda.current_stream(self.device))
        return _KernelSums(shift, sums, found, arrived)

    def _add_by_kernels(
        self, sites: slice, pending: PendingUpdate, sums: _KernelSums, shifted: bool, n: int
    ) -> None:
        """Fold in the counted tokens of a group of sites by the Triton kernels."""
        from bmatch.kernels.batch_sums import move
        from bmatch.kernels.centred import split_planes
        from bmatch.kernels.cross_moments import add_cross_moments

        target, source, kept = pending.target[sites], pending.source[sites], pending.kept
        y_shift, x_shift = pending.target_shift[sites], pending.source_shift[sites]
        means = self.target_mean[sites], self.source_mean[sites]
        squares = self.target_square[sites], self.source_square[sites]
        factors = move(means, squares, sums.shift[sites], sums.sums[sites], self.count, n)
        promoted = self.precision == "highest"
        in_place = not shifted and _in_place(target, source, kept)
        step = _DEVICE_CHUNK_PROMOTED if in_place and promoted else _DEVICE_CHUNK
        for start in range(0, target.shape[1], step):
            chunk = slice(start, start + step)
            if in_place:
                operands = target[:, None, chunk], source[:, None, chunk]
            else:
                mask = None if kept is None else kept[chunk]
                planes = _PLANES[self.precision]
                operands = (
                    split_planes(target[:, chunk], y_shift, mask, planes),
                    split_planes(source[:, chunk], x_shift, mask, planes),
                )
            once = factors if start == 0 else None
            add_cross_moments(self.comoment[sites], *operands, promoted, once)
            del operands  # the next chunk needs the room

    def _move(
        self,
        sites: slice,
        seen: int,
        count: int,
        target_centre: torch.Tensor,
        source_centre: torch.Tensor,
        target_sum: torch.Tensor,
        source_sum: torch.Tensor,
        target_square: torch.Tensor,
        source_square: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Move means and squares by new tokens.

        Sums are about the centres, squares about the means; `seen` tokens lie behind the means of
        these sites.

        Returns
        -------
        left, right : float64 [S, 2, D1] and [S, 2, D2]
            What has to be added to the comoments, ``left^T right``, beside the new tokens' products
            about the centres.
        """
        dy, dx = (
            reference.move(mean[sites], square[sites], centre, total, added, seen, count)
            for mean, square, centre, total, added in (
                (self.target_mean, self.target_square, target_centre, target_sum, target_square),
                (self.source_mean, self.source_square, source_centre, source_sum, source_square),
            )
        )  # [S, D1], [S, D2]
        weight = seen * count / (seen + count)
        left = torch.stack([target_sum / -count, dy * weight], 1)
        return left, torch.stack([source_sum, dx], 1)

    @torch.no_grad()
    def merge(self, other: SiteMoments) -> None:
        """Add the tokens that `other`, of the same sites and widths, has seen."""
        if other.count:
            self.comoment += other.comoment
            nothing = torch.zeros_like(self.target_mean), torch.zeros_like(self.source_mean)
            factors = self._move(
                slice(None), self.count, other.count, other.target_mean, other.source_mean,
                *nothing, other.target_square, other.source_square,
            )  # fmt: skip
            add_outer(self.comoment, *factors)
            self.count += other.count
        self.batches += other.batches

    # -- results --------------------------------------------------------------------------

    @torch.no_grad()
    def correlation(self, s: int) -> torch.Tensor:
        """``C[i, j] = corr(target_i, source_j)`` at the s-th site, float32 ``[D1, D2]``.

        Raises
        ------
        ValueError
            If fewer than two tokens have been seen.
        """
        correlation: torch.Tensor = self._finishing().finalise(*self._normalisation(s))
        return correlation

    @torch.no_grad()
    def strongest(self, s: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Each row's strongest source, its correlation and the runner-up, without the matrix."""
        found: tuple[torch.Tensor, ...] = self._finishing().strongest(*self._normalisation(s))
        source, value, second = found
        return source, value, second

    def _finishing(self) -> ModuleType:
        """The module whose `finalise` and `strongest` suit the device."""
        if not runs_kernels(self.device):
            return reference
        from bmatch.kernels import finalise

        return finalise

    def _normalisation(self, s: int) -> tuple[torch.Tensor, ...]:
        """The comoment and what scales it to correlations: 0 for constant channels."""
        target_std, source_std = self.deviations(s)
        return (
            self.comoment[s],
            torch.where(target_std > 0, target_std.reciprocal(), 0.0),
            torch.where(source_std > 0, source_std.reciprocal(), 0.0),
        )

    @torch.no_grad()
    def deviations(self, s: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Root of the summed squares about the mean, 0 for a constant channel: [D1], [D2].

        Raises
        ------
        ValueError
            If fewer than two tokens have been seen, or the squares overflowed.
        """
        if self.count < 2:
            raise ValueError(
                f"a correlation needs at least 2 tokens, and {self.count} have been counted"
            )
        deviations = []
        for mean, square in (
            (self.target_mean[s], self.target_square[s]),
            (self.source_mean[s], self.source_square[s]),
        ):
            if not square.isfinite().all():
                raise ValueError(
                    "the moments overflowed float64: activations of this size cannot be correlated"
                )
            # What roundings of the mean leave where nothing varied.
            constant = square <= self.count * (1e-15 * mean).square()
            deviations.append(torch.where(constant, 0.0, square).sqrt())
        return deviations[0], deviations[1]

    # -- checks ---------------------------------------------------------------------------

    def _tokens(self, name: str, values: torch.Tensor, dim: int) -> torch.Tensor:
        if not values.is_floating_point():
            raise TypeError(f"{name} must be floating point, got {values.dtype}")
        if values.ndim < 2 or values.shape[-1] != dim:
            raise ValueError(
                f"{name} must have {dim} coordinates along its last dimension, got shape "
                f"{tuple(values.shape[1:])}"
            )
        if len(values) != len(self.sites):
            raise ValueError(
                f"{name} must have {len(self.sites)} sites along its first dimension, got shape "
                f"{tuple(values.shape)}"
            )
        if values.device != self.device:
            raise ValueError(
                f"{name} is on {values.device} and the moments are on {self.device}: nothing is "
                "moved between devices unasked"
            )
        return values.resolve_neg()  # memory is read as it lies

    def _kept(self, mask: torch.Tensor, tokens: torch.Size) -> torch.Tensor:
        if mask.dtype != torch.bool:
            raise TypeError(f"mask must be boolean, True where a token counts; got {mask.dtype}")
        if mask.shape != tokens:
            raise ValueError(
                f"mask must have the leading shape {tuple(tokens)} of the batch, got "
                f"{tuple(mask.shape)}"
            )
        return mask.to(self.device).reshape(-1).contiguous()

    def _finite(self, name: str, s: int, stream: Stream) -> Stream:
        found = stream.non_finite()
        if found is not None:
            token, coordinate, value = found
            site = f"site {self.sites[s]}, " if len(self.sites) > 1 else ""
            raise ValueError(
                f"batch {self.batches} (counted from 0): {name} holds {value} at {site}counted "
                f"token {token}, coordinate {coordinate}; the batch was not added"
            )
        return stream


def moments_bytes(
    sites: int,
    target_dim: int,
    source_dim: int,
    tokens: int,
    device: torch.device,
    precision: str = "highest",
) -> int:
    """Bytes that `SiteMoments` takes: statistics, and what adding a float32 batch needs.

    Parameters
    ----------
    sites, target_dim, source_dim : int
        S, D1 and D2.
    tokens : int
        Tokens of the largest batch; the batch itself is not counted.
    device, precision
        As for `SiteMoments`.

    Returns
    -------
    int
        ``8 S D1 D2`` for the statistics; beside them on the CPU two products and two chunks of
        each stream of one site, on a CUDA device chunks of all sites as bfloat16 planes, and
        partial sums.
    """
    matrix, width = target_dim * source_dim, target_dim + source_dim
    statistics = 8 * sites * (matrix + 2 * width)
    if not runs_kernels(device):
        chunk = min(tokens, chunks.CHUNK_TOKENS)
        sums = 16 * sites * -(-tokens // chunks.CHUNK_TOKENS) * width
        return statistics + sums + chunks.chunk_bytes(chunk, target_dim, source_dim)
    from bmatch.kernels.centred import sums_programs
    from bmatch.kernels.cross_moments import partial_bytes

    chunk, planes = min(tokens, _DEVICE_CHUNK), _PLANES[precision]
    sums = sites * width * (8 * sums_programs(tokens) + 64) + 8 * tokens
    split = 2 * planes * sites * chunk * (width + 14)  # rows are padded to 16 bytes
    partial = partial_bytes(
        device, sites, target_dim, source_dim, chunk, planes, precision == "highest"
    )
    return statistics + split + partial + sums


def _in_place(target: torch.Tensor, source: torch.Tensor, kept: torch.Tensor | None) -> bool:
    """Whether the kernels can multiply a batch as it lies, if nothing has to be subtracted."""
    return kept is None and target.dtype == source.dtype != torch.float32


def runs_kernels(device: torch.device) -> bool:
    """Whether the Triton kernels work on tensors of this device."""
    if device.type != "cuda" or find_spec("triton") is None:
        return False
    from bmatch.kernels.dispatch import has_matrix_units

    return has_matrix_units(device)
