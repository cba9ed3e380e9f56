"""The C++ that checks are linked with, and how it is compiled."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).parents[2]
CSRC = ROOT / "csrc"
KERNELS = CSRC / "cuda"
COMPILER = os.environ.get("CXX", "g++")
FLAGS = ["-std=c++17", "-ffp-contract=off", "-Wall", "-Wextra", "-Wno-unknown-pragmas", "-Werror"]


def sources(*folders: str) -> list[Path]:
    """What lies in csrc itself, and in and below these folders of it."""
    return [*sorted(CSRC.glob("*.cpp"))] + [
        path for folder in folders for path in sorted((CSRC / folder).rglob("*.cpp"))
    ]
