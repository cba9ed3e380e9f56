"""Names of files that the libraries below can read."""

from __future__ import annotations

import os


def require_utf8(path: str | os.PathLike[str]) -> None:
    """Refuse a path that safetensors and torch would take for a damaged file.

    Raises
    ------
    ValueError
        If it is not UTF-8.
    """
    try:
        os.fsencode(path).decode()
    except UnicodeDecodeError:
        raise ValueError(
            f"{os.fspath(path)} is no UTF-8, and neither safetensors nor torch reads such names: "
            "rename it, or reach it by a link of another name"
        ) from None
