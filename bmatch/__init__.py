"""Signed-permutation gauges between transformer checkpoints.

The public names below are loaded on first use: importing bmatch imports NumPy and nothing
else, neither torch nor the GPU.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from bmatch._version import __version__ as __version__

_HOME = {
    "Assignment": "assignment",
    "Certificate": "assignment",
    "CrossMoments": "correlation",
    "Factors": "assignment",
    "FeatureMatch": "features",
    "GaugeMatch": "matching",
    "OrthogonalGauge": "orthogonal",
    "OrthogonalMatch": "procrustes",
    "SignedPermutation": "gauge",
    "Trajectory": "trajectory",
    "align_activations": "align_stored",
    "batch_linear_sum_assignment": "assignment",
    "certify": "assignment",
    "compose": "gauge",
    "estimate_gauge": "estimate",
    "linear_sum_assignment": "assignment",
    "load_gauge": "gauge_file",
    "match": "matching",
    "match_features": "features",
    "match_orthogonal": "procrustes",
    "solve": "assignment",
}
_MODULES = {"architecture", "audit", "transport"}

if TYPE_CHECKING:
    from bmatch import architecture, audit, transport
    from bmatch.align_stored import align_activations
    from bmatch.assignment import (
        Assignment,
        Certificate,
        Factors,
        batch_linear_sum_assignment,
        certify,
        linear_sum_assignment,
        solve,
    )
    from bmatch.correlation import CrossMoments
    from bmatch.estimate import estimate_gauge
    from bmatch.features import FeatureMatch, match_features
    from bmatch.gauge import SignedPermutation, compose
    from bmatch.gauge_file import load_gauge
    from bmatch.matching import GaugeMatch, match
    from bmatch.orthogonal import OrthogonalGauge
    from bmatch.procrustes import OrthogonalMatch, match_orthogonal
    from bmatch.trajectory import Trajectory

__all__ = [
    "Assignment",
    "Certificate",
    "CrossMoments",
    "Factors",
    "FeatureMatch",
    "GaugeMatch",
    "OrthogonalGauge",
    "OrthogonalMatch",
    "SignedPermutation",
    "Trajectory",
    "align_activations",
    "architecture",
    "audit",
    "batch_linear_sum_assignment",
    "certify",
    "compose",
    "estimate_gauge",
    "linear_sum_assignment",
    "load_gauge",
    "match",
    "match_features",
    "match_orthogonal",
    "solve",
    "transport",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"bmatch.{name}")
    if name not in _HOME:
        raise AttributeError(f"module 'bmatch' has no attribute {name!r}")
    try:
        value = getattr(importlib.import_module(f"bmatch.{_HOME[name]}"), name)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"bmatch.{name} needs {error.name}: pip install 'bmatch[gauge]'",
            name=error.name,
        ) from error
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
