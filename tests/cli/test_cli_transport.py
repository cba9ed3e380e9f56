"""``bmatch transport`` and ``bmatch info`` on objects."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import save_file
from tiny_models import tiny_model

from bmatch import SignedPermutation
from bmatch.cli.transport import told_of
from bmatch.transport import find_object

D = 6
GAUGE = SignedPermutation.random(D, seed=3)
V = torch.randn(4, D, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def files(tmp_path):
    GAUGE.save(tmp_path / "g.safetensors", {"source": "a", "source_sha256": "12"})
    torch.save(V, tmp_path / "v.pt")
    return tmp_path / "g.safetensors", tmp_path / "v.pt"


def test_there_and_back(bmatch_, files, tmp_path):
    gauge, path = files
    code, out, _ = bmatch_("transport", gauge, path, "--out", tmp_path / "new.pt")
    assert code == 0
    assert "directions by layer" in out
    assert torch.equal(torch.load(tmp_path / "new.pt"), GAUGE.apply(V))
    options = ("--inverse", "--kind", "vector", "--json", "-o", tmp_path / "back.pt")
    code, out, _ = bmatch_("transport", gauge, tmp_path / "new.pt", *options)
    told = json.loads(out)
    assert (told["kind"], told["coordinates"], told["tensors_that_move"]) == ("directions", D, 1)
    assert torch.equal(torch.load(tmp_path / "back.pt"), V)
    noted = json.loads((tmp_path / "new.pt.bmatch.json").read_text())
    assert noted["bmatch_source_sha256"] == "12"


def test_an_object_of_other_weights_is_carried_only_if_that_is_asked_for(bmatch_, tmp_path):
    told = {"source": "a", "source_sha256": "12", "target": "b", "target_sha256": "34"}
    GAUGE.save(tmp_path / "g.safetensors", told)
    torch.save(V, tmp_path / "v.pt")
    gauge, there = tmp_path / "g.safetensors", tmp_path / "b.pt"
    assert bmatch_("transport", gauge, tmp_path / "v.pt", "--out", there)[0] == 0
    code, _, err = bmatch_("transport", gauge, there, "--out", tmp_path / "c.pt")
    assert code == 1
    assert "was carried to b (weights of SHA-256 34), and the gauge starts at a (SHA-256 12)" in err
    assert bmatch_("transport", gauge, there, "--other-model", "--out", tmp_path / "c.pt")[0] == 0
    assert torch.equal(torch.load(tmp_path / "c.pt"), GAUGE.apply(GAUGE.apply(V)))


def test_info_of_a_run(tmp_path):
    config = {"model_type": "llama"}
    (tmp_path / "zero").mkdir()
    assert told_of(find_object(tmp_path, model=config)) == {
        "kind": "training run",
        "format": "DeepSpeed, universal form",
        "architecture": "llama",
        "coordinates": 4096,
        "blocks": 32,
    }


def test_info_of_an_object(bmatch_, files):
    told = json.loads(bmatch_("info", files[1], "--json")[1])
    assert (told["kind"], told["format"]) == ("directions", "directions by layer")


def test_info_of_a_file_that_is_none_tells_of_objects(bmatch_, tmp_path):
    (tmp_path / "manifest.json").write_text('{"vectors": 40}')
    code, _, err = bmatch_("info", tmp_path / "manifest.json")
    assert code == 1
    assert "manifest.json holds nothing that is known" in " ".join(err.split())


def test_apply_says_which_command_an_object_wants(bmatch_, files, tmp_path):
    code, _, err = bmatch_("apply", *files, "--out", tmp_path / "new")
    assert code == 1
    assert "directions" in err
    assert "bmatch transport" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("g.safetensors", "g.safetensors"), "holds nothing that is known"),
        (("g.safetensors", "absent.pt"), "there is no file or folder"),
        (("other.safetensors", "v.pt"), "acts on 7 coordinates"),
        (("g.safetensors", "v.pt", "--kind", "cake"), "kind must be one of"),
        (("g.safetensors", "v.pt", "--model", "absent"), "no model's config"),
    ],
)
def test_bad_input(bmatch_, files, tmp_path, arguments, message):
    SignedPermutation.random(7, seed=0).save(tmp_path / "other.safetensors")
    paths = [tmp_path / a if a.endswith((".safetensors", ".pt")) else a for a in arguments]
    code, _, err = bmatch_("transport", *paths, "--out", tmp_path / "new.pt")
    assert code == 1
    assert message in " ".join(err.split())
    assert not (tmp_path / "new.pt").exists()


def test_a_model_is_told_to_be_one(bmatch_, files, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "llama"}')
    save_file({"model.norm.weight": torch.ones(6)}, folder / "model-00001.safetensors")
    for path in (folder, folder / "config.json", folder / "model-00001.safetensors"):
        code, _, err = bmatch_("transport", files[0], path, "--out", tmp_path / "new")
        assert code == 1
        assert f"{folder} is a model: bmatch apply carries it" in " ".join(err.split())
    torch.save({}, folder / "optimizer.pt")
    _, _, err = bmatch_("transport", files[0], folder, "--out", tmp_path / "new")
    assert "is a model: bmatch apply --with-optimizer carries it" in " ".join(err.split())
    assert not (tmp_path / "new").exists()


def test_info_of_what_does_not_tell_its_model(bmatch_, tmp_path):
    model = tiny_model()
    model.save_pretrained(tmp_path / "model")
    optimizer = torch.optim.SGD(model.parameters(), momentum=0.9)
    model(torch.arange(8)[None]).logits.square().mean().backward()
    optimizer.step()
    torch.save(optimizer.state_dict(), tmp_path / "optimizer.pt")
    code, _, err = bmatch_("info", tmp_path / "optimizer.pt")
    assert code == 1
    assert "give it with --model" in " ".join(err.split())
    told = bmatch_("info", tmp_path / "optimizer.pt", "--model", tmp_path / "model", "--json")[1]
    assert json.loads(told)["kind"] == "optimizer state"


def test_a_list_of_coordinates(bmatch_, files, tmp_path):
    (tmp_path / "n.csv").write_text("index,sign,note\n0,1,first\n5,-1,second\n")
    assert json.loads(bmatch_("info", tmp_path / "n.csv", "--json")[1])["rows"] == 2
    code, out, _ = bmatch_("transport", files[0], tmp_path / "n.csv", "-o", tmp_path / "m.csv")
    assert code == 0
    assert "neuron set" in out
    lines = (tmp_path / "m.csv").read_text().splitlines()
    place = {int(s): (t, int(GAUGE.sign[t])) for t, s in enumerate(GAUGE.perm)}
    expected = [f"{place[0][0]},{place[0][1]},first", f"{place[5][0]},{-place[5][1]},second"]
    assert lines == ["index,sign,note", *expected]
