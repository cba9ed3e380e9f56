"""The CUDA solver's own code: by fibers under sanitizers, with planted faults, and by nvcc."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys

import pytest
from fibers import COMPILER, ROOT, compile_fibers

KERNELS = ROOT / "csrc/cuda"
SANITIZED = ["-O1", "-g1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
SEEDS = (1, 2, 3, 4, 5)

needs_fibers = pytest.mark.skipif(
    shutil.which(COMPILER) is None or os.uname().machine != "x86_64",
    reason=f"fibers need {COMPILER} and x86-64",
)
needs_nvcc = pytest.mark.skipif(shutil.which("nvcc") is None, reason="nvcc is not installed")


@pytest.fixture(scope="module")
def host_solver(tmp_path_factory):
    """The CPU solver, which the answers are held against, as an archive."""
    folder = tmp_path_factory.mktemp("host")
    objects = []
    for source in sorted((ROOT / "csrc/assignment").glob("*.cpp")):
        objects.append(folder / f"{source.stem}.o")
        command = [COMPILER, "-std=c++17", "-O2", "-ffp-contract=off", f"-I{ROOT / 'csrc'}"]
        subprocess.run([*command, "-c", source, "-o", objects[-1]], check=True)
    subprocess.run(["ar", "rcs", folder / "libhost.a", *objects], check=True)
    return folder


def build(target, host_solver, flags, kernels=KERNELS):
    check = ROOT / "tests/native/cuda_check.cpp"
    library = [f"-L{host_solver}", "-Wl,--no-as-needed", "-pthread"]
    compile_fibers(check, target, *flags, *library, kernels=kernels, libraries=["-lhost"])
    return target


def run(program, seed, problems, most_rows, **environment):
    return subprocess.run(
        [program, *map(str, (seed, problems, most_rows))],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "ASAN_OPTIONS": "detect_leaks=0", **environment},
    )


@needs_fibers
def test_clean_under_sanitizers(host_solver, tmp_path):
    program = build(tmp_path / "cuda_check", host_solver, SANITIZED)
    for seed in SEEDS[:3]:
        done = run(program, seed, 36, 60)
        assert done.returncode == 0, done.stdout + done.stderr


BOUNDS = (
    ("forest.h", "k < count; k += team_.warps()", "k < count - 1; k += team_.warps()"),
    ("forest.h", "k < free_cols_; k += size_", "k < free_cols_ - 1; k += size_"),
    ("row_lists.h", "first < p.cols; first +=", "first < p.cols - 1; first +="),
    ("row_lists.h", "if (first + kBinsOfLane <= p.cols", "if (first + kBinsOfLane <= p.cols + 1"),
)


def caught(program, **environment):
    """Whether some interleaving goes wrong: wrong answer, deadlock, endless loop or crash."""
    return any(run(program, seed, 36, 100, **environment).returncode != 0 for seed in SEEDS)


@needs_fibers
@pytest.mark.parametrize(("name", "before", "after"), BOUNDS)
def test_a_bound_off_by_one_is_caught(name, before, after, host_solver, tmp_path):
    kernels = shutil.copytree(KERNELS, tmp_path / "cuda")
    text = (kernels / name).read_text()
    assert before in text
    (kernels / name).write_text(text.replace(before, after, 1))
    assert caught(build(tmp_path / "check", host_solver, SANITIZED, kernels))


BARRIER = re.compile(r"(?:team_?\.sync|__syncthreads)\(\);")
PLACES = [
    f"{path.name}:{text.count(chr(10), 0, barrier.start()) + 1}"
    for path in sorted(KERNELS.glob("*.*"))
    for text in [path.read_text()]
    for barrier in BARRIER.finditer(text)
]


@pytest.fixture(scope="module")
def check_without_a_barrier(host_solver, tmp_path_factory):
    """The check, in which the environment says which barrier is missing."""
    folder = tmp_path_factory.mktemp("barriers")
    kernels = shutil.copytree(KERNELS, folder / "cuda")
    runtime = kernels / "host/cuda_runtime.h"
    switch = """
        #include <cstdlib>
        inline bool kept(const char* place) {
          static const char* const missing = std::getenv("MISSING_BARRIER");
          return missing == nullptr || std::strcmp(place, missing) != 0;
        }"""
    runtime.write_text(runtime.read_text() + switch)
    for path in kernels.glob("*.*"):
        lines = path.read_text().split("\n")
        for k, line in enumerate(lines):
            place = f'if (kept("{path.name}:{k + 1}")) '
            lines[k] = BARRIER.sub(lambda barrier, place=place: place + barrier[0], line)
        path.write_text("\n".join(lines))
    program = build(folder / "check", host_solver, ["-O2"], kernels)
    assert run(program, 1, 22, 30).returncode == 0
    return program


@needs_fibers
@pytest.mark.parametrize("place", PLACES)
def test_a_missing_barrier_is_caught(place, check_without_a_barrier):
    assert caught(check_without_a_barrier, MISSING_BARRIER=place)


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
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
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
    code = "import bmatch._core as c; print(c.cuda_facts()); c.solve"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=copy, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("(False, '', 0, 0, 'bmatch was built without CUDA")
