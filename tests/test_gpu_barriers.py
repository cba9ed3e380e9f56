"""Each barrier of the CUDA solver is needed: without it some interleaving of fibers goes wrong."""

from __future__ import annotations

import re
import shutil

import pytest
from fibers import KERNELS, build_check, caught, needs_fibers

BARRIER = re.compile(r"(?:team_?\.sync|__syncthreads|cluster_barrier)\(\);")
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
    program = build_check(folder / "check", host_solver, ["-O2"], kernels)
    assert not caught(program)
    return program


@needs_fibers
@pytest.mark.parametrize("place", PLACES)
def test_a_missing_barrier_is_caught(place, check_without_a_barrier):
    assert caught(check_without_a_barrier, MISSING_BARRIER=place)
