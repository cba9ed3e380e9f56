"""``bmatch merge``."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file
from tiny_models import WIDTH, in_gauge, noisy_copy, tiny_model

from bmatch import SignedPermutation

GAUGE = SignedPermutation.random(WIDTH, seed=3)


@pytest.fixture
def folders(tmp_path):
    base = tiny_model()
    models = {"base": base, "moved": in_gauge(noisy_copy(base, 0.1, 2), GAUGE)}
    models["stranger"] = tiny_model(seed=5)
    for name, model in models.items():
        model.save_pretrained(tmp_path / name)
    return tmp_path


def test_models_are_aligned_by_weights_where_no_gauge_is_given(bmatch_, folders):
    base, moved = folders / "base", folders / "moved"
    code, out, _ = bmatch_("merge", base, moved, "--out", folders / "a")
    assert code == 0
    assert "2 checkpoints merged" in out
    GAUGE.inverse().save(folders / "g")
    options = ("--gauge", folders / "g", "--weight", "1", "--out", folders / "b")
    assert bmatch_("merge", base, moved, *options)[0] == 0
    one, two = (load_file(folders / name / "model.safetensors") for name in ("a", "b"))
    assert all(torch.equal(one[name], two[name]) for name in two)
    options = ("--weight", "1", "--weight", "2", "--out", folders / "c")
    code, _, err = bmatch_("merge", base, moved, *options)
    assert code == 1
    assert "--weight is given 2 times, for 1 models" in " ".join(err.split())


def test_what_needs_mergekit_says_so(bmatch_, folders, monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("sys.executable", "/nowhere/python")
    both = (folders / "base", folders / "moved", "--out", folders / "out")
    code, _, err = bmatch_("merge", *both, "--method", "ties")
    assert (code, "pip install mergekit" in " ".join(err.split())) == (1, True)
    code, _, err = bmatch_("merge", *both, "--density", "0.5")
    assert (code, "average keeps all entries" in " ".join(err.split())) == (1, True)
    assert not (folders / "out").exists()


def test_strangers_are_not_merged(bmatch_, folders):
    options = ("--out", folders / "out")
    code, _, err = bmatch_("merge", folders / "base", folders / "stranger", *options)
    assert code == 1
    assert "weights tell nothing of the gauge" in " ".join(err.split())
    assert not (folders / "out").exists()


@pytest.mark.parametrize(
    ("weight", "method", "told"),
    [
        ("nan", "average", "weights must be finite, got nan"),
        ("inf", "average", "weights must be finite, got inf"),
        ("nan", "task_arithmetic", "weights must be finite, got nan"),
        ("1e300", "task_arithmetic", "is more than torch.float32 holds: take smaller weights"),
    ],
)
def test_weights_that_would_spoil_the_model(bmatch_, pair, tmp_path, weight, method, told):
    secret = tmp_path / "g"
    SignedPermutation.identity(WIDTH).save(secret)
    code, _, err = bmatch_(
        *("merge", *pair, "--gauge", secret, "--weight", weight, "--method", method),
        *("--out", tmp_path / "new"),
    )
    assert code == 1
    assert told in err
    assert [path.name for path in tmp_path.iterdir()] == ["g"]
