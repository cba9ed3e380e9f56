"""Cross-checkpoint correlation by streaming: tokens pass by, only D x D statistics stay.

Each chunk of tokens is centred on its own mean, multiplied in float32, and folded into float64
statistics about the mean of everything seen so far. So neither a large mean nor a massive
activation, wherever in the stream it comes, drowns the variance of the rest; and a chunk is short
enough that its float32 accumulators lose nothing that matters: 10^6 tokens agree with float64 to
1e-6.

On the CPU the products are torch's. On a CUDA device they, the sums and the last step are the
Triton kernels of `bmatch.kernels`, which subtract one shift from a batch instead.

T. F. Chan, G. H. Golub, R. J. LeVeque, "Algorithms for computing the sample variance: analysis and
recommendations", The American Statistician 37 (1983).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from bmatch import tensor_file
from bmatch.kernels import reference

PRECISIONS = ("highest", "high", "medium")

_STATE = ("comoment", "target_mean", "source_mean", "target_square", "source_square")

CHUNK_TOKENS = 4096
"""Tokens per float32 product. Measured at mean/std = 10 with outliers of 25,000 in one token of
2,000: the largest error of a correlation is 1.2e-7 here and 2.4e-6 at 65,536."""

_SUM_TOKENS = 1024  # tokens centred and summed at once: they stay in the cache from step to step

_FLOAT32_RANGE = (1e-12, 1e12)  # where squares and their sums stay in float32's normal range

_PILOT_TOKENS = 256  # tokens from which the kernels' shift of a batch is estimated

# Tokens per flush into the float64 masters of a GPU. Operands that are read in place need no
# workspace, and long chunks spread the cost of the flush; 8,192 bound the drift of an unpromoted
# accumulator to 1e-5 of its sum.
_DEVICE_CHUNK_PROMOTED = 32_768
_DEVICE_CHUNK = 8192

_KERNEL_PEAK = 1e15  # the root of a sum of squares beyond which a batch is left to torch


@dataclass(frozen=True, eq=False)
class StrongestSources:
    """For each target coordinate the source coordinate it correlates with most.

    Attributes
    ----------
    source : int64 tensor [D1]
        The lowest index among equals.
    correlation : float32 tensor [D1]
        The correlation with that coordinate, with its sign.
    runner_up : float32 tensor [D1]
        The largest magnitude among the other source coordinates, 0 if there are none.
    """

    source: torch.Tensor
    correlation: torch.Tensor
    runner_up: torch.Tensor


class CrossMoments:
    """First and second moments of paired activations, from which correlations follow.

    Parameters
    ----------
    target_dim, source_dim : int
        Widths D1 and D2 of the two streams.
    device : torch device, optional
        Where the statistics live and where batches must come from. Default: the CPU.
    precision : {"highest", "high", "medium"}
        How products are taken, whatever torch's global TF32, bfloat16 and autocast settings
        say. Largest error of a correlation against float64 of the same numbers:

        ========== ====== =========================================== =====
        precision  device products                                    error
        ========== ====== =========================================== =====
        highest    CPU    float32                                     1e-6
        highest    CUDA   bfloat16 x 6, promoted every 256 tokens     1e-6
        high       CPU    float32, as highest                         1e-6
        high       CUDA   bfloat16 x 3                                2e-5
        medium     CPU    bfloat16 where it is fast, otherwise        1e-2
                          float32
        medium     CUDA   bfloat16                                    1e-2
        ========== ====== =========================================== =====

        The error of "medium" is a bound for the worst data, a few tokens that outweigh all
        others; it falls with the root of the number of tokens that matter. On a CUDA device
        16-bit streams without large means are multiplied as they are, in one exact product.

    Attributes
    ----------
    count : int
        Tokens seen.
    target_dim, source_dim : int
    device : torch.device

    Notes
    -----
    Memory: ``8 D1 D2`` bytes, and while a batch is added ``4 D1 D2`` and two chunks of 4,096
    tokens in float32 on the CPU, two chunks of 8,192 tokens in at most 6 bytes a number on a CUDA
    device. A CUDA device wants spreads between 1e-17 and 1e15 in each channel.

    Examples
    --------
    >>> import torch, bmatch
    >>> x = torch.randn(1000, 8, generator=torch.Generator().manual_seed(0))
    >>> moments = bmatch.CrossMoments(8, 8)
    >>> moments.update(target=-x, source=x)
    >>> round(float(moments.correlation()[3, 3]), 6)
    -1.0
    """

    def __init__(
        self,
        target_dim: int,
        source_dim: int,
        device: torch.device | str | None = None,
        precision: str = "highest",
    ) -> None:
        if target_dim < 1 or source_dim < 1:
            raise ValueError(f"widths must be at least 1, got {target_dim} and {source_dim}")
        if precision not in PRECISIONS:
            raise ValueError(f"precision must be 'highest', 'high' or 'medium', got {precision!r}")
        self.target_dim = target_dim
        self.source_dim = source_dim
        self.precision = precision
        self.count = 0
        self._batches = 0

        def zeros(*shape: int) -> torch.Tensor:
            with torch.inference_mode(False):  # so that they can be updated in any mode
                return torch.zeros(shape, dtype=torch.float64, device=device)

        # About the means, over all tokens seen: sums of (y - mean)(x - mean)^T, and of squares.
        self._comoment = zeros(target_dim, source_dim)
        self._target_mean = zeros(target_dim)
        self._source_mean = zeros(source_dim)
        self._target_square = zeros(target_dim)
        self._source_square = zeros(source_dim)
        self.device = self._comoment.device

    # -- streaming ------------------------------------------------------------------------

    @torch.no_grad()
    def update(
        self,
        target: torch.Tensor | npt.NDArray[Any],
        source: torch.Tensor | npt.NDArray[Any],
        mask: torch.Tensor | npt.NDArray[Any] | None = None,
    ) -> None:
        """Add a batch of paired tokens.

        Parameters
        ----------
        target, source : floating [..., D1] and [..., D2]
            Activations of the same tokens, of any leading shape, on the device of the
            statistics. float16 and bfloat16 are read as float32; float64 stays float64.
        mask : bool [...], optional
            True where a token counts.

        Raises
        ------
        ValueError
            If shapes or devices do not fit, or a counted token holds NaN or infinity: the
            message names the batch, and the statistics are left as they were.
        TypeError
            If the activations are not floating point or the mask is not boolean.
        """
        target = self._tokens("target", target, self.target_dim)  # [..., D1]
        source = self._tokens("source", source, self.source_dim)  # [..., D2]
        if target.shape[:-1] != source.shape[:-1]:
            raise ValueError(
                f"target and source must pair the same tokens, got shapes {tuple(target.shape)} "
                f"and {tuple(source.shape)}"
            )
        tokens = target.shape[:-1]
        target = target.reshape(-1, self.target_dim)
        source = source.reshape(-1, self.source_dim)
        kept = None if mask is None else self._kept(mask, tokens)
        narrow = torch.float64 not in (target.dtype, source.dtype)
        if not (
            narrow and _runs_kernels(self.device) and self._add_by_kernels(target, source, kept)
        ):
            self._add_by_torch(target, source, kept)
        self._batches += 1

    def _add_by_torch(
        self, target: torch.Tensor, source: torch.Tensor, kept: torch.Tensor | None
    ) -> None:
        """Fold in the counted tokens chunk by chunk, float64 where float32 does not reach."""
        rows = None if kept is None else kept.nonzero()[:, 0]
        tokens = len(target) if rows is None else len(rows)

        def chunk(values: torch.Tensor, start: int) -> torch.Tensor:
            if rows is None:
                return values[start : start + CHUNK_TOKENS]
            return values.index_select(0, rows[start : start + CHUNK_TOKENS])

        for start in range(0, tokens, CHUNK_TOKENS):  # all is checked before anything is added
            self._refuse_non_finite("target", chunk(target, start), start)
            self._refuse_non_finite("source", chunk(source, start), start)
        with _full_precision(self.device):
            for start in range(0, tokens, CHUNK_TOKENS):
                self._add_chunk(chunk(target, start), chunk(source, start))

    def _add_chunk(self, target: torch.Tensor, source: torch.Tensor) -> None:
        """Fold in [chunk, D1] and [chunk, D2]."""
        n = len(target)
        y, y_centre, y_sum, y_square, y_fits = _centred_sums(target)
        x, x_centre, x_sum, x_square, x_fits = _centred_sums(source)
        if not (y_fits and x_fits) or torch.float64 in (y.dtype, x.dtype):
            y, x = y.double(), x.double()
        elif self.precision == "medium" and _has_fast_bfloat16(self.device):
            y, x = y.bfloat16(), x.bfloat16()
        self._comoment += y.T @ x
        # The centres are rounded means: what is left of the means corrects the products.
        self._comoment.addr_(y_sum, x_sum, alpha=-1.0 / n)
        self._fold(n, y_centre + y_sum / n, x_centre + x_sum / n, y_square, x_square)

    def _add_by_kernels(
        self, target: torch.Tensor, source: torch.Tensor, kept: torch.Tensor | None
    ) -> bool:
        """Fold in the counted tokens by the Triton kernels.

        Returns False, and adds nothing, where values are not finite or beyond the kernels' range:
        torch's path names the first and widens the second.
        """
        from bmatch.kernels.centred import column_sums, split_planes
        from bmatch.kernels.cross_moments import add_cross_moments

        if len(target) == 0:
            return True
        if kept is not None:
            kept = kept.contiguous()
        y_shift, x_shift = _pilot_shift(target, kept), _pilot_shift(source, kept)
        in_place = kept is None and target.dtype == source.dtype != torch.float32
        planes = {"highest": 3, "high": 2, "medium": 1}[self.precision]
        rounding = None if in_place else planes
        y_sum, y_square = column_sums(target, y_shift, kept, rounding)
        x_sum, x_square = column_sums(source, x_shift, kept, rounding)
        # One wait for the device, for all that the host must know of the batch.
        count = len(target) if kept is None else kept.sum()
        largest, shifted, counted = torch.stack(
            [
                torch.maximum(y_square.max(), x_square.max()),
                (y_shift.any() | x_shift.any()).double(),
                torch.as_tensor(count, dtype=torch.float64, device=self.device),
            ]
        ).tolist()
        if not largest <= _KERNEL_PEAK**2:
            return False
        n = int(counted)
        if n == 0:
            return True

        promoted = self.precision == "highest"
        if in_place and not shifted:
            step = _DEVICE_CHUNK_PROMOTED if promoted else _DEVICE_CHUNK
            for start in range(0, len(target), step):
                chunk = slice(start, start + step)
                add_cross_moments(self._comoment, target[chunk], source[chunk], promoted)
        else:
            for start in range(0, len(target), _DEVICE_CHUNK):
                chunk = slice(start, start + _DEVICE_CHUNK)
                mask = None if kept is None else kept[chunk]
                add_cross_moments(
                    self._comoment,
                    split_planes(target[chunk], y_shift, mask, planes),
                    split_planes(source[chunk], x_shift, mask, planes),
                    promoted,
                )
        self._comoment.addr_(y_sum, x_sum, alpha=-1.0 / n)
        self._fold(
            n,
            y_shift.double() + y_sum / n,
            x_shift.double() + x_sum / n,
            (y_square - y_sum.square() / n).clamp_min_(0.0),
            (x_square - x_sum.square() / n).clamp_min_(0.0),
        )
        return True

    def _fold(
        self,
        count: int,
        target_mean: torch.Tensor,
        source_mean: torch.Tensor,
        target_square: torch.Tensor,
        source_square: torch.Tensor,
    ) -> None:
        """Move what was added to one mean (Chan, Golub and LeVeque, equation 2.1).

        The comoment about the means given has been added already.
        """
        total = self.count + count
        weight = self.count * count / total
        dy = target_mean - self._target_mean  # [D1]
        dx = source_mean - self._source_mean  # [D2]
        self._comoment.addr_(dy, dx, alpha=weight)
        self._target_square.add_(target_square).add_(dy.square(), alpha=weight)
        self._source_square.add_(source_square).add_(dx.square(), alpha=weight)
        self._target_mean.add_(dy, alpha=count / total)
        self._source_mean.add_(dx, alpha=count / total)
        self.count = total

    @torch.no_grad()
    def merge(self, other: CrossMoments) -> None:
        """Add the tokens that `other` has seen; `other` is left as it is.

        Raises
        ------
        ValueError
            If the widths or the devices differ.
        """
        if (other.target_dim, other.source_dim) != (self.target_dim, self.source_dim):
            raise ValueError(
                f"moments of widths {self.target_dim} x {self.source_dim} and "
                f"{other.target_dim} x {other.source_dim} cannot be merged"
            )
        if other.device != self.device:
            raise ValueError(
                f"moments on {self.device} and {other.device} cannot be merged: save one and load "
                "it on the device of the other"
            )
        if other.count:
            self._comoment += other._comoment
            self._fold(other.count, *(getattr(other, f"_{name}") for name in _STATE[1:]))
        self._batches += other._batches

    # -- results --------------------------------------------------------------------------

    @torch.no_grad()
    def correlation(self) -> torch.Tensor:
        """``C[i, j] = corr(target_i, source_j)``, float32 ``[D1, D2]``.

        A channel without variance correlates 0 with everything; `constant_channels` names it.

        Raises
        ------
        ValueError
            If fewer than two tokens have been seen.
        """
        correlation: torch.Tensor = self._finishing().finalise(*self._normalisation())
        return correlation

    @torch.no_grad()
    def strongest(self) -> StrongestSources:
        """The strongest correlation of each target coordinate, and the runner-up.

        Where all sources differ they are the assignment that maximises ``sum |C|``, and no solver
        is needed. On a CUDA device the correlation matrix is never written.

        Raises
        ------
        ValueError
            If fewer than two tokens have been seen.
        """
        return StrongestSources(*self._finishing().strongest(*self._normalisation()))

    def _finishing(self) -> ModuleType:
        """The module whose `finalise` and `strongest` suit the device."""
        if not _runs_kernels(self.device):
            return reference
        from bmatch.kernels import finalise

        return finalise

    def _normalisation(self) -> tuple[torch.Tensor, ...]:
        """The comoment and what scales it to correlations: 0 for constant channels."""
        target_std, source_std = self._deviations()
        return (
            self._comoment,
            torch.where(target_std > 0, target_std.reciprocal(), 0.0),
            torch.where(source_std > 0, source_std.reciprocal(), 0.0),
        )

    @torch.no_grad()
    def constant_channels(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Indices of the target's and the source's channels that never varied, int64 each."""
        target_std, source_std = self._deviations()
        return (target_std == 0).nonzero()[:, 0], (source_std == 0).nonzero()[:, 0]

    def _deviations(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Root of the summed squares about the mean, 0 for a constant channel: [D1], [D2]."""
        if self.count < 2:
            raise ValueError(
                f"a correlation needs at least 2 tokens, and {self.count} have been counted"
            )
        deviations = []
        for mean, square in (
            (self._target_mean, self._target_square),
            (self._source_mean, self._source_square),
        ):
            if not square.isfinite().all():
                raise ValueError(
                    "the moments overflowed float64: activations of this size cannot be correlated"
                )
            # What roundings of the mean leave where nothing varied.
            constant = square <= self.count * (1e-15 * mean).square()
            deviations.append(torch.where(constant, 0.0, square).sqrt())
        return deviations[0], deviations[1]

    # -- files ----------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the statistics as a safetensors file, all or nothing, so that a job can resume."""
        tensors = {name: getattr(self, f"_{name}").cpu().numpy() for name in _STATE}
        header = {
            "count": str(self.count),
            "batches": str(self._batches),
            "precision": self.precision,
        }
        tensor_file.write(path, "moments", tensors, header)

    @classmethod
    def load(
        cls, path: str | os.PathLike[str], device: torch.device | str | None = None
    ) -> CrossMoments:
        """Read statistics that `save` wrote, onto `device` (default: the CPU).

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If the file holds no moments, or is damaged.
        """
        tensors, header = tensor_file.read(path, "moments", _STATE)
        d1, d2 = len(tensors["target_mean"]), len(tensors["source_mean"])
        shapes = ((d1, d2), (d1,), (d2,), (d1,), (d2,))
        if tuple(tensors[name].shape for name in _STATE) != shapes or not (
            {"count", "batches", "precision"} <= header.keys()
        ):
            raise ValueError(f"{os.fspath(path)} is damaged: its moments do not fit together")
        moments = cls(d1, d2, device, precision=header["precision"])
        for name in _STATE:
            getattr(moments, f"_{name}").copy_(torch.from_numpy(tensors[name]))
        moments.count = int(header["count"])
        moments._batches = int(header["batches"])
        return moments

    def __repr__(self) -> str:
        return (
            f"CrossMoments(target_dim={self.target_dim}, source_dim={self.source_dim}, "
            f"count={self.count}, device={str(self.device)!r})"
        )

    # -- checks ---------------------------------------------------------------------------

    def _tokens(self, name: str, given: Any, dim: int) -> torch.Tensor:
        if isinstance(given, np.ndarray):
            native = given.astype(given.dtype.newbyteorder("="), copy=False)
            # torch reads neither negative strides nor, without a warning, read-only arrays.
            given = native if _torch_reads(native) else native.copy()
        values: torch.Tensor = torch.as_tensor(given)
        if not values.is_floating_point():
            raise TypeError(f"{name} must be floating point, got {values.dtype}")
        if values.ndim == 0 or values.shape[-1] != dim:
            raise ValueError(
                f"{name} must have {dim} coordinates along its last dimension, got shape "
                f"{tuple(values.shape)}"
            )
        if values.device != self.device:
            raise ValueError(
                f"{name} is on {values.device} and the moments are on {self.device}: nothing is "
                "moved between devices unasked"
            )
        return values

    def _kept(self, given: Any, tokens: torch.Size) -> torch.Tensor:
        mask: torch.Tensor = torch.as_tensor(given, device=self.device)
        if mask.dtype != torch.bool:
            raise TypeError(f"mask must be boolean, True where a token counts; got {mask.dtype}")
        if mask.shape != tokens:
            raise ValueError(
                f"mask must have the leading shape {tuple(tokens)} of the batch, got "
                f"{tuple(mask.shape)}"
            )
        return mask.reshape(-1)

    def _refuse_non_finite(self, name: str, chunk: torch.Tensor, start: int) -> None:
        least, greatest = torch.aminmax(chunk)
        if not (least.isfinite() and greatest.isfinite()):
            token, channel = (~chunk.isfinite()).nonzero()[0].tolist()
            raise ValueError(
                f"batch {self._batches} (counted from 0): {name} holds "
                f"{chunk[token, channel].item()} at counted token {start + token}, coordinate "
                f"{channel}; the batch was not added"
            )


def _centred_sums(
    values: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, bool]:
    """A chunk less its centre, and its moments.

    Returns
    -------
    centred : float32 or float64 [chunk, D]
    centre : float64 [D]
        What was subtracted: nearly the mean.
    total, square : float64 [D]
        Sums of `centred`, and sums of squares about its mean.
    fits : bool
        Whether products of these values neither overflow nor vanish in the dtype of `centred`.
    """
    n = len(values)
    dtype = torch.promote_types(values.dtype, torch.float32)
    centre = values.mean(0, dtype=dtype)
    if not centre.isfinite().all():  # the sum overflowed, not the values
        dtype = torch.float64
        centre = values.mean(0, dtype=dtype)
    # A constant channel is centred on its very value, so that nothing is left of it.
    first = values[0].to(dtype)
    centre = torch.where((centre - first).abs() <= 1e-5 * first.abs(), first, centre)

    centred = torch.empty(values.shape, dtype=dtype, device=values.device)
    total = torch.zeros(values.shape[1], dtype=torch.float64, device=values.device)
    raw = torch.zeros_like(total)
    for start in range(0, n, _SUM_TOKENS):
        rows = slice(start, start + _SUM_TOKENS)
        block = torch.sub(values[rows], centre, out=centred[rows])
        total += block.sum(0)
        raw += (block * block).sum(0)
    fits = True
    if dtype == torch.float32:
        low, high = _FLOAT32_RANGE
        odd = ((raw <= n * low**2) | ~(raw < high**2)).nonzero()[:, 0]
        if len(odd):  # squares may have left float32's range, or there is nothing to square
            exact = centred[:, odd].double()
            total[odd], raw[odd] = exact.sum(0), exact.square().sum(0)
            peaks = exact.abs().amax(0)
            fits = bool(((peaks == 0) | ((peaks > low) & (peaks < high))).all())
    square = raw - total.square() / n
    # Values are nearly centred: only a constant channel cancels so far, to a rounding.
    return centred, centre.double(), total, torch.where(square < 1e-13 * raw, 0.0, square), fits


def _pilot_shift(values: torch.Tensor, kept: torch.Tensor | None) -> torch.Tensor:
    """A centre for each channel of a batch, from tokens spread over its start: float32 [D].

    It is the median, which massive activations do not move, and 0 where the median is within the
    spread: such a shift would gain nothing, and 16-bit values that are not shifted need not be
    rounded again.
    """
    first = values[:CHUNK_TOKENS]
    if kept is not None:
        first = first[kept[:CHUNK_TOKENS]]
    if len(first) == 0:
        return torch.zeros(values.shape[1], device=values.device)
    pilot = first[:: -(-len(first) // _PILOT_TOKENS)].float()
    median = pilot.median(0).values
    spread = (pilot - median).abs().median(0).values
    return torch.where(median.abs() > spread, median, 0.0)


def _runs_kernels(device: torch.device) -> bool:
    """Whether the Triton kernels work on tensors of this device."""
    if device.type != "cuda" or find_spec("triton") is None:
        return False
    from bmatch.kernels.dispatch import has_matrix_units

    return has_matrix_units(device)


def _has_fast_bfloat16(device: torch.device) -> bool:
    """Whether torch multiplies bfloat16 by instructions of its own."""
    return device.type != "cpu" or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _torch_reads(array: npt.NDArray[Any]) -> bool:
    return array.flags.writeable and all(stride >= 0 for stride in array.strides)


@contextmanager
def _full_precision(device: torch.device) -> Iterator[None]:
    """float32 products in float32, whatever torch's global settings and autocast say."""
    # torch 2.9 keeps a setting for each backend, and refuses its older global one to those who
    # have used the new ones.
    mkldnn = getattr(torch.backends.mkldnn, "matmul", None)
    with torch.autocast(device.type, enabled=False):
        if mkldnn is None:
            setting = torch.get_float32_matmul_precision()
            torch.set_float32_matmul_precision("highest")
            try:
                yield
            finally:
                torch.set_float32_matmul_precision(setting)
        else:
            backends = (torch.backends.cuda.matmul, mkldnn)
            settings = [backend.fp32_precision for backend in backends]
            try:
                for backend in backends:
                    backend.fp32_precision = "ieee"
                yield
            finally:
                for backend, setting in zip(backends, settings, strict=True):
                    backend.fp32_precision = setting
