"""The CUDA solver's own code: by fibers under sanitizers, with planted faults, and nvcc's view."""

from __future__ import annotations

import os
import re
import shutil

import pytest
from fibers import KERNELS, ROOT, SEEDS, build_check, caught, needs_fibers, run_check
from sanitized import compiled
from switches import plant

# What ptxas told as setup.py built the kernels as they are.
CHANGED = max(path.stat().st_mtime for path in KERNELS.iterdir())
LOGS = [
    path
    for path in ROOT.glob("build/cuda-*/csrc/cuda/solver.cu.ptxas")
    if path.stat().st_mtime > CHANGED
]

# Bounds of loops and reads, each with a switch, off by one where the environment says so; and the
# seed whose interleaving shows it first.
BOUNDS = (
    ("forest.h", "k < count; k += team_.warps()", "k < count - OFF; k += team_.warps()", 1),
    ("forest.h", "k < free_cols_; k += size_", "k < free_cols_ - OFF; k += size_", 2),
    ("row_lists.h", "from < p.cols; from +=", "from < p.cols - OFF; from +=", 2),
    ("whole_rows.h", "k < those.count)", "k < those.count - OFF)", 1),
    ("warp_paths.h", "Optimal && i < rows_;", "Optimal && i < rows_ - OFF;", 1),
    ("fours.h", "first[a] < p.cols ? first[a]", "first[a] < p.cols + OFF ? first[a]", 1),
)


@pytest.fixture(scope="module")
def check(tmp_path_factory):
    """One program for all: an instrumented build takes longer than most that is done with it."""
    folder = tmp_path_factory.mktemp("check")
    kernels = shutil.copytree(KERNELS, folder / "cuda")
    plant(kernels, "host/cuda_runtime.h", BOUNDS)
    return build_check(folder / "check", compiled(tmp_path_factory, "address"), kernels)


@needs_fibers
def test_clean_under_sanitizers(check):
    """One seed has every kind of costs with every team; `make races` takes three interleavings."""
    for seed in SEEDS[: 3 if "BMATCH_RACES" in os.environ else 1]:
        done = run_check(check, seed, 48, 60)
        assert done.returncode == 0, done.stdout + done.stderr


@needs_fibers
@pytest.mark.parametrize("number", range(len(BOUNDS)), ids=[f"{b[0]} {b[1]}" for b in BOUNDS])
def test_a_bound_off_by_one_is_caught(number, check):
    first = BOUNDS[number][3]
    seeds = sorted(SEEDS, key=lambda seed: seed != first)
    assert caught(check, seeds, FAULT=str(number))


@pytest.mark.skipif(not LOGS, reason="nvcc has not built these kernels here")
def test_nvcc_spills_nothing():
    """For the devices of setup.py, as the extension was built for them."""
    log = LOGS[0].read_text()
    assert set(re.findall(r"Compiling entry function '.*' for '(\w+)'", log)) == {"sm_80", "sm_90"}
    spills = re.findall(r"(\d+) bytes spill stores, (\d+) bytes spill loads", log)
    assert len(spills) >= 8
    assert set(spills) == {("0", "0")}, log
