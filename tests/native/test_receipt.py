"""The reports of a solve on a device: memory that is handed out, with CUDA's runtime played."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest
from sources import COMPILER, FLAGS, KERNELS, ROOT
from switches import plant

NATIVE = ROOT / "tests/native"
SANITIZED = ["-g1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
pytestmark = pytest.mark.skipif(shutil.which(COMPILER) is None, reason=f"needs {COMPILER}")

FAULTS = (
    ("one->device != device", "(OFF ? device < 0 : one->device != device)"),
    ("!is_written(*one)", "(!OFF && !is_written(*one))"),
    ("mailbox_.release();\n    return;\n", "if (!OFF) {\nmailbox_.release();\nreturn;\n}\n"),
    ("box.room >= problems", "OFF ? box.end != nullptr : box.room >= problems"),
    (
        "mailbox_->state == State::unknown",
        "OFF ? mailbox_->state != State::written : mailbox_->state == State::unknown",
    ),
)


@pytest.fixture(scope="module")
def check(tmp_path_factory):
    folder = tmp_path_factory.mktemp("check")
    for path in (KERNELS / "receipt.cu", KERNELS / "receipt.h", KERNELS / "solver.h"):
        shutil.copy(path, folder)
    shutil.copy(NATIVE / "receipt_runtime.h", folder / "launch.h")
    plant(folder, "launch.h", [("receipt.cu", *fault) for fault in FAULTS])
    include = [f"-I{folder}", f"-I{NATIVE}", f"-I{ROOT / 'csrc'}"]
    command = [COMPILER, *FLAGS, *SANITIZED, *include, NATIVE / "receipt_check.cpp"]
    command += ["-x", "c++", folder / "receipt.cu", "-o", folder / "check"]
    subprocess.run([str(part) for part in command], check=True)
    return folder / "check"


@pytest.mark.parametrize("fault", range(-1, len(FAULTS)))
def test_memory_is_nobody_elses_until_it_is_written(fault, check):
    """And where the code is made wrong, the check says so."""
    environment = {**os.environ, "ASAN_OPTIONS": "detect_leaks=0", "FAULT": str(fault)}
    done = subprocess.run([check], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode == 0) == (fault == -1), done.stderr
