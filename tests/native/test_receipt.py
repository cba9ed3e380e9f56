"""The reports of a solve on a device: memory that is handed out, with CUDA's runtime played."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from sources import COMPILER, FLAGS, KERNELS, ROOT

NATIVE = ROOT / "tests/native"
SANITIZED = ["-g1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]

FAULTS = {
    "": "",
    "one->device != device": "device < 0",
    "|| !is_written(*one)": "",
    "    mailbox_.release();\n    return;\n": "",
    "if (box.room >= problems) return;": "if (box.end != nullptr) return;",
    "mailbox_->state == State::unknown": "mailbox_->state != State::written",
}


@pytest.mark.skipif(shutil.which(COMPILER) is None, reason=f"needs {COMPILER}")
@pytest.mark.parametrize(("before", "after"), FAULTS.items())
def test_memory_is_nobody_elses_until_it_is_written(before, after, tmp_path):
    """And where the code is made wrong, the check says so."""
    code = (KERNELS / "receipt.cu").read_text()
    assert before in code
    (tmp_path / "receipt.cu").write_text(code.replace(before, after, 1))
    shutil.copy(KERNELS / "receipt.h", tmp_path)
    shutil.copy(KERNELS / "solver.h", tmp_path)
    shutil.copy(NATIVE / "receipt_runtime.h", tmp_path / "launch.h")
    include = [f"-I{tmp_path}", f"-I{NATIVE}", f"-I{ROOT / 'csrc'}"]
    command = [COMPILER, *FLAGS, *SANITIZED, *include, NATIVE / "receipt_check.cpp"]
    command += ["-x", "c++", tmp_path / "receipt.cu", "-o", tmp_path / "check"]
    subprocess.run([str(part) for part in command], check=True)
    environment = {"ASAN_OPTIONS": "detect_leaks=0"}
    done = subprocess.run(
        [tmp_path / "check"], env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode == 0) == (before == ""), done.stderr
