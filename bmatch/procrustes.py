"""From the cross-covariance of two streams to the orthogonal gauge between them.

The rotation R that brings source to target with the least sum of squares, ``|y - R x|^2`` over all
tokens, is the polar factor of ``M = sum y x^T`` (P. H. Schönemann, "A generalized solution of the
orthogonal Procrustes problem", Psychometrika 31, 1966). M turns as the streams do; a correlation,
which divides each coordinate by its own spread, does not, and has another polar factor. About the
means M says more than about zero: noise on weights moves the means, and no number of tokens
averages that out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from bmatch.arrays import is_tensor
from bmatch.orthogonal import OrthogonalGauge
from bmatch.rotations import as_square, ones_first

_ROUNDING = 1e-7
"""Singular values below this part of the largest are roundings of float32 products."""


@dataclass(frozen=True, eq=False)
class OrthogonalMatch:
    """The orthogonal gauge that aligns two streams best, and how well the tokens determine it.

    Attributes
    ----------
    gauge : OrthogonalGauge
        From source to target coordinates.
    singular_values : float64 [d]
        Of the cross-covariance, descending: how much the two streams share along each direction.
        ``noise / (s_i + s_j)`` is how far noise turns the directions i and j into each other.
    score : float
        Their mean: 1 for a perfect match of streams whose coordinates have variance 1 on average,
        and ``2 - 2 score`` the variance of what is left of a coordinate.
    undetermined : int
        Directions in which the streams share nothing: where these go is arbitrary.
    group : str
        ``"orthogonal"``.
    """

    gauge: OrthogonalGauge
    singular_values: npt.NDArray[np.float64]
    score: float
    undetermined: int
    group: Literal["orthogonal"] = "orthogonal"


def match_orthogonal(covariance: npt.ArrayLike, *, fix_ones: bool = False) -> OrthogonalMatch:
    """Find the orthogonal gauge that aligns source to target coordinates best.

    Parameters
    ----------
    covariance : array_like or torch.Tensor [d, d]
        ``M[i, j] = cov(target_i, source_j)``, as `CrossMoments.cross_covariance` gives it: not a
        correlation.
    fix_ones : bool
        Under LayerNorm: search the orthogonal maps that fix the ones vector, or turn it round.

    Returns
    -------
    OrthogonalMatch
        Its gauge is for tensors on the device of `covariance`, if that is a tensor. It is computed
        on the host, by a singular value decomposition in float64.

    Raises
    ------
    ValueError
        If the matrix is not square or not finite.
    """
    matrix = as_square(covariance)
    d = len(matrix)
    if fix_ones and d:
        basis = ones_first(d)
        inner = basis @ matrix @ basis.T
        u, values, vt = np.linalg.svd(inner[1:, 1:])
        turned = np.zeros((d, d))
        turned[0, 0] = -1.0 if inner[0, 0] < 0 else 1.0
        turned[1:, 1:] = u @ vt
        polar = basis.T @ turned @ basis
        scored = np.append(values, abs(inner[0, 0]))
    else:
        u, values, vt = np.linalg.svd(matrix)
        polar, scored = u @ vt, values
    device = covariance.device if is_tensor(covariance) else None  # type: ignore[union-attr]
    return OrthogonalMatch(
        gauge=OrthogonalGauge(polar).to(device),
        singular_values=np.sort(scored)[::-1],
        score=float(scored.mean()) if d else 0.0,
        undetermined=int(np.count_nonzero(values <= _ROUNDING * values.max(initial=0.0))),
    )
