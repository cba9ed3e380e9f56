"""The CUDA solver without a device: `csrc/cuda/host/library.cpp`, a fiber for each CUDA thread,
compiled by g++ and called by ctypes.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
from pathlib import Path


class Arguments(ctypes.Structure):
    """A task, as the library takes it: addresses, shapes, strides in entries, numbers of enums."""

    _fields_ = (
        *((name, ctypes.c_uint64) for name in ("cost", "prices", "sizes")),
        *(
            (name, ctypes.c_int64)
            for name in ("problems", "rows", "cols", "problem_stride", "row_stride")
        ),
        *((name, ctypes.c_int32) for name in ("type", "sense", "team", "most_work")),
    )


def compile_library(kernels: Path, target: Path) -> ctypes.CDLL:
    """The library of a folder that has ``cuda/``, as csrc does, into `target`."""
    host = kernels / "cuda/host"
    command = [os.environ.get("CXX", "g++"), "-std=c++17", "-O2", "-ffp-contract=off", "-shared"]
    command += ["-fPIC", f"-I{host}", f"-I{kernels}", f"{host}/library.cpp", f"{host}/fibers.cpp"]
    command += ["-x", "c++", f"{kernels}/cuda/solver.cu", "-o", str(target)]
    subprocess.run(command, check=True)
    return load(target)


def load(path: Path) -> ctypes.CDLL:
    """A compiled library, with the types of what it returns."""
    library = ctypes.CDLL(str(path))
    library.workspace_bytes.restype = ctypes.c_uint64
    return library


def spent(library: ctypes.CDLL) -> tuple[int, int, int, int, int]:
    """Barriers, far trips, near trips, collectives, bytes of the matrix since the last call."""
    five = (ctypes.c_uint64 * 5)()
    library.spent(five)
    return five[0], five[1], five[2], five[3], five[4]
