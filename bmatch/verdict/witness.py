"""The independent witness: whether weights, which no token has touched, say the same.

Of two models that nothing relates, coordinates of weights correlate no more than chance lets them;
of kin, a coordinate correlates with its partner more than with any other. So a match found in
activations is asked whether the weights' best of its row is the same. A threshold on the
correlation itself would not do: it lets wrong partners through.

Kinship is tested against a null: a stranger's basis has nothing to do with the model's, so that the
correlation M is distributed as M H, with H a rotation at random. Each row, at length 1, is then a
random point on the sphere in D dimensions, of which one coordinate exceeds t in magnitude with
probability ``I(1 - t^2; (D - 1) / 2, 1 / 2)``; so a row's largest does with at most D times that,
and if it does so in k rows or more, by Markov's inequality, with at most ``D / k`` times as much
again. Rows need not be independent for that. A quarter of the rows is asked: a few coordinates
that stand out in every model, whatever its origin, decide nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bmatch.gauge import SignedPermutation
from bmatch.groups import Group

ROWS_ASKED = 0.25


@dataclass(frozen=True, eq=False)
class Witness:
    """What the correlation of weights says of a gauge.

    Attributes
    ----------
    best : bool [D]
        Whether a coordinate's partner and sign are the best of its row.
    log10_p : float
        Decimal logarithm of the p-value of "no kin", at most 0: see the head of this module. It
        does not depend on the gauge.
    """

    best: npt.NDArray[np.bool_]
    log10_p: float

    @property
    def share(self) -> float:
        """Of coordinates whose partner is the best of its row."""
        return float(np.mean(self.best))


def witness_of(
    correlation: npt.NDArray[np.float32], gauge: SignedPermutation, group: Group
) -> Witness:
    """What weights say of a gauge that was found without them.

    Parameters
    ----------
    correlation : float32 [D, D]
        ``C[i, j] = corr(target_i, source_j)`` over rows of weights.
    gauge : SignedPermutation
        From source to target coordinates.
    group : str
        That was searched: without signs of single coordinates, only the gauge's own count.
    """
    gauge = gauge.to(None)
    signed = gauge.sign[:, None] * correlation  # [target, source]
    own = signed[np.arange(gauge.dim), gauge.perm]
    rivals = np.abs(correlation) if group == "signed_permutation" else signed
    best = (own > 0) & (own >= rivals.max(axis=1, initial=0))
    return Witness(best, log10_p_of_strangers(correlation))


def log10_p_of_strangers(correlation: npt.NDArray[np.float32]) -> float:
    """Decimal logarithm of the p-value under rotations at random; see the head of this module.

    Parameters
    ----------
    correlation : float [D, D]

    Returns
    -------
    float
        0 at most.
    """
    d = len(correlation)
    if d < 2:
        return 0.0
    length = np.linalg.norm(correlation.astype(np.float64), axis=1)
    largest = np.abs(correlation).max(axis=1) / np.where(length > 0, length, 1)
    asked = math.ceil(ROWS_ASKED * d)
    t = float(np.sort(largest)[-asked])
    return min(0.0, math.log10(d * d / asked) + log10_tail(t, d))


def log10_tail(t: float, d: int) -> float:
    """An upper bound of ``log10 P(|x| >= t)``, x one coordinate of a random unit vector.

    ``P <= 2 c (1 - t^2)^((d - 1) / 2) / ((d - 1) t)``, c the density at 0: the density of x is
    ``c (1 - x^2)^((d - 3) / 2)``, and ``x / t >= 1`` in the tail. 1 where the bound is larger.
    """
    if t <= 0 or d < 4:
        return 0.0
    if t >= 1:
        return -math.inf
    log_density = math.lgamma(d / 2) - math.lgamma((d - 1) / 2) - 0.5 * math.log(math.pi)
    log_tail = math.log(2) + log_density + (d - 1) / 2 * math.log1p(-t * t) - math.log((d - 1) * t)
    return min(0.0, log_tail / math.log(10))
