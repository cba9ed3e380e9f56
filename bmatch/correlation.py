"""Cross-checkpoint correlation by streaming: tokens pass by, only D x D statistics stay.

Sums are taken of shifted activations, in chunks: within a chunk in float32, over chunks in
float64. The shift, a pilot estimate of each channel's centre, costs nothing (correlation does
not depend on it) and keeps a large mean from drowning the variance; the median is used because
residual streams carry massive activations that would pull a mean away. Short chunks bound what
one float32 accumulator can lose, so that 10^6 tokens agree with float64 to 1e-6.

On the CPU the products are torch's; on a CUDA device they, the sums and the last step are the
Triton kernels of `bmatch.kernels`.

T. F. Chan, G. H. Golub, R. J. LeVeque, "Algorithms for computing the sample variance",
The American Statistician 37 (1983), treat shifting and merging.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from math import isfinite
from types import ModuleType
from typing import Any

import numpy.typing as npt
import torch

from bmatch.atomic import new_file
from bmatch.kernels import reference

_FORMAT = "bmatch.moments"
_FORMAT_VERSION = "1"
_STATE = (
    "products",
    "target_sum",
    "source_sum",
    "target_square",
    "source_square",
    "target_shift",
    "source_shift",
)

PRECISIONS = ("highest", "high", "medium")

CHUNK_TOKENS = 4096
"""Tokens per float32 product. Measured at mean/std = 10 with outliers of 25,000 in one token of
2,000: the largest error of a correlation is 1.6e-7 at 1,024, 1.2e-7 here, 2.4e-6 at 65,536."""

_SUM_TOKENS = 1024  # tokens centred and summed at once: they stay in the cache from step to step

_PILOT_TOKENS = 256  # tokens from which the shift is estimated

_FLOAT32_PEAK = 1e15  # beyond it squares come near float32's range: such chunks go in float64
_FLOAT32_FLOOR = 1e-25  # sums of squares below it may have lost terms to float32's range

# Tokens per flush into the float64 masters of a GPU. Operands that are read in place need no
# workspace, and long chunks spread the cost of the flush; 8,192 bound the drift of an unpromoted
# accumulator to 1e-5 of its sum.
_DEVICE_CHUNK_PROMOTED = 32_768
_DEVICE_CHUNK = 8192


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
    tokens in float32 on the CPU, two chunks of 8,192 tokens in at most 6 bytes on a CUDA device
    (of up to 32,768 with "highest"). On a CUDA device spreads of a channel below 1e-18 underflow.

    Examples
    --------
    >>> import torch, bmatch
    >>> x = torch.randn(1000, 8, generator=torch.Generator().manual_seed(0))
    >>> moments = bmatch.CrossMoments(8, 8)
    >>> moments.update(target=-x, source=x)
    >>> float(moments.correlation()[3, 3])
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
            return torch.zeros(shape, dtype=torch.float64, device=device)

        self._products = zeros(target_dim, source_dim)  # sum of (y - shift) (x - shift)^T
        self._target_sum = zeros(target_dim)
        self._source_sum = zeros(source_dim)
        self._target_square = zeros(target_dim)
        self._source_square = zeros(source_dim)
        self._target_shift = zeros(target_dim)
        self._source_shift = zeros(source_dim)
        self.device = self._products.device

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
        """Add counted tokens in chunks, float64 where float32 does not reach."""
        rows = None if kept is None else kept.nonzero()[:, 0]
        tokens = len(target) if rows is None else len(rows)

        def chunk(values: torch.Tensor, start: int) -> torch.Tensor:
            if rows is None:
                return values[start : start + CHUNK_TOKENS]
            return values.index_select(0, rows[start : start + CHUNK_TOKENS])

        starts = range(0, tokens, CHUNK_TOKENS)
        # All is checked before anything is added.
        peaks = [
            max(
                self._peak("target", chunk(target, start), start),
                self._peak("source", chunk(source, start), start),
            )
            for start in starts
        ]
        if self.count == 0 and tokens:
            self._target_shift = _pilot_shift(chunk(target, 0))
            self._source_shift = _pilot_shift(chunk(source, 0))
        with _full_precision(self.device):
            for start, peak in zip(starts, peaks, strict=True):
                self._add_chunk(chunk(target, start), chunk(source, start), peak)
        self.count += tokens

    def _add_chunk(self, target: torch.Tensor, source: torch.Tensor, peak: float) -> None:
        wide = torch.float64 in (target.dtype, source.dtype) or peak > _FLOAT32_PEAK
        dtype = torch.float64 if wide else torch.float32
        y, target_sum, target_square = _centred_sums(target, self._target_shift.to(dtype))
        x, source_sum, source_square = _centred_sums(source, self._source_shift.to(dtype))
        if self.precision == "medium" and not wide and _has_fast_bfloat16(self.device):
            y, x = y.bfloat16(), x.bfloat16()
        self._products += y.T @ x
        self._target_sum += target_sum
        self._source_sum += source_sum
        self._target_square += target_square
        self._source_square += source_square

    def _add_by_kernels(
        self, target: torch.Tensor, source: torch.Tensor, kept: torch.Tensor | None
    ) -> bool:
        """Add counted tokens by the Triton kernels.

        Returns False, and adds nothing, where values are not finite or beyond the kernels' range:
        torch's path names the first or widens the second.
        """
        from bmatch.kernels.centred import column_sums, split_planes
        from bmatch.kernels.cross_moments import add_cross_moments

        if len(target) == 0:
            return True
        if kept is not None:
            kept = kept.contiguous()
        if self.count:
            shifts = self._target_shift, self._source_shift
        else:
            shifts = _pilot_shift(target, kept), _pilot_shift(source, kept)
        y_shift, x_shift = (shift.float() for shift in shifts)
        in_place = kept is None and target.dtype == source.dtype != torch.float32
        planes = {"highest": 3, "high": 2, "medium": 1}[self.precision]
        rounding = None if in_place else planes
        target_sums = column_sums(target, y_shift, kept, rounding)
        source_sums = column_sums(source, x_shift, kept, rounding)
        # One wait for the device a batch, for all that the host must know.
        count = len(target) if kept is None else kept.sum()
        largest, shifted, counted = torch.stack(
            [
                torch.maximum(target_sums[1].max(), source_sums[1].max()),
                (y_shift.any() | x_shift.any()).double(),
                torch.as_tensor(count, dtype=torch.float64, device=self.device),
            ]
        ).tolist()
        if not largest <= _FLOAT32_PEAK**2:
            return False
        if counted == 0:
            return True

        promoted = self.precision == "highest"
        if in_place and not shifted:
            step = _DEVICE_CHUNK_PROMOTED if promoted else _DEVICE_CHUNK
            for start in range(0, len(target), step):
                chunk = slice(start, start + step)
                add_cross_moments(self._products, target[chunk], source[chunk], promoted)
        else:
            for start in range(0, len(target), _DEVICE_CHUNK):
                chunk = slice(start, start + _DEVICE_CHUNK)
                mask = None if kept is None else kept[chunk]
                add_cross_moments(
                    self._products,
                    split_planes(target[chunk], y_shift, mask, planes),
                    split_planes(source[chunk], x_shift, mask, planes),
                    promoted,
                )
        self._target_shift, self._source_shift = shifts
        self._target_sum += target_sums[0]
        self._target_square += target_sums[1]
        self._source_sum += source_sums[0]
        self._source_square += source_sums[1]
        self.count += int(counted)
        return True

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
        if other.count == 0:
            return
        if self.count == 0:
            self._target_shift = other._target_shift.clone()
            self._source_shift = other._source_shift.clone()
        # What other's sums would be, had they been taken about our shift.
        dy = other._target_shift - self._target_shift  # [D1]
        dx = other._source_shift - self._source_shift  # [D2]
        n = other.count
        self._products += (
            other._products
            + torch.outer(other._target_sum + n * dy, dx)
            + torch.outer(dy, other._source_sum)
        )
        self._target_square += other._target_square + 2 * dy * other._target_sum + n * dy * dy
        self._source_square += other._source_square + 2 * dx * other._source_sum + n * dx * dx
        self._target_sum += other._target_sum + n * dy
        self._source_sum += other._source_sum + n * dx
        self.count += n
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
        """What takes products to correlations, as `kernels.finalise` wants it."""
        target_std, source_std = self._deviations()
        return (
            self._products,
            self._target_sum / self.count,
            self._source_sum,
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
        for total, square in (
            (self._target_sum, self._target_square),
            (self._source_sum, self._source_square),
        ):
            centred = square - total * total / self.count
            # Cancellation leaves a few float64 roundings of `square` where nothing varied.
            constant = centred <= 1e-13 * square
            deviations.append(torch.where(constant, 0.0, centred).sqrt())
        return deviations[0], deviations[1]

    # -- files ----------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the statistics as a safetensors file, all or nothing, so that a job can resume."""
        from safetensors.torch import save_file

        tensors = {name: getattr(self, f"_{name}").cpu().contiguous() for name in _STATE}
        header = {
            "format": _FORMAT,
            "format_version": _FORMAT_VERSION,
            "count": str(self.count),
            "batches": str(self._batches),
            "precision": self.precision,
        }
        with new_file(path) as partial:
            save_file(tensors, partial, metadata=header)

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
        from safetensors import SafetensorError, safe_open

        name = os.fspath(path)
        if not os.path.isfile(path):
            raise FileNotFoundError(f"there is no file of moments {name}")
        try:
            with safe_open(path, framework="pt") as file:
                header = file.metadata() or {}
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        except SafetensorError as error:
            raise ValueError(f"{name} is not a safetensors file, or is damaged ({error})") from None
        if header.get("format") != _FORMAT or not set(_STATE) <= tensors.keys():
            raise ValueError(f"{name} is a safetensors file, but holds no moments")
        if header.get("format_version") != _FORMAT_VERSION:
            raise ValueError(
                f"{name} has format version {header.get('format_version')}, and this bmatch reads "
                f"version {_FORMAT_VERSION}: upgrade bmatch"
            )
        target_dim, source_dim = tensors["products"].shape
        moments = cls(target_dim, source_dim, device, precision=header["precision"])
        for key in _STATE:
            setattr(moments, f"_{key}", tensors[key].to(moments.device))
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

    def _peak(self, name: str, chunk: torch.Tensor, start: int) -> float:
        """Largest magnitude among the tokens from `start` on; refused if not finite."""
        least, greatest = (float(value) for value in torch.aminmax(chunk))
        peak = max(-least, greatest)
        if not isfinite(peak):
            token, channel = (~chunk.isfinite()).nonzero()[0].tolist()
            raise ValueError(
                f"batch {self._batches} (counted from 0): {name} holds "
                f"{chunk[token, channel].item()} at counted token {start + token}, coordinate "
                f"{channel}; the batch was not added"
            )
        return peak


def _pilot_shift(values: torch.Tensor, kept: torch.Tensor | None = None) -> torch.Tensor:
    """A centre for each channel, from tokens spread over the first chunk, float64 [D].

    It is the median, and 0 where the median is within the spread: such a shift would gain
    nothing, and 16-bit values that are not shifted need not be rounded again. It is a number of
    float32, so that every path subtracts the same.
    """
    first = values[:CHUNK_TOKENS]
    if kept is not None:
        first = first[kept[:CHUNK_TOKENS]]
    if len(first) == 0:
        return torch.zeros(values.shape[1], dtype=torch.float64, device=values.device)
    pilot = first[:: -(-len(first) // _PILOT_TOKENS)]
    pilot = pilot.clamp(-3e38, 3e38).float() if pilot.dtype == torch.float64 else pilot.float()
    median = pilot.median(0).values
    spread = (pilot - median).abs().median(0).values
    return torch.where(median.abs() > spread, median, 0.0).double()


def _centred_sums(
    values: torch.Tensor, shift: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """``values - shift`` in the dtype of the shift, and its sums and sums of squares in float64."""
    centred = torch.empty(values.shape, dtype=shift.dtype, device=values.device)
    total = torch.zeros(values.shape[1], dtype=torch.float64, device=values.device)
    square = torch.zeros_like(total)
    for start in range(0, len(values), _SUM_TOKENS):
        rows = slice(start, start + _SUM_TOKENS)
        block = torch.sub(values[rows], shift, out=centred[rows])
        total += block.sum(0)
        square += (block * block).sum(0)
    if shift.dtype == torch.float32:
        faint = (square < _FLOAT32_FLOOR).nonzero()[:, 0]
        if len(faint):
            square[faint] = centred[:, faint].double().square().sum(0)
    return centred, total, square


def _runs_kernels(device: torch.device) -> bool:
    """Whether the Triton kernels work on tensors of this device."""
    if device.type != "cuda" or find_spec("triton") is None:
        return False
    from bmatch.kernels.dispatch import has_matrix_units

    return has_matrix_units(device)


def _has_fast_bfloat16(device: torch.device) -> bool:
    """Whether torch multiplies bfloat16 by instructions of its own."""
    return device.type != "cpu" or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


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
