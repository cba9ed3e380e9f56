"""The gauge in a file, of whichever kind it is."""

from __future__ import annotations

import os

from bmatch.files import tensor_file
from bmatch.gauge import SignedPermutation
from bmatch.network_gauge import NetworkGauge
from bmatch.orthogonal import OrthogonalGauge


def load_gauge(
    path: str | os.PathLike[str],
) -> SignedPermutation | OrthogonalGauge | NetworkGauge:
    """Read a gauge of whichever group, of the residual stream or of more spaces.

    Returns
    -------
    SignedPermutation, OrthogonalGauge or NetworkGauge
        With its metadata.

    Raises
    ------
    FileNotFoundError, ValueError
        As the gauges' own `load`.
    """
    names = tensor_file.names(path, "gauge")
    if "matrix" in names:
        return OrthogonalGauge.load(path)
    if any("/" in name for name in names):
        return NetworkGauge.load(path)
    return SignedPermutation.load(path)
