"""Decoys: source coordinates that cannot be anybody's partner, and how often they win.

Random orthogonal mixtures of the source's coordinates, each at its own spread, carry the same
signal in directions that mean nothing. The assignment of D target coordinates to D true ones and D
decoys takes decoys where no true partner stands out. If a row without a partner takes either with
the same chance, and f is the share of rows that a decoy takes, ``1 - f / (1 - f)`` have one.

J. E. Elias, S. P. Gygi, "Target-decoy search strategy for increased confidence in large-scale
protein identifications by mass spectrometry", Nature Methods 4 (2007).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch

from bmatch.assignment.solver import solve
from bmatch.correlation.site_moments import SiteMoments
from bmatch.groups import Group

TOKENS = 4096
"""By so many tokens, and what their last batch has beyond, the spread of decoys is known."""
AT_ONCE = 512
_STATE = ("centre", "factor", "total", "square")


class RotatedSource:
    """Random orthogonal mixtures of source coordinates, and their spread at every site.

    Parameters
    ----------
    width : int
        D.
    device : torch device, optional
        Where the activations are.
    seed : int
        Of the rotation.
    """

    def __init__(self, width: int, device: torch.device | str | None = None, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        gaussian = torch.randn(width, width, generator=generator, dtype=torch.float64)
        orthogonal, upper = torch.linalg.qr(gaussian)
        self._mixture = (orthogonal * upper.diagonal().sign()).float().to(device)  # columns mix
        self._device = device
        self._centre = self._factor = torch.empty(0)  # [S, D] each, once there are tokens
        self._total = self._square = torch.empty(0)
        self._count = 0

    @property
    def full(self) -> bool:
        """Whether more tokens would be left unread."""
        return self._count >= TOKENS

    def state(self) -> tuple[dict[str, npt.NDArray[np.generic]], int]:
        """What `restore` goes on from: arrays by name, and tokens counted."""
        return {name: getattr(self, f"_{name}").cpu().numpy() for name in _STATE}, self._count

    def restore(self, state: Mapping[str, npt.NDArray[np.generic]], count: int) -> None:
        """Go on from the `state` of another with the same width and seed."""
        for name in _STATE:
            setattr(self, f"_{name}", torch.from_numpy(state[name]).to(self._device))
        self._count = count

    @torch.no_grad()
    def update(self, source: torch.Tensor, counted: torch.Tensor) -> None:
        """Add tokens ``[S, N, D]``, of which those count that ``counted [N]`` says.

        Beyond `TOKENS` they are left unread.
        """
        for start in range(0, source.shape[1], AT_ONCE):
            kept = counted[start : start + AT_ONCE]
            count = int(kept.sum())
            if count == 0 or self.full:
                continue
            parts = [site[start : start + AT_ONCE][kept] for site in source]
            if self._count == 0:
                self._centre = torch.stack([part.mean(0) for part in parts])
                spread = torch.stack([part.std(0, correction=0) for part in parts])
                self._factor = torch.where(spread > 0, 1 / spread, 0.0)
                self._total = torch.zeros_like(spread, dtype=torch.float64)
                self._square = torch.zeros_like(self._total)
            for s, part in enumerate(parts):
                mixed = ((part - self._centre[s]) * self._factor[s] @ self._mixture).double()
                self._total[s] += mixed.sum(0)
                self._square[s] += mixed.square().sum(0)
            self._count += count

    @torch.no_grad()
    def correlation(self, moments: SiteMoments) -> torch.Tensor:
        """Of target coordinates with decoys, the mean over the sites, float32 [D, D].

        Parameters
        ----------
        moments : SiteMoments
            Of the streams whose source was handed to `update`.
        """
        mean = self._total / self._count
        variance = self._square / self._count - mean**2
        scale = torch.where(variance > 0, variance.clamp(min=0).rsqrt(), 0.0).float()  # [S, D]
        spread = (moments.statistics.source_square / moments.count).sqrt().float()  # [S, D]
        total = torch.zeros_like(self._mixture)
        for s in range(len(moments.sites)):
            mixed = moments.correlation(s) * (spread[s] * self._factor[s]) @ self._mixture
            total += (mixed * scale[s]).clamp(-1, 1)
        return total / len(moments.sites)


def taken(
    correlation: npt.NDArray[np.float32], decoys: npt.NDArray[np.float32], group: Group
) -> npt.NDArray[np.bool_]:
    """Rows that take a decoy where they may.

    Parameters
    ----------
    correlation, decoys : float32 [D, D]
        Of target coordinates with those of the source, and with decoys.
    group : str
        Without signs of single coordinates, that sign is searched which the true ones have.

    Returns
    -------
    bool [D]
    """
    both = np.hstack([correlation, decoys])
    if group == "signed_permutation":
        both = np.abs(both)
    elif group == "permutation_global_sign" and np.sum(correlation) < 0:
        both = -both
    return np.asarray(solve(both, maximize=True).col_of_row) >= len(correlation)


def recovered(share: float) -> float:
    """The share of rows with a true partner, where decoys take `share` of them: 0 at least."""
    return max(0.0, 1.0 - share / (1.0 - share)) if share < 1.0 else 0.0
