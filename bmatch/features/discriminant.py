"""One number for several, by which two samples are told apart best: logistic regression.

As scores of peptides are joined where decoys stand for what is false: L. Kall, J. D. Canterbury,
J. Weston, W. S. Noble, M. J. MacCoss, "Semi-supervised learning for peptide identification from
shotgun proteomics datasets", Nature Methods 4 (2007). How well it tells them matters for how many
are found; how many are false is counted on the result, whatever the weights.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_RIDGE = 0.02  # where a term says nothing, or all are told apart
_STEPS = 50


def discriminant(
    false: npt.NDArray[np.float64], seen: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Weights of terms.

    Parameters
    ----------
    false, seen : float64 [a, t], [b, t]
        Two samples, neither of them empty. Each counts as one half.

    Returns
    -------
    float64 [t]
        ``values @ weights`` is greater, the more a row is like `seen`.
    """
    values = np.concatenate([false, seen])
    scale = values.std(axis=0)
    scale[scale <= 1e-12] = 1.0
    terms = (values - values.mean(axis=0)) / scale
    terms = np.column_stack([np.ones(len(terms)), terms])
    told = np.repeat([0.0, 1.0], [len(false), len(seen)])
    weight = np.repeat([0.5 / len(false), 0.5 / len(seen)], [len(false), len(seen)])
    ridge = np.full(terms.shape[1], _RIDGE)
    ridge[0] = 1e-9  # the constant stays free
    found = np.zeros(terms.shape[1])
    for _ in range(_STEPS):  # Newton's
        chance = 1.0 / (1.0 + np.exp(-terms @ found))
        slope = terms.T @ (weight * (told - chance)) - ridge * found
        bend = (terms.T * (weight * chance * (1.0 - chance))) @ terms + np.diag(ridge)
        step = np.linalg.solve(bend, slope)
        found += step
        if np.abs(step).max() < 1e-9:
            break
    weights: npt.NDArray[np.float64] = found[1:] / scale
    return weights
