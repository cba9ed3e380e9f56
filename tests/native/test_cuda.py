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


# Bounds of loops and reads, each with a switch, off by one where the environment says so; and the
# seed whose interleaving shows it first.
BOUNDS = (
    ("forest.h", "k < count; k += team_.warps()", "k < count - OFF; k += team_.warps()", 1),
    ("forest.h", "k < free_cols_; k += size_", "k < free_cols_ - OFF; k += size_", 2),
    ("row_lists.h", "from < p.cols; from +=", "from < p.cols - OFF; from +=", 1),
    ("whole_rows.h", "k < those.count)", "k < those.count - OFF)", 1),
    ("warp_paths.h", "Optimal && i < rows_;", "Optimal && i < rows_ - OFF;", 1),
    ("fours.h", "first[a] < p.cols ? first[a]", "first[a] < p.cols + OFF ? first[a]", 1),
)
SWITCH = """
namespace planted {
inline const char* const text = std::getenv("BOUND_OFF");
inline const int chosen = text == nullptr ? -1 : std::atoi(text);
inline int off(int bound) { return bound == chosen; }
}  // namespace planted
"""


@pytest.fixture(scope="module")
def check(host_solver, tmp_path_factory):
    """One program for all: an instrumented build takes longer than most that is done with it."""
    folder = tmp_path_factory.mktemp("check")
    kernels = shutil.copytree(KERNELS, folder / "cuda")
    runtime = kernels / "host/cuda_runtime.h"
    runtime.write_text(runtime.read_text() + SWITCH)
    for number, (name, before, after, _) in enumerate(BOUNDS):
        text = (kernels / name).read_text()
        assert before in text
        switched = after.replace("OFF", f"planted::off({number})")
        (kernels / name).write_text(text.replace(before, switched, 1))
    return build_check(folder / "check", host_solver, SANITIZED, kernels)


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
    assert caught(check, seeds, BOUND_OFF=str(number))


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
    plain = (copy / "setup.py").read_text().replace('"-O3"', '"-O0"')  # nothing is timed here
    (copy / "setup.py").write_text(plain)
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
