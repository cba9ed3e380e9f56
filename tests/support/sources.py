"""The C++ that checks are linked with: all of some folders."""

from __future__ import annotations

from pathlib import Path

CSRC = Path(__file__).parents[2] / "csrc"


def sources(*folders: str) -> list[Path]:
    """What lies in csrc itself, and in and below these folders of it."""
    return [*sorted(CSRC.glob("*.cpp"))] + [
        path for folder in folders for path in sorted((CSRC / folder).rglob("*.cpp"))
    ]
