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


def run(program, seed, problems, most_rows, limit=None):
    return subprocess.run(
        [program, *map(str, (seed, problems, most_rows))],
        capture_output=True,
        text=True,
        check=False,
        timeout=limit,
        env={**os.environ, "ASAN_OPTIONS": "detect_leaks=0"},
    )


@needs_fibers
def test_clean_under_sanitizers(host_solver, tmp_path):
    program = build(tmp_path / "cuda_check", host_solver, SANITIZED)
    for seed in SEEDS:
        done = run(program, seed, 33, 60)
        assert done.returncode == 0, done.stdout + done.stderr


BARRIER = re.compile(r"^ *(?:team_?\.sync\(\)|__syncthreads\(\)|__syncwarp\(\));\n", re.MULTILINE)


def barriers():
    """Every barrier of the kernels: file, and which of the file's."""
    for path in [*sorted(KERNELS.glob("*.h")), *sorted(KERNELS.glob("*.cu"))]:
        for number, _ in enumerate(BARRIER.finditer(path.read_text())):
            yield path.name, number


BOUNDS = (
    ("forest.h", "k < count; k += team_.warps()", "k < count - 1; k += team_.warps()"),
    ("forest.h", "k < free_cols_; k += size_", "k < free_cols_ - 1; k += size_"),
    ("row_lists.h", "first < p.cols; first +=", "first < p.cols - 1; first +="),
    ("row_lists.h", "if (first + kBinsOfLane <= p.cols", "if (first + kBinsOfLane <= p.cols + 1"),
)


def mutant(folder, name, change):
    """A copy of the kernels in which one file is changed."""
    shutil.copytree(KERNELS, folder / "cuda")
    path = folder / "cuda" / name
    text = path.read_text()
    changed = change(text)
    assert changed != text
    path.write_text(changed)
    return folder / "cuda"


def caught(program):
    """Whether some interleaving goes wrong: a wrong answer, a deadlock, a crash."""
    for seed in SEEDS:
        try:
            if run(program, seed, 66, 100, limit=60).returncode != 0:
                return True
        except subprocess.TimeoutExpired:
            return True
    return False


@needs_fibers
@pytest.mark.parametrize(("name", "before", "after"), BOUNDS)
def test_a_bound_off_by_one_is_caught(name, before, after, host_solver, tmp_path):
    kernels = mutant(tmp_path, name, lambda text: text.replace(before, after, 1))
    assert caught(build(tmp_path / "check", host_solver, SANITIZED, kernels))


ALL = "BMATCH_ALL_BARRIERS" in os.environ  # make barriers: each takes half a minute


@needs_fibers
@pytest.mark.parametrize(
    ("name", "number"), list(barriers()) if ALL else [("team.h", 0), ("solve.h", 1)]
)
def test_a_missing_barrier_is_caught(name, number, host_solver, tmp_path):
    def remove(text):
        place = list(BARRIER.finditer(text))[number]
        return text[: place.start()] + text[place.end() :]

    kernels = mutant(tmp_path, name, remove)
    assert caught(build(tmp_path / "check", host_solver, ["-O1"], kernels))


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
