"""Linear probes: what they say of carried activations is what they said before."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from bmatch.arrays import is_tensor
from bmatch.groups import Gauge
from bmatch.transport.objects import Along

_SLOTS = {
    **dict.fromkeys(("coef_", "means_", "mean_", "xbar_", "theta_"), Along(((-1, True),))),
    **dict.fromkeys(("components_", "centroids_", "cluster_centers_"), Along(((-1, True),))),
    **dict.fromkeys(("scale_", "var_"), Along(((-1, False),))),
    "scalings_": Along(((0, True),)),
    "covariance_": Along(((0, True), (1, True))),
}
"""What scikit-learn's estimators learn of coordinates: scales and variances have no sign."""

_READERS = ("coef_", "components_")
"""After an estimator with one of these a pipeline goes on in other coordinates."""

_EQUIVARIANT = ("Normalizer",)
"""Estimators that learn nothing, and do the same in all coordinates."""


def probe(estimator: Any, gauge: Gauge) -> Any:
    """Carry a linear probe in memory.

    Parameters
    ----------
    estimator
        Of scikit-learn, fitted (linear models, discriminants, nearest centroids, PCA,
        StandardScaler, or a Pipeline of these), or a `torch.nn.Linear`. It reads activations of d
        coordinates.
    gauge : SignedPermutation or OrthogonalGauge
        From its coordinates to those wanted.

    Returns
    -------
    as `estimator`
        A copy.

    Raises
    ------
    ValueError
        If it reads another number of coordinates.
    TypeError
        If something that it has learnt of coordinates is not known to be linear in them.
    """
    steps = getattr(estimator, "steps", None)
    if steps is not None:
        return _pipeline(estimator, gauge)
    made = copy.deepcopy(estimator)
    if is_tensor(getattr(estimator, "weight", None)) and estimator.weight.ndim == 2:
        made.weight.data = gauge.apply(estimator.weight.data, -1)
        return made
    name = type(estimator).__name__
    reads = getattr(estimator, "n_features_in_", None)
    if reads is None:
        raise TypeError(f"{name} is no fitted probe of scikit-learn, and no torch.nn.Linear")
    if reads != gauge.dim:
        raise ValueError(f"{name} reads {reads} coordinates, and the gauge acts on {gauge.dim}")
    if name in _EQUIVARIANT:
        return made
    learnt = {
        key: value
        for key, value in vars(estimator).items()
        if key.endswith("_") and isinstance(value, np.ndarray) and reads in value.shape
    }
    unknown = sorted(learnt.keys() - _SLOTS.keys())
    if unknown or not learnt:
        raise TypeError(
            f"{name} is not known to be linear in its coordinates"
            + (f": it has learnt {', '.join(unknown)}" if unknown else "")
        )
    for key, value in learnt.items():
        setattr(made, key, _SLOTS[key](value, gauge))
    return made


def _pipeline(estimator: Any, gauge: Gauge) -> Any:
    made = copy.deepcopy(estimator)
    for k, (name, step) in enumerate(estimator.steps):
        if step == "passthrough":
            continue
        made.steps[k] = name, probe(step, gauge)
        if any(hasattr(step, reader) for reader in _READERS):
            break
    return made
