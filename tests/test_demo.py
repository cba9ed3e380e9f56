"""The demo on its real weights, and the pages that work on the folder it leaves.

One file, so that one process runs the demo, once.
"""

from __future__ import annotations

import io
import json
import re

import pages
import pytest
import torch
from rich.console import Console
from tiny_models import load, tensors_of

from bmatch import SignedPermutation
from bmatch.demo import demo_table

README = pages.ROOT / "README.md"


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


@pytest.mark.parametrize(
    "page", [page for page in pages.PAGES if pages.needs_demo(page)], ids=lambda page: page.stem
)
def test_pages_run_beside_the_demo(page, demo, monkeypatch, tmp_path):
    (tmp_path / "bmatch-demo").symlink_to(demo.folder)
    (tmp_path / "README.md").symlink_to(pages.ROOT / "README.md")
    monkeypatch.chdir(tmp_path)
    pages.check(page)
    secret = SignedPermutation.load("bmatch-demo/secret_target.safetensors")
    assert SignedPermutation.load("gauge.safetensors") == secret


def test_demo_output_is_the_demos_own(demo):
    """What does not depend on the machine stands on its page as the demo prints it."""
    console = Console(file=io.StringIO(), width=100)
    console.print(demo_table(demo.result))
    lines = [line.rstrip() for line in console.file.getvalue().splitlines()]
    until = next(k for k, line in enumerate(lines) if "same function" in line)
    blocks = pages.blocks(pages.ROOT / "docs" / "demo.md")
    printed = next(block.code for block in blocks if block.language == "text").splitlines()
    assert [line.rstrip() for line in printed[:until]] == lines[:until]


def test_the_readmes_figures_are_the_demos(demo):
    found = demo.result
    signed, raw, _ = found.recoveries
    rows = re.findall(r"^\| (.*) \| ([\d.]+)%? \|$", README.read_text(), re.MULTILINE)
    recovered, without_signs, ceiling, weights, before, after = (float(row[1]) for row in rows)
    assert recovered == 100 * signed.index_and_sign
    assert without_signs == round(100 * raw.index_and_sign, 2)
    assert ceiling == round(100 * found.ceiling, 2)
    assert weights == found.weights_realigned
    assert before == pytest.approx(found.loss_merged_before, abs=0.02)
    assert after == pytest.approx(found.loss_merged_after, abs=0.02)
