"""The C++ that checks are linked with: all of some folders but the file that knows Python."""

from __future__ import annotations

from pathlib import Path

CSRC = Path(__file__).parents[1] / "csrc"


def sources(*folders: str) -> list[Path]:
    """What lies in csrc itself and in these folders of it."""
    found = (path for folder in (".", *folders) for path in sorted((CSRC / folder).glob("*.cpp")))
    return [path for path in found if path.name != "module.cpp"]
