"""The CUDA solver's own code: by fibers under sanitizers, with planted faults, and by nvcc."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys

import pytest
from fibers import KERNELS, ROOT, SEEDS, build_check, caught, needs_fibers, run_check

SANITIZED = ["-O1", "-g1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
needs_nvcc = pytest.mark.skipif(shutil.which("nvcc") is None, reason="nvcc is not installed")


@needs_fibers
def test_clean_under_sanitizers(host_solver, tmp_path):
    program = build_check(tmp_path / "cuda_check", host_solver, SANITIZED)
    for seed in SEEDS[:3]:
        done = run_check(program, seed, 48, 60)
        assert done.returncode == 0, done.stdout + done.stderr


BOUNDS = (
    ("forest.h", "k < count; k += team_.warps()", "k < count - 1; k += team_.warps()"),
    ("forest.h", "k < free_cols_; k += size_", "k < free_cols_ - 1; k += size_"),
    ("row_lists.h", "from < p.cols; from +=", "from < p.cols - 1; from +="),
    ("whole_rows.h", "k < those.count)", "k < those.count - 1)"),
    ("warp_paths.h", "Optimal && i < rows_;", "Optimal && i < rows_ - 1;"),
    ("fours.h", "first[a] < p.cols ? first[a]", "first[a] <= p.cols ? first[a]"),
)


@needs_fibers
@pytest.mark.parametrize(("name", "before", "after"), BOUNDS)
def test_a_bound_off_by_one_is_caught(name, before, after, host_solver, tmp_path):
    kernels = shutil.copytree(KERNELS, tmp_path / "cuda")
    text = (kernels / name).read_text()
    assert before in text
    (kernels / name).write_text(text.replace(before, after, 1))
    assert caught(build_check(tmp_path / "check", host_solver, SANITIZED, kernels))


@needs_nvcc
def test_nvcc_spills_nothing(tmp_path):
    """For the devices of setup.py, one at a time."""
    command = ["nvcc", "-std=c++17", "-O3", "-fmad=false", "--expt-relaxed-constexpr", "-c"]
    command += ["-Xptxas=-v", "-Werror=all-warnings", f"-I{ROOT / 'csrc'}"]
    command += ['-DBMATCH_CUDA_COMPILED="test"', "--generate-code=arch=compute_90,code=sm_90"]
    done = subprocess.run(
        [*command, KERNELS / "solver.cu", "-o", tmp_path / "solver.o"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    spills = re.findall(r"(\d+) bytes spill stores, (\d+) bytes spill loads", done.stderr)
    assert len(spills) >= 4
    assert set(spills) == {("0", "0")}, done.stderr


def test_without_nvcc_a_stand_in_is_built(tmp_path):
    """`BMATCH_CUDA=0`: the module loads, and says why a device cannot be used."""
    copy = tmp_path / "copy"
    shutil.copytree(ROOT / "csrc", copy / "csrc")
    (copy / "bmatch").mkdir()
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE", "bmatch/_version.py"):
        shutil.copy(ROOT / name, copy / name)
    for package in ("bmatch", "bmatch/kernels", "bmatch/transport"):
        (copy / package).mkdir(exist_ok=True)
        (copy / package / "__init__.py").touch()
    environment = {**os.environ, "BMATCH_CUDA": "0"}
    subprocess.run(
        [sys.executable, "setup.py", "-q", "build_ext", "--inplace"],
        cwd=copy,
        env=environment,
        check=True,
        capture_output=True,
    )
    code = "from bmatch._core import cuda_facts as f; print(f().built, f().devices, f().trouble)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=copy, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("False 0 bmatch was built without CUDA")
