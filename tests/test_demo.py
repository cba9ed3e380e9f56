"""The demo on its real weights, and the README, which runs as printed in the folder it leaves.

One file, so that one process runs the demo, once.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from rich.console import Console
from tiny_models import load, tensors_of

import bmatch
from bmatch import SignedPermutation
from bmatch.demo import demo_table

README = Path(bmatch.__file__).parents[1] / "README.md"
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README.read_text(), re.MULTILINE | re.DOTALL)


def test_signed_matching_recovers_everything_and_raw_the_ceiling(demo):
    signed, raw, unsigned = demo.result.recoveries
    assert demo.result.dim == 576
    assert (signed.index, signed.index_and_sign) == (1.0, 1.0)
    assert raw.index_and_sign == demo.result.ceiling
    assert (unsigned.index, unsigned.index_and_sign) == (1.0, demo.result.ceiling)
    secret = SignedPermutation.load(demo.folder / "secret_target.safetensors")
    assert SignedPermutation.load(demo.folder / "gauge.safetensors") == secret
    assert demo.result.margin_least > 0.5
    assert demo.result.mean_abs_off_diagonal < 0.1


def test_two_hops_compose_to_the_direct_gauge(demo):
    assert demo.result.hops == [1.0, 1.0]
    assert demo.result.composed == demo.result.direct == 1.0


def test_function_and_weights_come_back(demo):
    assert demo.result.logits_target < 1e-3
    assert demo.result.logits_realigned < 1e-3
    assert demo.result.weights_realigned == 0.0
    assert demo.result.largest_logit > 10


def test_merging_works_after_alignment_only(demo):
    assert demo.result.loss_merged_after < demo.result.loss_target
    assert demo.result.loss_merged_before > demo.result.loss_target + 2


def test_folders_load_as_they_should(demo):
    for name in ("source", "target"):
        model = load(demo.folder / name)
        assert model.lm_head.weight is model.model.embed_tokens.weight
    gains = [tensors_of(demo.folder / name)["model.norm.weight"] for name in ("source", "target")]
    assert not torch.equal(*gains)
    assert torch.equal(gains[0].sort().values, gains[1].sort().values)


def test_figures_and_picture_are_left_behind(demo):
    figures = json.loads((demo.folder / "demo.json").read_text())
    assert figures["recoveries"][0]["index_and_sign"] == 1.0
    assert max(phase["peak_bytes"] for phase in figures["phases"]) < 4 * 2**30
    assert all(phase["seconds"] > 0 for phase in figures["phases"])
    picture = (demo.folder / "demo.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    kept = {path.name for path in demo.folder.iterdir()}
    assert kept == {
        *("source", "target", "third", "realigned", "demo.json", "demo.png"),
        *("gauge.safetensors", "secret_target.safetensors", "secret_third.safetensors"),
    }


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
