"""Cross-checkpoint correlation by streaming: tokens pass by, only D x D statistics stay.

Each chunk of tokens is centred on its own mean, multiplied in float32, and folded into float64
statistics about the mean of everything seen so far. So neither a large mean nor a massive
activation, wherever in the stream it comes, drowns the variance of the rest; and a chunk is short
enough that its float32 accumulators lose nothing that matters: 10^6 tokens agree with float64 to
1e-6.

T. F. Chan, G. H. Golub, R. J. LeVeque, "Algorithms for computing the sample variance: analysis and
recommendations", The American Statistician 37 (1983).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from bmatch import tensor_file

_STATE = ("comoment", "target_mean", "source_mean", "target_square", "source_square")

CHUNK_TOKENS = 4096
"""Tokens per float32 product. Measured at mean/std = 10 with outliers of 25,000 in one token of
2,000: the largest error of a correlation is 1.2e-7 here and 2.4e-6 at 65,536."""

_FLOAT32_RANGE = (1e-12, 1e12)  # where squares and their sums stay in float32's normal range


class CrossMoments:
    """First and second moments of paired activations, from which correlations follow.

    Parameters
    ----------
    target_dim, source_dim : int
        Widths D1 and D2 of the two streams.
    device : torch device, optional
        Where the statistics live and where batches must come from. Default: the CPU.
    precision : {"highest"}
        Correlations agree with float64 to 1e-6, whatever torch's global TF32, bfloat16 and
        autocast settings say.

    Attributes
    ----------
    count : int
        Tokens seen.
    target_dim, source_dim : int
    device : torch.device

    Notes
    -----
    Memory: ``8 D1 D2`` bytes, and two chunks of 4,096 tokens while a batch is added.

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
        if precision != "highest":
            raise ValueError(f"precision must be 'highest', got {precision!r}")
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
        if mask is not None:
            kept = self._kept(mask, tokens)
            target, source = target[kept], source[kept]
        self._refuse_non_finite("target", target)
        self._refuse_non_finite("source", source)

        with _full_precision(self.device):
            for start in range(0, len(target), CHUNK_TOKENS):
                self._add(
                    target[start : start + CHUNK_TOKENS], source[start : start + CHUNK_TOKENS]
                )
        self._batches += 1

    def _add(self, target: torch.Tensor, source: torch.Tensor) -> None:
        """Fold in a chunk, [chunk, D1] and [chunk, D2]."""
        n = len(target)
        y, y_centre = _centred(target)
        x, x_centre = _centred(source)
        wide = not (_suits_float32(y) and _suits_float32(x))
        comoment = y.double().T @ x.double() if wide else (y.T @ x).double()
        # The centres are rounded means: what is left of the means corrects the sums.
        y_sum, y_square = _sums(y)  # squares: about the mean
        x_sum, x_square = _sums(x)
        self._fold(
            n,
            comoment.sub_(torch.outer(y_sum, x_sum / n)),
            y_centre + y_sum / n,
            x_centre + x_sum / n,
            y_square,
            x_square,
        )

    def _fold(
        self,
        count: int,
        comoment: torch.Tensor,
        target_mean: torch.Tensor,
        source_mean: torch.Tensor,
        target_square: torch.Tensor,
        source_square: torch.Tensor,
    ) -> None:
        """Add statistics about other means (Chan, Golub and LeVeque, equation 2.1)."""
        total = self.count + count
        weight = self.count * count / total
        dy = target_mean - self._target_mean  # [D1]
        dx = source_mean - self._source_mean  # [D2]
        self._comoment.add_(comoment).addr_(dy, dx, alpha=weight)
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
            self._fold(other.count, *(getattr(other, f"_{name}") for name in _STATE))
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
        target_std, source_std = self._deviations()
        scale = torch.outer(target_std, source_std)
        # Where a channel is constant the scale is 0 and the comoment a rounding: 0, not NaN.
        correlation = torch.where(scale > 0, self._comoment / scale, 0.0)
        return correlation.clamp_(-1.0, 1.0).float()

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

    def _refuse_non_finite(self, name: str, values: torch.Tensor) -> None:
        for start in range(0, len(values), CHUNK_TOKENS):
            chunk = values[start : start + CHUNK_TOKENS]
            if not chunk.abs().max().isfinite():
                token, channel = (~chunk.isfinite()).nonzero()[0].tolist()
                raise ValueError(
                    f"batch {self._batches} (counted from 0): {name} holds "
                    f"{chunk[token, channel].item()} at counted token {start + token}, coordinate "
                    f"{channel}; the batch was not added"
                )


def _centred(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """A chunk less its mean, float32 or float64 [chunk, D], and what was subtracted [D]."""
    if values.dtype != torch.float64:
        values = values.float()
    centre = values.mean(0)
    if not centre.isfinite().all():  # the sum overflowed, not the values
        values = values.double()
        centre = values.mean(0)
    return values - centre, centre.double()


def _sums(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Sums over the tokens, and sums of squares about the mean, float64 [D] each."""
    exact = values.double()
    total, raw = exact.sum(0), exact.square().sum(0)
    square = raw - total.square() / len(values)
    # Values are nearly centred: only a constant channel cancels so far, to a rounding.
    return total, torch.where(square < 1e-13 * raw, 0.0, square)


def _suits_float32(values: torch.Tensor) -> bool:
    """Whether products of centred float32 values neither overflow nor vanish."""
    if values.dtype != torch.float32:
        return False
    peaks = values.abs().amax(0)
    low, high = _FLOAT32_RANGE
    return bool(((peaks == 0) | ((peaks > low) & (peaks < high))).all())


def _torch_reads(array: npt.NDArray[Any]) -> bool:
    return array.flags.writeable and all(stride >= 0 for stride in array.strides)


@contextmanager
def _full_precision(device: torch.device) -> Iterator[None]:
    """float32 products in float32, whatever torch's global settings and autocast say."""
    setting = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        torch.set_float32_matmul_precision(setting)
