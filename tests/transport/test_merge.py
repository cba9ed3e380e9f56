"""Merges in one model's coordinates: what lay elsewhere comes out as if it had been there."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file
from tiny_models import WIDTH, in_gauge, logits, noisy_copy, tiny_model
from transformers import AutoModelForCausalLM

from bmatch import SignedPermutation
from bmatch.transport import Merged, merge

GAUGE = SignedPermutation.random(WIDTH, seed=3)


def weights(folder):
    found = {}
    for file in folder.glob("*.safetensors"):
        found |= load_file(file)
    return found


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A base and two relatives, the second in other coordinates, and where it was."""
    root = tmp_path_factory.mktemp("merge")
    base = tiny_model()
    one, two = noisy_copy(base, 0.1, 1), noisy_copy(base, 0.1, 2)
    models = {"base": base, "one": one, "two": two, "moved": in_gauge(two, GAUGE)}
    for name, model in models.items():
        model.save_pretrained(root / name, max_shard_size="20KB")
    return root


def test_an_average_has_the_shares_that_it_is_given(folders, tmp_path):
    others = [Merged(folders / "one", weight=2.0), Merged(folders / "moved", GAUGE.inverse(), 1.0)]
    merge(folders / "base", others, tmp_path / "out", base_weight=1.0)
    base, one, two = (weights(folders / name) for name in ("base", "one", "two"))
    for name, tensor in weights(tmp_path / "out").items():
        expected = (base[name].double() + 2 * one[name].double() + two[name].double()) / 4
        torch.testing.assert_close(tensor.double(), expected, rtol=1e-6, atol=1e-6)
    with torch.no_grad():
        assert logits(AutoModelForCausalLM.from_pretrained(tmp_path / "out")).isfinite().all()


def test_task_arithmetic_adds_changes(folders, tmp_path):
    others = [Merged(folders / "one", None, 0.7), Merged(folders / "moved", GAUGE.inverse(), -0.5)]
    merge(folders / "base", others, tmp_path / "out", "task_arithmetic")
    base, one, two = (weights(folders / name) for name in ("base", "one", "two"))
    for name, tensor in weights(tmp_path / "out").items():
        b, a, c = (w[name].double() for w in (base, one, two))
        expected = b + 0.7 * (a - b) - 0.5 * (c - b)
        torch.testing.assert_close(tensor.double(), expected, rtol=1e-6, atol=1e-6)


def test_bad_input(folders, tmp_path):
    tiny_model(intermediate_size=24).save_pretrained(tmp_path / "narrow")
    out = tmp_path / "out"
    with pytest.raises(ValueError, match="only models of one shape"):
        merge(folders / "base", [Merged(tmp_path / "narrow")], out)
    with pytest.raises(ValueError, match="the gauge acts on 7"):
        merge(folders / "base", [Merged(folders / "one", SignedPermutation.identity(7))], out)
    with pytest.raises(ValueError, match="add up to 0"):
        merge(folders / "base", [Merged(folders / "one", None, -1.0)], out)
    with pytest.raises(ValueError, match="method must be one of"):
        merge(folders / "base", [Merged(folders / "one")], out, "ties")
    with pytest.raises(ValueError, match="nothing to merge"):
        merge(folders / "base", [], out)
    assert not out.exists()
