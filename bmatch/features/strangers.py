"""How close strangers come: the best of many that cannot be partners.

Decoys are random directions of the same second moment as the source's: where most directions share
a few, strangers come closer than chance in all of them would have it. Relatives come closer still
(see `bmatch.features.relatives`).

Decoys: J. E. Elias, S. P. Gygi, "Target-decoy search strategy for increased confidence in
large-scale protein identifications by mass spectrometry", Nature Methods 4 (2007). Local shares of
false pairs by monotone regression: K. Strimmer, "A unified approach to false discovery rate
estimation", BMC Bioinformatics 9 (2008).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from bmatch.features.pairs import BLOCK_BYTES, unit

ROWS = 2048
"""Of the target, by which strangers are known."""

_LEAST = 1024  # bests of strangers that are drawn for, however few the rows
_CLOSEST = 256  # partners of a row that are looked at
_TAIL = 0.05  # of a sample, from which on it is taken to fall off exponentially


class Sample(NamedTuple):
    """What some rows of the target see.

    Attributes
    ----------
    rows : int64 [r]
        Which.
    decoys : float64 [s]
        The best cosine of as many decoys as there are source features, ascending.
    closest : float64 [r, c]
        The best of the source's features, descending.
    """

    rows: npt.NDArray[np.int64]
    decoys: npt.NDArray[np.float64]
    closest: npt.NDArray[np.float64]

    def level(self, a_row: int) -> float:
        """The cosine above which rows have so many neighbours on average."""
        pooled = np.sort(self.closest, axis=None)[::-1]
        at = a_row * len(self.rows)
        return float(pooled[at]) if at < len(pooled) else -1.0


def sample(target: torch.Tensor, source: torch.Tensor, magnitudes: bool, seed: int = 0) -> Sample:
    """Look from some rows of the target at the source and at decoys.

    Parameters
    ----------
    target, source : float [n, k], [m, k]
        On one device, neither of them empty.
    magnitudes : bool
        Whether ``|cosine|`` counts.
    seed : int
        Of rows and decoys.
    """
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randperm(len(target), generator=generator)[:ROWS].sort().values
    seen = unit(target[rows.to(target.device)])  # [r, k]
    others = unit(source)  # [m, k]
    at_once = max(1, BLOCK_BYTES // (4 * len(source)))
    closest = []
    for start in range(0, len(seen), at_once):
        cosine = seen[start : start + at_once] @ others.T
        value = cosine.abs() if magnitudes else cosine
        closest.append(value.topk(min(_CLOSEST, len(source)), dim=1).values)
    bests = _best_of_decoys(
        seen, _factor(others), len(source), -(-_LEAST // len(rows)), magnitudes, generator
    )
    return Sample(
        rows.numpy(),
        bests.flatten().double().sort().values.cpu().numpy(),
        torch.cat(closest).double().cpu().numpy(),
    )


def _factor(directions: torch.Tensor) -> torch.Tensor:
    """[c, k]: normal numbers [., c] times it have the second moment of these directions [m, k]."""
    if len(directions) <= directions.shape[1]:
        return directions
    moment = directions.double().T @ directions.double()
    values, vectors = torch.linalg.eigh(moment)
    factor: torch.Tensor = values.clamp(min=0).sqrt()[:, None] * vectors.T
    return factor.float()


def _best_of_decoys(
    seen: torch.Tensor,
    factor: torch.Tensor,
    count: int,
    rounds: int,
    magnitudes: bool,
    generator: torch.Generator,
) -> torch.Tensor:
    """The best cosine of rows [r, k] with so many decoys, drawn anew each round: [r, rounds]."""
    best = torch.full((len(seen), rounds), -1.0, device=seen.device)
    at_once = max(1, BLOCK_BYTES // (4 * max(len(seen), seen.shape[1])))
    together = max(1, at_once // count)  # rounds, where decoys are few
    for first in range(0, rounds, together):
        part = best[:, first : first + together]
        for start in range(0, count, at_once):
            size = (part.shape[1], min(at_once, count - start))
            normal = torch.randn(size[0] * size[1], len(factor), generator=generator)
            cosine = seen @ unit(normal.to(factor.device) @ factor).T
            drawn = (cosine.abs() if magnitudes else cosine).view(len(seen), *size)
            torch.maximum(part, drawn.amax(2), out=part)
    return best


def exceeding(
    values: npt.NDArray[np.float64], at: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """The chance that a value like these exceeds each of `at`.

    Their share; beyond the last few, where a share says little, by an exponential fitted to those.
    """
    if not len(values):
        return np.zeros(len(at))
    ordered = np.sort(values)
    share = 1.0 - np.searchsorted(ordered, at, side="left") / len(ordered)
    few = max(1, int(_TAIL * len(ordered)))
    start = ordered[-few]
    scale = max(float(np.mean(ordered[-few:] - start)), 1e-9)
    tail = few / len(ordered) * np.exp(-np.maximum(at - start, 0.0) / scale)
    chance: npt.NDArray[np.float64] = np.where(at > start, tail, share)
    return chance


def local_shares(false: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The chance of each pair to be false, from how many false ones are expected up to it.

    Parameters
    ----------
    false : float64 [k]
        Expected false pairs among the best 1, 2, ... pairs, ascending.

    Returns
    -------
    float64 [k]
        Ascending: the increments, pooled where they fall (slopes of the greatest convex minorant).
    """
    sums: list[float] = []
    counts: list[int] = []
    for increment in np.diff(false, prepend=0.0):
        total, count = float(increment), 1
        while sums and sums[-1] * count >= total * counts[-1]:
            total += sums.pop()
            count += counts.pop()
        sums.append(total)
        counts.append(count)
    means = np.array(sums) / np.array(counts, float) if sums else np.empty(0)
    shares: npt.NDArray[np.float64] = np.clip(np.repeat(means, counts), 0.0, 1.0)
    return shares
