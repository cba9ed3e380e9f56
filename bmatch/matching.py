"""From a correlation matrix to a gauge, with what one should know before trusting it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from bmatch.arrays import as_array, as_floats, is_tensor
from bmatch.assignment.answer import Assignment
from bmatch.assignment.costs import Costs, sense_of
from bmatch.assignment.device import costs_for
from bmatch.assignment.margins import margins
from bmatch.assignment.solver import solved
from bmatch.gauge import SignedPermutation
from bmatch.groups import Group, require_group

Verdict: TypeAlias = Literal["related", "not related", "too few tokens"]


@dataclass(frozen=True, eq=False)
class GaugeMatch:
    """The gauge that aligns two streams best, and how sure each coordinate of it is.

    Correlations are in [-1, 1], so margins and scores are in those units. Per-coordinate
    arrays are indexed by target coordinate.

    Attributes
    ----------
    gauge : SignedPermutation
        From source to target coordinates.
    margin : float64 [d]
        What the summed objective would lose if the coordinate took its next best partner, the
        others re-arranging themselves as well as they can. 0 is a tie.
    margin_exact : bool [d]
        False where the search for `margin` was cut short: it is a lower bound there.
    score : float
        Mean matched correlation, signs applied: 1 for a perfect match.
    positive_fraction : float
        Fraction of matched correlations that are positive. Matching on raw correlations cannot
        recover more coordinates than this: it is the ceiling that sign-marginalisation removes.
    mean_abs_off_diagonal : float
        Mean magnitude of the correlations that were not matched. Small means decorrelated
        coordinates, the assumption behind the ceiling.
    tied : int64 [k]
        Target coordinates that another, equally good assignment would match otherwise.
    no_signal : int64 [k]
        Target coordinates that correlate with nothing, or whose partner does: constant channels.
    group : str
        The group that was searched.
    assignment : Assignment
        The solver's answer, with duals and gap; NumPy arrays always.
    probability : float64 [d] or None
        That a coordinate's partner and sign are right (see `bmatch.verdict`). None where no models
        were read: a correlation matrix alone does not tell.
    verdict : {"related", "not related", "too few tokens"} or None
        Whether the gauge relates the two models; None as above.
    """

    gauge: SignedPermutation
    margin: npt.NDArray[np.float64]
    margin_exact: npt.NDArray[np.bool_]
    score: float
    positive_fraction: float
    mean_abs_off_diagonal: float
    tied: npt.NDArray[np.int64]
    no_signal: npt.NDArray[np.int64]
    group: Group
    assignment: Assignment = field(repr=False)
    probability: npt.NDArray[np.float64] | None = field(default=None, repr=False)
    verdict: Verdict | None = None

    @property
    def expected_recovered(self) -> float | None:
        """The share of coordinates that are right, as `probability` has it."""
        return None if self.probability is None else float(np.mean(self.probability))


def match(correlation: npt.ArrayLike, group: Group = "signed_permutation") -> GaugeMatch:
    """Find the gauge of a group that aligns source to target coordinates best.

    Parameters
    ----------
    correlation : array_like or torch.Tensor [d, d]
        ``C[i, j] = corr(target_i, source_j)``, as `CrossMoments.correlation` gives it.
    group : {"signed_permutation", "permutation", "permutation_global_sign"}
        ``"signed_permutation"`` (RMSNorm) maximises ``sum |C[i, perm[i]]|`` and takes the signs of
        the matched entries; ``"permutation"`` maximises ``sum C[i, perm[i]]``;
        ``"permutation_global_sign"`` (LayerNorm) does so for C and -C and keeps the better.

    Returns
    -------
    GaugeMatch
        Its gauge holds tensors on the device of `correlation`, if that is a tensor. A matrix on a
        CUDA device is solved there; its margins are searched in a copy on the host.

    Raises
    ------
    ValueError
        If the matrix is not square, is not finite, or the group is unknown.

    Notes
    -----
    Sign-marginalised matching: J. Sweeney, "Signed-Permutation Coordinate Transport for RMSNorm
    Transformers", arXiv 2606.31963.
    """
    require_group(group)
    costs = costs_for(correlation, True, group == "signed_permutation", movable=True)
    on_host = costs.on_host()  # [target, source]
    matrix = as_floats(on_host.matrix)
    _require_correlation(matrix, on_host.shift)

    found, costs = _best(costs._replace(to_kind=as_array), group)
    perm = found.col_of_row
    d = len(perm)
    matched = matrix[np.arange(d), perm].astype(np.float64)
    sign = _signs(found, costs)
    margin, exact = margins(on_host._replace(sense=costs.sense), found)

    gauge = SignedPermutation(perm, sign)
    device = correlation.device if is_tensor(correlation) else None  # type: ignore[union-attr]
    entries_of_target = np.count_nonzero(matrix, axis=1)
    entries_of_source = np.count_nonzero(matrix, axis=0)
    magnitude = np.abs(matrix).sum(dtype=np.float64) - np.abs(matched).sum()
    return GaugeMatch(
        gauge=gauge.to(device),
        margin=margin,
        margin_exact=exact,
        score=float(np.mean(sign * matched)) if d else 0.0,
        positive_fraction=float(np.mean(matched > 0)) if d else 0.0,
        mean_abs_off_diagonal=float(magnitude / (d * (d - 1))) if d > 1 else 0.0,
        tied=np.flatnonzero(exact & (margin <= _tie(matrix))),
        no_signal=np.flatnonzero((entries_of_target == 0) | (entries_of_source[perm] == 0)),
        group=group,
        assignment=found,
    )


def gauge_of(correlation: npt.ArrayLike, group: Group) -> SignedPermutation:
    """The gauge that `match` finds, without all that it tells about it; NumPy arrays."""
    costs = costs_for(correlation, True, group == "signed_permutation", movable=True)
    found, costs = _best(costs._replace(to_kind=as_array), group)
    return SignedPermutation(found.col_of_row, _signs(found, costs))


def _signs(found: Assignment, costs: Costs) -> npt.NDArray[np.int8]:
    """Those of the matched entries, or one for all."""
    if found.sign is not None:
        return np.asarray(found.sign)
    return np.full(len(found.col_of_row), -costs.flip, np.int8)


def _require_correlation(matrix: npt.NDArray[Any], shift: int) -> None:
    if shift:
        raise ValueError(
            "the matrix holds integers beyond 2**53, which float64 cannot hold one by one: scale "
            "them down, or pass floats"
        )
    if matrix.shape[0] != matrix.shape[1]:
        raise ValueError(
            f"a gauge needs a square correlation matrix, got shape {matrix.shape}: the two streams "
            "differ in width (bmatch.solve matches unequal sets)"
        )
    bad = np.argwhere(np.logical_not(np.isfinite(matrix)))
    if len(bad):
        row, col = bad[0]
        raise ValueError(
            f"correlation must be finite, got {matrix[row, col]} for target coordinate {row} and "
            f"source coordinate {col}"
        )


def _best(costs: Costs, group: Group) -> tuple[Assignment, Costs]:
    """The best assignment for a group, and the costs in the sense in which it is."""
    best = solved(costs)
    if group == "permutation_global_sign":
        negative = costs._replace(sense=sense_of(False, False))
        other = solved(negative)
        if -other.objective > best.objective:  # on a tie the positive sign
            return other, negative
    return best, costs


def _tie(matrix: npt.NDArray[Any]) -> float:
    """Losses below this are roundings of a few sums of entries."""
    return 1e-13 * float(np.abs(matrix).max(initial=0.0))
