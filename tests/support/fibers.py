"""The CUDA solver without a GPU: its kernels compiled by g++, a fiber for each CUDA thread."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from once import once
from sanitized import SANITIZERS
from sources import COMPILER, FLAGS, KERNELS, ROOT

from benchmarks.fibers import Arguments, load, spent
from bmatch import _core, arrays
from bmatch.assignment import cuda

SEEDS = (1, 2, 3, 4, 5)

needs_fibers = pytest.mark.skipif(
    shutil.which(COMPILER) is None or os.uname().machine != "x86_64",
    reason=f"fibers need {COMPILER} and x86-64",
)


def compile_fibers(source, target, *flags, kernels=KERNELS, libraries=()):
    """Compiles a file with the kernels and the fibers into `target`."""
    folders = [f"-I{kernels / 'host'}", f"-I{kernels.parent}", f"-I{ROOT / 'csrc'}"]
    sources = [source, kernels / "host/fibers.cpp", "-x", "c++", kernels / "solver.cu"]
    command = [COMPILER, *FLAGS, *flags, *folders, *sources, "-x", "none", *libraries]
    command += ["-o", target]
    subprocess.run([str(part) for part in command], check=True)


def build_check(target, cpu, kernels=KERNELS):
    """`native/cuda_check.cpp` with the kernels and the CPU solver, under a sanitizer of memory."""
    check = ROOT / "tests/native/cuda_check.cpp"
    flags = ["-O1", "-g1", *SANITIZERS["address"], "-pthread"]
    compile_fibers(check, target, *flags, kernels=kernels, libraries=[cpu])
    return target


def run_check(program, seed, problems, most_rows, **environment):
    return subprocess.run(
        [program, *map(str, (seed, problems, most_rows))],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "ASAN_OPTIONS": "detect_leaks=0", **environment},
    )


def caught(program, seeds, **environment):
    """Whether some interleaving goes wrong: wrong answer, deadlock, endless loop or crash."""
    return any(run_check(program, seed, 48, 100, **environment).returncode != 0 for seed in seeds)


def built_fibers(tmp_path_factory):
    """The kernels for `Fibers`."""

    def build(folder):
        library = ROOT / "csrc/cuda/host/library.cpp"
        compile_fibers(library, folder / "libfibers.so", "-O2", "-shared", "-fPIC")

    return Fibers(once(tmp_path_factory, "fibers", build) / "libfibers.so")


class Fibers:
    """What `bmatch.assignment.cuda` asks of `bmatch._core`, on the CPU."""

    CudaType, CudaTeam = _core.CudaType, _core.CudaTeam
    CudaReport, cuda_trapped = _core.CudaReport, _core.cuda_trapped

    def __init__(self, path):
        self.compiled = load(path)
        self.seed = self.compiled.seed

    def spent(self):
        return spent(self.compiled)

    @staticmethod
    def CudaTask(
        cost,
        kind,
        problems,
        rows,
        cols,
        problem_stride,
        row_stride,
        sense,
        prices,
        sizes,
        most_work,
    ):
        shape = (problems, rows, cols, problem_stride, row_stride)
        return Arguments(cost, prices, sizes, *shape, kind.value, sense.value, 0, most_work)

    def cuda_workspace(self, task, team, device):
        assert device == 0
        task.team = team.value
        return self.compiled.workspace_bytes(ctypes.byref(task))

    def cuda_solve(self, task, team, col_of_row, row_dual, col_dual, workspace, device, stream):
        assert (team.value, device, stream) == (task.team, 0, 0)
        reports = np.empty(task.problems, self.CudaReport)
        pointers = (col_of_row, row_dual, col_dual, reports.ctypes.data, workspace)
        self.compiled.solve(ctypes.byref(task), *map(ctypes.c_void_p, pointers))
        return SimpleNamespace(wait=lambda: reports)


def play_device(monkeypatch, fibers):
    """Takes every tensor on the host for one on a device that the fibers are."""
    monkeypatch.setattr(cuda, "_core", fibers)
    monkeypatch.setattr(cuda, "_place", lambda tensor: (0, 0))
    monkeypatch.setattr(arrays, "is_on_device", lambda value: isinstance(value, torch.Tensor))
    monkeypatch.setattr(cuda, "is_usable", lambda: True)
    monkeypatch.setattr(cuda, "HOST_ROWS", 128)  # fibers are slow
