"""Pairs of directions that lie close: one matrix product by blocks, of which only those are kept.

With ``cost_limit`` a pair below the limit is worth less than two features left alone, so the pairs
above are the whole problem: 10^5 x 10^5 cosines become a sparse matrix of some 10^5 entries.
"""

from __future__ import annotations

from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from bmatch.jobs.progress import Progress, silent
from bmatch.jobs.ranks import ALONE, Ranks
from bmatch.jobs.resume import KeptState

BLOCK_BYTES = 2**27
"""Of cosines that are there at once."""

_AT_ONCE = 2**16  # pairs whose cosine is computed again
_ROUNDING = {"highest": 1e-5}
_ROUNDING_TF32 = 4e-3  # where torch is allowed shorter products


class Pairs(NamedTuple):
    """Pairs of rows, the target's ascending.

    Attributes
    ----------
    target, source : int64 [e]
    cosine : float64 [e]
        With its sign.
    """

    target: npt.NDArray[np.int64]
    source: npt.NDArray[np.int64]
    cosine: npt.NDArray[np.float64]


def as_directions(values: Any, name: str) -> torch.Tensor:
    """Rows as a floating tensor [features, terms], checked.

    Raises
    ------
    ValueError, TypeError
        If it is no matrix of finite real numbers; the message says where it is not.
    """
    try:
        rows = torch.as_tensor(values)
    except (TypeError, ValueError, RuntimeError):
        kind = getattr(values, "dtype", type(values).__name__)
        raise TypeError(f"{name} must be a matrix of real numbers, got {kind}") from None
    if rows.ndim != 2:
        raise ValueError(
            f"{name} must be a matrix [features, terms], got shape {tuple(rows.shape)}"
        )
    if rows.is_complex():
        raise TypeError(f"{name} must be real, got {rows.dtype}")
    if not rows.is_floating_point():
        rows = rows.double()
    finite = torch.isfinite(rows)
    if not finite.all():
        row, term = np.unravel_index(int(finite.flatten().byte().argmin()), tuple(rows.shape))
        raise ValueError(
            f"{name} must be finite, got {rows[row, term].item()} in feature {row}, term {term}"
        )
    return rows.detach()


def unit(directions: torch.Tensor) -> torch.Tensor:
    """Rows divided by their length, float32 [n, k]; rows of zeros stay."""
    greatest = directions.abs().amax(1, keepdim=True)
    scaled = (directions / torch.where(greatest > 0, greatest, 1)).float()
    return torch.nn.functional.normalize(scaled, dim=1)


def close_pairs(
    target: torch.Tensor,
    source: torch.Tensor,
    limit: float,
    magnitudes: bool,
    progress: Progress = silent,
    ranks: Ranks = ALONE,
    kept: KeptState | None = None,
) -> Pairs | None:
    """All pairs whose cosine is above a limit.

    Parameters
    ----------
    target, source : float [n, k], [m, k]
        Directions of any length, on one device.
    limit : float
    magnitudes : bool
        Whether that of ``|cosine|`` is asked for.
    progress : callable, optional
    ranks : Ranks
        Each takes every so-manieth block of rows.
    kept : KeptState, optional
        Where pairs are kept between blocks, at the first rank, and gone on from, with any number of
        ranks.

    Returns
    -------
    Pairs or None
        At the first rank; the same pairs in the same bits for any number of them.
    """
    unit_target, unit_source = unit(target), unit(source).T  # [n, k], [k, m]
    below = limit - _ROUNDING.get(torch.get_float32_matmul_precision(), _ROUNDING_TF32)
    rows = max(1, BLOCK_BYTES // (4 * max(len(source), 1)))
    found, begin = _kept_pairs(kept, limit) if ranks.first else ([], 0)
    starts = range(ranks.told(begin), len(target), rows)
    shown = iter(progress(starts[ranks.rank :: ranks.world], "Comparing"))
    # Made once: what each block would free, malloc keeps in pieces between the pairs that stay.
    cosines = unit_target.new_empty(min(rows, len(target)), len(source))
    masks = torch.empty_like(cosines, dtype=torch.bool)
    saved = False
    for last in range(ranks.world - 1, len(starts) + ranks.world - 1, ranks.world):
        own = np.empty((0, 2), np.int64)
        for start in islice(shown, 1):  # no more of it where others have the last blocks
            block = unit_target[start : start + rows]
            cosine, mask = cosines[: len(block)], masks[: len(block)]
            torch.mm(block, unit_source, out=cosine)
            torch.gt(cosine.abs_() if magnitudes else cosine, below, out=mask)
            near = torch.nonzero(mask)
            near[:, 0] += start
            own = near.cpu().numpy()
        found += ranks.gathered(own)
        over = last >= len(starts) - 1
        if kept is not None and ranks.first and (kept.due or (saved and over)):
            saved, found = True, [np.concatenate(found)]
            end = len(target) if over else starts[last] + rows
            kept.save({"pairs": found[0]}, {"rows": str(end), "limit": limit.hex()})
    next(shown, None)  # to its end, where what shows it is put away
    if not ranks.first:
        return None
    both = np.concatenate(found) if found else np.empty((0, 2), np.int64)  # [e, 2]
    cosine64 = _cosines(target, source, both)
    above = (np.abs(cosine64) if magnitudes else cosine64) > limit
    return Pairs(both[above, 0], both[above, 1], cosine64[above])


def _kept_pairs(kept: KeptState | None, limit: float) -> tuple[list[npt.NDArray[np.int64]], int]:
    """What an earlier job has found, and of how many rows of the target."""
    state = None if kept is None else kept.load()
    if state is None or state[1].get("limit") != limit.hex():
        return [], 0
    return [state[0]["pairs"]], int(state[1]["rows"])


def _cosines(
    target: torch.Tensor, source: torch.Tensor, both: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    """Of pairs [e, 2], in float64 from the directions as they are given."""
    found = np.empty(len(both))
    for start in range(0, len(both), _AT_ONCE):
        one, other = (
            _of_middling_size(side[torch.from_numpy(index).to(side.device)].double().cpu().numpy())
            for side, index in zip((target, source), both[start : start + _AT_ONCE].T, strict=True)
        )
        lengths = np.sqrt(np.einsum("ek,ek->e", one, one) * np.einsum("ek,ek->e", other, other))
        products = np.einsum("ek,ek->e", one, other)
        found[start : start + _AT_ONCE] = products / np.where(lengths > 0, lengths, 1)
    return np.clip(found, -1.0, 1.0)


def _of_middling_size(rows: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Rows at a size where squares neither overflow nor vanish."""
    greatest = np.abs(rows).max(axis=1, keepdims=True)
    scaled: npt.NDArray[np.float64] = rows / np.where(greatest > 0, greatest, 1)
    return scaled
