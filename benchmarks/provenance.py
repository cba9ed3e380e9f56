"""Where figures come from, and where they are shown: machine, commit, tables of README.md."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import bmatch

HERE = Path(__file__).parent
PACKAGES = ("bmatch", "torch", "triton", "numpy")
"""What results on a device may depend on."""


def _says(*command: str) -> str:
    """What a program prints, or nothing where it is missing or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=HERE)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()


def commit() -> str:
    """The commit that is measured; "-dirty" if files differ from it.

    Where the tree came without its history, the environment's BMATCH_COMMIT names it.
    """
    told = os.environ.get("BMATCH_COMMIT", "unknown")
    if not (HERE.parent / ".git").exists():  # or git would describe a repository around the tree
        return told
    return _says("git", "describe", "--always", "--dirty") or told


def version(distribution: str) -> str:
    """The version of a package; our own need not be installed, only importable."""
    if distribution == "bmatch":
        return bmatch.__version__
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "none"


def driver() -> str:
    """The version of the driver of this machine's GPUs; nothing where there is none."""
    return _says("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader").split("\n")[0]


def of_device(device: Any) -> dict[str, str]:
    """Columns that all results on a torch device share: where and when, and with which versions."""
    on_cuda = device.type == "cuda"
    return {
        "device": device_name(device),
        "driver": driver() if on_cuda else "",
        "python": platform.python_version(),
        **{name: version(name) for name in PACKAGES},
        "commit": commit(),
        "date": datetime.now(UTC).date().isoformat(),
    }


OF_DEVICE = ("driver", "python", *PACKAGES, "commit", "date")
"""The columns of `of_device` after the first."""


def device_name(device: Any) -> str:
    """A torch device by name, as results files are named after it."""
    if device.type == "cuda":
        import torch

        return torch.cuda.get_device_name(device).replace(" ", "-")
    return processor().replace(" ", "-")


def _facts() -> dict[str, str]:
    """What Linux tells of the first processor."""
    info = Path("/proc/cpuinfo")
    first = info.read_text().split("\n\n", 1)[0] if info.exists() else ""
    pairs = (line.partition(":") for line in first.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def processor() -> str:
    """The processor by name."""
    return _facts().get("model name") or platform.processor() or platform.machine()


def machine() -> str:
    """The processor, the instruction set that the solver uses on it, system and Python."""
    from bmatch import _core

    facts, python = _facts(), f"Python {platform.python_version()}"
    kind = f"family {facts['cpu family']}, model {facts['model']}" if "cpu family" in facts else ""
    name = f"{processor()} ({kind})" if kind else processor()  # names can be vague
    return f"{name} with {_core.instruction_set()}, {platform.system()}, {python}"


def show(name: str, lines: list[str]) -> None:
    """Puts lines into README.md between the marks of that name."""
    readme = HERE / "README.md"
    text = readme.read_text()
    begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->"
    head, tail = text.split(begin)[0], text.split(end)[1]
    readme.write_text(head + begin + "\n".join(lines) + "\n" + end + tail)
