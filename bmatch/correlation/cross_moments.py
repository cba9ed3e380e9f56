"""Cross-checkpoint correlation by streaming: tokens pass by, only D x D statistics stay.

How they are kept is told in `correlation.site_moments`; `CrossMoments` is one site of them, and as
such a file.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt
import torch

from bmatch.arrays import as_tensor
from bmatch.correlation.site_moments import SiteMoments
from bmatch.correlation.statistics import TENSORS
from bmatch.files import tensor_file


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
        others; it falls with the root of the number of tokens that matter. Streams without large
        means are multiplied as they are, in one exact product, if they are bfloat16 and the CPU has
        instructions for it, and on a CUDA device if they are of 16 bits.

    Attributes
    ----------
    count : int
        Tokens seen.
    target_dim, source_dim : int
    device : torch.device

    Notes
    -----
    Memory: ``8 D1 D2`` bytes, and what adding a batch takes: on the CPU up to ``8 D1 D2`` and two
    chunks of 8,192 tokens of each stream in float32, on a CUDA device a chunk of each in at most 6
    bytes a number; `site_moments.moments_bytes` counts it. A CUDA device wants spreads between
    1e-17 and 1e15 in each channel.

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
        self._moments = SiteMoments((0,), target_dim, source_dim, device, precision)
        self.target_dim = target_dim
        self.source_dim = source_dim
        self.precision = precision
        self.device = self._moments.device

    @property
    def count(self) -> int:
        """Tokens seen."""
        return self._moments.count

    # -- streaming ------------------------------------------------------------------------

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
        y, x = as_tensor(target)[None], as_tensor(source)[None]
        self._moments.update(y, x, None if mask is None else torch.as_tensor(mask))

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
        self._moments.merge(other._moments)

    # -- results --------------------------------------------------------------------------

    def correlation(self) -> torch.Tensor:
        """``C[i, j] = corr(target_i, source_j)``, float32 ``[D1, D2]``.

        A channel without variance correlates 0 with everything; `constant_channels` names it.

        Raises
        ------
        ValueError
            If fewer than two tokens have been seen.
        """
        return self._moments.correlation(0)

    def cross_covariance(self) -> torch.Tensor:
        """``M[i, j] = cov(target_i, source_j)``, float64 ``[D1, D2]``: what Procrustes takes.

        Raises
        ------
        ValueError
            If no token has been seen.
        """
        return self._moments.cross_covariance(0)

    def strongest(self) -> StrongestSources:
        """The strongest correlation of each target coordinate, and the runner-up.

        Where all sources differ they are the assignment that maximises ``sum |C|``, and no solver
        is needed. On a CUDA device the correlation matrix is never written.

        Raises
        ------
        ValueError
            If fewer than two tokens have been seen.
        """
        return StrongestSources(*self._moments.strongest(0))

    def constant_channels(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Indices of the target's and the source's channels that never varied, int64 each."""
        target, source = self._moments.statistics.scales(0)
        return (target == 0).nonzero()[:, 0], (source == 0).nonzero()[:, 0]

    # -- files ----------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the statistics as a safetensors file, all or nothing, so that a job can resume."""
        statistics = self._moments.statistics
        tensors = {name: getattr(statistics, name)[0].cpu().numpy() for name in TENSORS}
        header = {
            "count": str(self.count),
            "batches": str(self._moments.batches),
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
        tensors, header = tensor_file.read(path, "moments", TENSORS)
        d1, d2 = len(tensors["target_mean"]), len(tensors["source_mean"])
        shapes = ((d1, d2), (d1,), (d2,), (d1,), (d2,))
        if tuple(tensors[name].shape for name in TENSORS) != shapes or not (
            {"count", "batches", "precision"} <= header.keys()
        ):
            raise ValueError(f"{os.fspath(path)} is damaged: its moments do not fit together")
        moments = cls(d1, d2, device, precision=header["precision"])
        statistics = moments._moments.statistics
        for name in TENSORS:
            getattr(statistics, name)[0].copy_(torch.from_numpy(tensors[name]))
        statistics.count = int(header["count"])
        moments._moments.batches = int(header["batches"])
        return moments

    def __repr__(self) -> str:
        return (
            f"CrossMoments(target_dim={self.target_dim}, source_dim={self.source_dim}, "
            f"count={self.count}, device={str(self.device)!r})"
        )
