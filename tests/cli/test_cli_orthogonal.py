"""What `bmatch info` tells of gains, and the orthogonal group through all commands."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors import safe_open
from tiny_models import WIDTH, in_gauge, load, logits, noisy_copy, tiny_model

import bmatch
from bmatch import OrthogonalGauge, SignedPermutation
from bmatch.architecture import residual_axes


@pytest.fixture(scope="module")
def flat_pair(tmp_path_factory, tokenizer):
    """Two checkpoint folders with folded gains, a rotation apart, and the rotation."""
    root = tmp_path_factory.mktemp("flat")
    source = tiny_model(tied=False)
    axes = residual_axes(source)
    with torch.no_grad():
        for name, p in source.named_parameters():
            if axes.rule(name).role == "gain":
                p.fill_(1.0)
    secret = OrthogonalGauge.random(WIDTH, seed=5)
    target = in_gauge(noisy_copy(source, 0.01, 1), secret)
    for name, model in (("source", source), ("target", target)):
        model.save_pretrained(root / name, max_shard_size="20KB")
        tokenizer.save_pretrained(root / name)
    return root / "source", root / "target", secret


def test_a_rotation_is_found_applied_and_composed(bmatch_, flat_pair, tmp_path):
    source, target, secret = flat_pair
    options = ("--tokens", 800, "--group", "orthogonal")
    code, out, _ = bmatch_("align", source, target, *options, "--out", tmp_path / "g")
    assert code == 0
    assert "orthogonal" in out
    assert "mean singular value" in out
    g = bmatch.load_gauge(tmp_path / "g")
    assert isinstance(g, OrthogonalGauge)
    assert g.distance(secret) < 0.05
    code, out, _ = bmatch_("align", target, source, *options, "--json", "-o", tmp_path / "h")
    assert json.loads(out)["undetermined"] == 0
    assert json.loads(out)["metadata"]["matched_group"] == "orthogonal"
    assert bmatch_("compose", tmp_path / "h", tmp_path / "g", "--out", tmp_path / "hg")[0] == 0
    code, out, _ = bmatch_("info", tmp_path / "hg", "--json")
    told = json.loads(out)
    assert (told["group"], told["coordinates"]) == ("orthogonal", WIDTH)
    assert told["distance_from_identity"] < 0.05

    code, _, err = bmatch_("apply", tmp_path / "g", source, "--out", tmp_path / "moved")
    assert (code, "note" in err) == (0, False)
    before, after = logits(load(source)), logits(load(tmp_path / "moved"))
    assert (before - after).abs().max() <= 1e-4 * before.abs().max()
    SignedPermutation.random(WIDTH, seed=0).save(tmp_path / "s")
    assert bmatch_("apply", tmp_path / "s", tmp_path / "moved", "-o", tmp_path / "twice")[0] == 0
    for folder, group in (("moved", "orthogonal"), ("twice", "orthogonal")):
        for shard in (tmp_path / folder).glob("*.safetensors"):
            with safe_open(shard, framework="pt") as file:
                assert file.metadata() == {"format": "pt", "bmatch_group": group}


def test_info_tells_whether_gains_are_generic(bmatch_, pair, flat_pair, tmp_path):
    told = json.loads(bmatch_("info", flat_pair[0], "--json")[1])
    assert told["gains"] == "all 1, as folding leaves them"
    assert (told["gauge_group"], told["whole_gauge"]) == ("signed_permutation", "orthogonal")
    told = json.loads(bmatch_("info", pair[0], "--json")[1])
    assert (told["gains"], told["whole_gauge"]) == ("generic", "signed_permutation")
    assert told["coordinates_of_equal_gains"] == "none"
    assert 0 < told["nearest_gains_differ_by"] < 1
    model = tiny_model()
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "norm" in name:
                p[10:30] = p[10].clone()
                p[[2, 5]] = p[1].clone() * torch.tensor([1.0, -2.0])
    model.save_pretrained(tmp_path / "planted")
    told = json.loads(bmatch_("info", tmp_path / "planted", "--json")[1])
    assert told["whole_gauge"].endswith("rotations within 2 groups of equal gains")
    assert told["coordinates_of_equal_gains"] == "1 2; 10 11 12 13 14 15 16 17 and 12 more"
    assert told["coordinates_of_proportional_gains"] == "1 2 5"


def test_generic_gains_are_refused_with_the_reason(bmatch_, pair, flat_pair, tmp_path):
    code, _, err = bmatch_("align", *pair, "--group", "orthogonal", "--out", tmp_path / "g")
    assert code == 1
    assert "is signed_permutation and not orthogonal: gains of model." in err
    flat_pair[2].save(tmp_path / "r")
    code, _, err = bmatch_("apply", tmp_path / "r", pair[0], "--out", tmp_path / "new")
    assert code == 1
    assert "only equal gains let themselves be rotated" in err
    assert not (tmp_path / "new").exists()
