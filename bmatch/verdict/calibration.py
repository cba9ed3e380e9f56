"""From what is known of a match to the probability of each coordinate: a logistic, calibrated.

Coefficients lie in ``calibration.json`` with their provenance; ``python -m benchmarks calibrate``
makes them anew from pairs of models with planted gauges and from strangers.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

FILE = Path(__file__).with_name("calibration.json")
Kind: TypeAlias = Literal["activations", "weights", "activations and weights"]
"""What was read."""
_OF_ALL = ("margin", "magnitude")
_OF_TOKENS = ("bootstrap", "decoys", "decoy")
_OF_WEIGHTS = ("best", "witness", "kin")
FEATURES: dict[Kind, tuple[str, ...]] = {
    "activations": _OF_ALL + _OF_TOKENS,
    "weights": _OF_ALL + _OF_WEIGHTS,
    "activations and weights": _OF_ALL + _OF_TOKENS + _OF_WEIGHTS,
}
"""Columns of `evidence.Evidence.features`, by what was read."""


@cache
def coefficients() -> dict[str, Any]:
    """The content of the file: an intercept and a coefficient for each feature, by what was read,
    and the provenance of all.
    """
    content: dict[str, Any] = json.loads(FILE.read_text())
    return content


def probability(features: npt.NDArray[np.float64], kind: Kind) -> npt.NDArray[np.float64]:
    """That coordinates are right.

    Parameters
    ----------
    features : float64 [D, k]
        Columns in the order of ``FEATURES[kind]``.
    kind : str
        What was read.

    Returns
    -------
    float64 [D]
    """
    intercept, *slopes = coefficients()[kind]
    logit = intercept + features @ np.array(slopes)
    result: npt.NDArray[np.float64] = 1 / (1 + np.exp(-logit))
    return result
