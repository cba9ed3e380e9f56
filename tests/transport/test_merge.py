"""Merges in one model's coordinates: what lay elsewhere comes out as if it had been there."""

from __future__ import annotations

import json
import sys

import pytest
import torch
from safetensors.torch import load_file
from tiny_models import WIDTH, in_gauge, logits, noisy_copy, tiny_model
from transformers import AutoModelForCausalLM

from bmatch import SignedPermutation
from bmatch.transport import Merged, merge, merge_by_mergekit

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


MERGEKIT = """#!{python}
import json, pathlib, shutil, sys
plan, out = json.loads(pathlib.Path(sys.argv[1]).read_text()), pathlib.Path(sys.argv[2])
assert sys.argv[3] == "--random-seed"
if plan["merge_method"] == "dare_linear":
    sys.exit("Traceback\\nit cannot be done")
for file in pathlib.Path(plan["models"][-1]["model"]).iterdir():
    shutil.copy(file, out)
(out / "plan.json").write_text(json.dumps(plan))
(out / "mergekit_config.yml").write_text(json.dumps(plan))
"""


@pytest.fixture
def mergekit(tmp_path, monkeypatch):
    """A command of its name that takes the last model, and keeps what it was told."""
    (tmp_path / "bin").mkdir()
    command = tmp_path / "bin" / "mergekit-yaml"
    command.write_text(MERGEKIT.format(python=sys.executable))
    command.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))


@pytest.mark.usefixtures("mergekit")
def test_mergekit_is_handed_models_in_the_coordinates_of_the_base(folders, tmp_path):
    others = [Merged(folders / "one", None, 0.7), Merged(folders / "moved", GAUGE.inverse(), 0.3)]
    merge_by_mergekit(folders / "base", others, tmp_path / "out", "ties", density=0.4)
    two, found = weights(folders / "two"), weights(tmp_path / "out")
    assert all(torch.equal(found[name], tensor) for name, tensor in two.items())
    plan = json.loads((tmp_path / "out" / "plan.json").read_text())
    assert (plan["merge_method"], plan["base_model"]) == ("ties", str(folders / "base"))
    assert [m["parameters"] for m in plan["models"]] == [
        {"weight": 0.7, "density": 0.4},
        {"weight": 0.3, "density": 0.4},
    ]
    assert not (tmp_path / "out" / ".carried").exists()
    told = json.loads((tmp_path / "out" / "mergekit_config.yml").read_text())
    assert [m["model"] for m in told["models"]] == [str(folders / n) for n in ("one", "moved")]
    merge_by_mergekit(
        folders / "base", [Merged(folders / "one", None, 0.2)], tmp_path / "s", "slerp"
    )
    plan = json.loads((tmp_path / "s" / "plan.json").read_text())
    assert plan["parameters"] == {"t": 0.2}
    assert [m["model"] for m in plan["models"]] == [str(folders / n) for n in ("base", "one")]


@pytest.mark.usefixtures("mergekit")
def test_what_mergekit_cannot_do_is_one_sentence(folders, tmp_path, monkeypatch):
    one, out = [Merged(folders / "one")], tmp_path / "out"
    with pytest.raises(ValueError, match="mergekit failed at dare_linear: it cannot be done"):
        merge_by_mergekit(folders / "base", one, out, "dare_linear")
    with pytest.raises(ValueError, match="slerp goes from the base to one other model"):
        merge_by_mergekit(folders / "base", one * 2, out, "slerp")
    with pytest.raises(ValueError, match="density must be above 0"):
        merge_by_mergekit(folders / "base", one, out, "ties", density=0)
    with pytest.raises(ValueError, match="method must be one of slerp"):
        merge_by_mergekit(folders / "base", one, out, "average")
    other = [Merged(folders / "one", SignedPermutation.identity(7))]
    with pytest.raises(ValueError, match="the gauge acts on 7"):
        merge_by_mergekit(folders / "base", other, out, "ties")
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("sys.executable", "/nowhere/python")
    with pytest.raises(FileNotFoundError, match="ties is mergekit's, and there is no command"):
        merge_by_mergekit(folders / "base", one, out, "ties")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bin"]


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
