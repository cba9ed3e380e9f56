"""The demo on its real weights: every line of what it must show."""

from __future__ import annotations

import json

import pytest
import torch
from conftest import load, tensors_of

from bmatch import SignedPermutation

pytestmark = pytest.mark.xdist_group("demo")  # one process runs the demo, once


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
