"""The C++ of the CPU under sanitizers, without Python in between."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess

import pytest
from sanitized import SANITIZERS, command, compile_all, compiled
from sources import COMPILER, ROOT

CHECKS = ("files_check", "kernels_check", "solver_check", "correlation_check", "factor_check")
THREADED = tuple(name for name in CHECKS if name != "kernels_check")
# Rounds of the solver's check, and instruction sets. 27 rounds have every kind of costs with every
# number of threads. Threads meet in the same places whatever the costs, and none begins in what an
# instruction set has of its own. Reads out of bounds are sought in three sizes of each, on all.
SOLVER = {"address": ("81",), "thread": ("27", "1")}
if "BMATCH_RACES" in os.environ:  # `make races`
    SOLVER = {"address": (), "thread": ()}


@pytest.mark.skipif(shutil.which(COMPILER) is None, reason=f"{COMPILER} is not installed")
@pytest.mark.parametrize("sanitizer", SANITIZERS)
def test_clean_under_sanitizers(sanitizer, tmp_path, tmp_path_factory):
    cpu = compiled(tmp_path_factory, sanitizer)
    names = CHECKS if sanitizer == "address" else THREADED
    checks = [ROOT / "tests/native" / f"{name}.cpp" for name in names]
    for check in compile_all(checks, tmp_path, sanitizer):
        program = tmp_path / check.stem
        link = [*command(sanitizer), check, cpu, "-pthread", "-o", program]
        subprocess.run(link, check=True)
        arguments = SOLVER[sanitizer] if check.stem.endswith("solver_check.cpp") else ()
        run = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
        assert run.returncode == 0, run.stdout + run.stderr


ARM_COMPILER, ARM_EMULATOR = "aarch64-linux-gnu-g++", "qemu-aarch64"
MISSING = [tool for tool in (ARM_COMPILER, ARM_EMULATOR, "make") if shutil.which(tool) is None]


@pytest.mark.skipif(bool(MISSING), reason=f"{' and '.join(MISSING)} not installed")
def test_portable_kernels_on_64_bit_arm():
    """The target `arm` of the Makefile, whose objects are kept from run to run."""
    jobs = f"-j{os.cpu_count()}"
    run = subprocess.run(
        ["make", "-s", jobs, "arm"], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout == len(CHECKS) * "all checked\n"
    units = sorted((ROOT / "build/arm/csrc").glob("*/kernels/*avx*.o"))
    assert len(units) == 4
    for unit in units:
        names = subprocess.run(
            ["aarch64-linux-gnu-nm", unit], capture_output=True, text=True, check=True
        )
        assert names.stdout == ""  # nothing of another machine's instruction set


@pytest.mark.skipif(shutil.which("nm") is None, reason="nm is not installed")
def test_loading_the_extension_runs_no_code_of_an_instruction_set():
    """Tables of kernels that are filled in as it is loaded end the process on a machine without."""
    from bmatch import _core

    symbols = subprocess.run(["nm", _core.__file__], capture_output=True, text=True, check=True)
    names = [line.split()[-1] for line in symbols.stdout.splitlines()]
    assert any("kAvx512Kernels" in name for name in names) == (platform.machine() == "x86_64")
    assert not [name for name in names if name.startswith("_GLOBAL__sub_I") and "avx" in name]
