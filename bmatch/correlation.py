"""Cross-checkpoint correlation by streaming: tokens pass by, only D x D statistics stay.

Sums are taken of shifted activations, in chunks: within a chunk in float32, over chunks in
float64. The shift, a pilot estimate of each channel's centre, costs nothing (correlation does
not depend on it) and keeps a large mean from drowning the variance; the median is used because
residual streams carry massive activations that would pull a mean away. Short chunks bound what
one float32 accumulator can lose, so that 10^6 tokens agree with float64 to 1e-6.

T. F. Chan, G. H. Golub, R. J. LeVeque, "Algorithms for computing the sample variance",
The American Statistician 37 (1983), treat shifting and merging.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy.typing as npt
import torch

from bmatch.atomic import new_file

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

CHUNK_TOKENS = 4096
"""Tokens per float32 product. Measured at mean/std = 10 with outliers of 25,000 in one token of
2,000: the largest error of a correlation is 1.6e-7 at 1,024, 1.2e-7 here, 2.4e-6 at 65,536."""

_FLOAT32_PEAK = 1e15  # beyond it squares come near float32's range: such chunks go in float64


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
        if precision != "highest":
            raise ValueError(f"precision must be 'highest', got {precision!r}")
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
        if mask is not None:
            kept = self._kept(mask, tokens)
            target, source = target[kept], source[kept]
        self._refuse_non_finite("target", target)
        self._refuse_non_finite("source", source)

        if self.count == 0 and len(target):
            self._target_shift = target[:CHUNK_TOKENS].median(0).values.double()
            self._source_shift = source[:CHUNK_TOKENS].median(0).values.double()
        with _full_precision(self.device):
            for start in range(0, len(target), CHUNK_TOKENS):
                self._add(
                    target[start : start + CHUNK_TOKENS], source[start : start + CHUNK_TOKENS]
                )
        self.count += len(target)
        self._batches += 1

    def _add(self, target: torch.Tensor, source: torch.Tensor) -> None:
        wide = torch.float64 in (target.dtype, source.dtype) or (
            max(float(target.abs().max()), float(source.abs().max())) > _FLOAT32_PEAK
        )
        dtype = torch.float64 if wide else torch.float32
        y = target.to(dtype) - self._target_shift.to(dtype)  # [chunk, D1]
        x = source.to(dtype) - self._source_shift.to(dtype)  # [chunk, D2]
        self._products += y.T @ x
        for values, total, square in (
            (y, self._target_sum, self._target_square),
            (x, self._source_sum, self._source_square),
        ):
            exact = values.double()
            total += exact.sum(0)
            square += exact.square().sum(0)

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
        target_std, source_std = self._deviations()
        covariance = self._products - torch.outer(self._target_sum, self._source_sum) / self.count
        scale = torch.outer(target_std, source_std)
        # Where a channel is constant the scale is 0 and the covariance a rounding: 0, not NaN.
        correlation = torch.where(scale > 0, covariance / scale, 0.0)
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
