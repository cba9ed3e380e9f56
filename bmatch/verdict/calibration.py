"""From what is known of a match to the probability of each coordinate: a logistic, calibrated.

Coefficients lie in ``calibration.json`` with their provenance; ``python -m benchmarks calibrate``
makes them anew from pairs of models with planted gauges and from strangers.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

FILE = Path(__file__).with_name("calibration.json")
FEATURES = ("margin", "magnitude", "bootstrap", "decoys", "decoy", "best", "witness")
"""Of each coordinate, in order: `evidence.features` makes them."""
OF_WEIGHTS = 2
"""The last so many are of the weights: without them another fit serves."""


@cache
def coefficients() -> dict[str, Any]:
    """The content of the file: for ``with_weights`` and ``without_weights`` an intercept and a
    coefficient for each feature, and the provenance of both.
    """
    content: dict[str, Any] = json.loads(FILE.read_text())
    return content


def probability(features: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """That coordinates are right.

    Parameters
    ----------
    features : float64 [D, 7] or [D, 5]
        In the order of `FEATURES`; without the last two where no weights were read.

    Returns
    -------
    float64 [D]
    """
    kind = "with_weights" if features.shape[1] == len(FEATURES) else "without_weights"
    intercept, *slopes = coefficients()[kind]
    logit = intercept + features @ np.array(slopes)
    result: npt.NDArray[np.float64] = 1 / (1 + np.exp(-logit))
    return result
