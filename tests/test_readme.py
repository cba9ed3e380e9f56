"""The README runs as printed: its Python and its shell, in the folder that the demo leaves."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

import bmatch
from bmatch.demo import demo_table

pytestmark = pytest.mark.xdist_group("demo")

README = Path(bmatch.__file__).parents[1] / "README.md"
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README.read_text(), re.MULTILINE | re.DOTALL)


@pytest.fixture
def beside_demo(demo, monkeypatch, tmp_path):
    """A working folder with the demo's folder and the README in it."""
    (tmp_path / "bmatch-demo").symlink_to(demo.folder)
    (tmp_path / "README.md").symlink_to(README)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_python_blocks_print_what_stands_below_them(beside_demo):
    namespace = {}
    ran = 0
    for k, (language, code) in enumerate(BLOCKS):
        if language != "python":
            continue
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(code, namespace)
        below, expected = BLOCKS[k + 1]
        assert below == "text"
        assert printed.getvalue() == expected
        ran += 1
    assert ran == 3


def test_shell_blocks_run(beside_demo):
    commands = [
        line for language, code in BLOCKS if language == "bash" for line in code.splitlines()
    ]
    assert len(commands) >= 4
    for command in commands:
        program, *arguments = shlex.split(command)
        assert program == "bmatch"
        done = subprocess.run(
            [sys.executable, "-m", "bmatch", *arguments],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "COLUMNS": "100"},
        )
        assert done.returncode == 0, done.stderr
    assert bmatch.SignedPermutation.load("gauge.safetensors") == bmatch.SignedPermutation.load(
        "bmatch-demo/secret_target.safetensors"
    )


def test_the_two_commands_are_targets_of_the_makefile():
    (install,) = (code for language, code in BLOCKS if language == "sh")
    makefile = (README.parent / "Makefile").read_text()
    for line in install.splitlines():
        target = line.split("#")[0].split()[1]
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)


def test_demo_output_is_the_demos_own(demo):
    """What does not depend on the machine stands in the README as the demo prints it."""
    console = Console(file=io.StringIO(), width=100)
    console.print(demo_table(demo.result))
    lines = [line.rstrip() for line in console.file.getvalue().splitlines()]
    until = next(k for k, line in enumerate(lines) if "same function" in line)
    printed = next(code for language, code in BLOCKS if language == "text").splitlines()
    assert [line.rstrip() for line in printed[:until]] == lines[:until]
