"""Where figures come from: machine, commit, versions."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
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
    """The commit that is measured; "-dirty" if files differ from it, other than results.

    Where the tree came without its history, the environment's BMATCH_COMMIT names it.
    """
    told = os.environ.get("BMATCH_COMMIT", "unknown")
    if not (HERE.parent / ".git").exists():  # or git would describe a repository around the tree
        return told
    name = _says("git", "describe", "--always")
    status = ("git", "status", "--porcelain", "--untracked-files=no", "--", ":/")
    differs = _says(*status, ":(top,exclude)benchmarks/results")
    return f"{name}-dirty" if name and differs else name or told


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


def versions() -> dict[str, str]:
    """Versions of what results on a device may depend on."""
    return {name: version(name) for name in PACKAGES}


def _facts() -> dict[str, str]:
    """What Linux tells of the first processor."""
    info = Path("/proc/cpuinfo")
    first = info.read_text().split("\n\n", 1)[0] if info.exists() else ""
    pairs = (line.partition(":") for line in first.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def processor() -> str:
    """The processor by name."""
    return _facts().get("model name") or platform.processor() or platform.machine()


def machine(device: Any = None) -> str:
    """A CUDA device and its driver, or the processor and the solver's instruction set on it; system
    and Python.
    """
    system = f"{platform.system()}, Python {platform.python_version()}"
    if device is not None and device.type == "cuda":
        import torch

        return f"{torch.cuda.get_device_name(device)}, driver {driver() or 'unknown'}, {system}"
    from bmatch import _core

    facts = _facts()
    kind = f"family {facts['cpu family']}, model {facts['model']}" if "cpu family" in facts else ""
    name = f"{processor()} ({kind})" if kind else processor()  # names can be vague
    return f"{name} with {_core.instruction_set()}, {system}"
