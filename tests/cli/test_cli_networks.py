"""``bmatch align --spaces``, and gauges of all spaces in ``apply``, ``compose`` and ``info``."""

from __future__ import annotations

import json

import pytest
from networks import model_of
from tiny_models import tensors_of

import bmatch
from bmatch.models.checkpoint import open_checkpoint
from bmatch.models.network_files import NetworkFiles
from bmatch.network_gauge import NetworkGauge
from bmatch.transport import network_checkpoint


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A model, and two copies of it, each in a gauge of its own of all spaces."""
    root = tmp_path_factory.mktemp("networks")
    model_of("llama")[0].save_pretrained(root / "base", max_shard_size="60KB")
    axes = NetworkFiles(open_checkpoint(root / "base")).axes
    for seed, name in enumerate(("one", "other")):
        network_checkpoint(root / "base", NetworkGauge.random(axes, seed), root / name)
    return root


def test_round_trip(bmatch_, folders, tmp_path):
    one, other = folders / "one", folders / "other"
    code, out, _ = bmatch_("align", one, other, "--spaces", "all", "-o", tmp_path / "g")
    assert code == 0
    assert "objective 1.0000 after 1 pass" in out
    g = NetworkGauge.load(tmp_path / "g")
    assert g.metadata["evidence"] == "weights"
    assert {"residual", "model.layers.1.mlp coordinates"} < g.keys()

    assert bmatch_("apply", tmp_path / "g", one, "-o", tmp_path / "moved")[0] == 0
    wanted, moved = tensors_of(other), tensors_of(tmp_path / "moved")
    assert all(wanted[name].equal(moved[name]) for name in wanted)
    code, _, err = bmatch_("apply", tmp_path / "g", other, "--inverse", "-o", tmp_path / "back")
    assert (code, "note" in err) == (0, False)
    first, back = tensors_of(one), tensors_of(tmp_path / "back")
    assert all(first[name].equal(back[name]) for name in first)

    g.inverse().save(tmp_path / "h")
    assert bmatch_("compose", tmp_path / "h", tmp_path / "g", "-o", tmp_path / "hg")[0] == 0
    assert NetworkGauge.load(tmp_path / "hg").is_identity
    code, out, _ = bmatch_("info", tmp_path / "g", "--json")
    assert json.loads(out)["spaces"] == len(g)


def test_some_kinds_of_spaces(bmatch_, folders, tmp_path):
    axes = NetworkFiles(open_checkpoint(folders / "base")).axes
    residual = {"residual": bmatch.SignedPermutation.random(axes.residual.size, seed=5)}
    network_checkpoint(folders / "base", NetworkGauge(residual), tmp_path / "moved")
    pair = (folders / "base", tmp_path / "moved")
    code, out, _ = bmatch_("align", *pair, "--spaces", "residual", "--json", "-o", tmp_path / "g")
    assert code == 0
    figures = json.loads(out)
    assert figures["settled"] is True
    assert figures["spaces"]["residual"]["kind"] == "residual"
    assert bmatch.SignedPermutation.load(tmp_path / "g") == residual["residual"]


def test_bad_input(bmatch_, folders, pair, tmp_path):
    one = folders / "one"
    code, _, err = bmatch_("align", one, one, "--spaces", "minds", "-o", tmp_path / "g")
    assert code == 1
    assert "spaces must be 'all' or some of residual, neurons, heads, experts" in err
    code, _, err = bmatch_("align", one, pair[0], "--spaces", "all", "-o", tmp_path / "g")
    assert code == 1
    assert "do not have the same spaces" in err
    assert not (tmp_path / "g").exists()
    NetworkGauge({"minds": bmatch.SignedPermutation.identity(4)}).save(tmp_path / "wrong")
    code, _, err = bmatch_("apply", tmp_path / "wrong", one, "-o", tmp_path / "out")
    assert code == 1
    assert "the model has no space minds" in err
    assert not (tmp_path / "out").exists()
