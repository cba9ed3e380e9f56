"""``--dry-run`` of the commands that write: nothing is there afterwards but what was told."""

from __future__ import annotations

import json
import shutil

import numpy as np
from tiny_models import WIDTH

from bmatch import SignedPermutation
from bmatch.models.checkpoint import INDEX


def test_of_apply(bmatch_, pair, tmp_path):
    gauge, out = tmp_path / "g", tmp_path / "out"
    SignedPermutation.random(WIDTH, seed=1).save(gauge)
    code, told, _ = bmatch_("apply", gauge, pair[0], "--out", out, "--dry-run")
    assert code == 0
    assert "outwouldbewritten" in "".join(told.split())  # lines are broken by the paths
    assert "at most" in told
    assert list(tmp_path.iterdir()) == [gauge]
    code, told, _ = bmatch_("apply", gauge, pair[0], "--out", out, "--dry-run", "--json")
    assert bmatch_("apply", gauge, pair[0], "--out", out)[0] == 0
    plan = json.loads(told)
    assert plan["dry_run"]
    assert plan["written_bytes"] == sum(path.stat().st_size for path in out.iterdir())
    code, _, err = bmatch_("apply", gauge, pair[0], "--out", out, "--dry-run")
    assert code == 1
    assert "exists already" in err


def test_of_apply_without_weights(bmatch_, pair, tmp_path):
    """As a repository is before its weights are downloaded."""
    gauge, bare = tmp_path / "g", tmp_path / "bare"
    SignedPermutation.random(WIDTH, seed=1).save(gauge)
    dry = ("--out", tmp_path / "o", "--dry-run", "--json")
    code, whole, _ = bmatch_("apply", gauge, pair[0], *dry)
    assert code == 0
    shutil.copytree(pair[0], bare, ignore=shutil.ignore_patterns("*.safetensors"))
    assert (bare / INDEX).is_file()
    code, told, _ = bmatch_("apply", gauge, bare, *dry)
    assert code == 0
    plan, expected = json.loads(told), json.loads(whole)
    assert plan["files"] == expected["files"]
    assert plan["tensors"] == expected["tensors"]
    assert abs(plan["written_bytes"] / expected["written_bytes"] - 1) < 0.01
    SignedPermutation.identity(8).save(gauge)
    code, _, err = bmatch_("apply", gauge, bare, "--out", tmp_path / "o", "--dry-run")
    assert code == 1
    assert f"{bare}: the gauge acts on 8 coordinates" in err


def test_of_transport_and_merge(bmatch_, pair, tmp_path):
    gauge = tmp_path / "g"
    SignedPermutation.random(WIDTH, seed=1).save(gauge)
    np.save(tmp_path / "v.npy", np.random.default_rng(0).normal(size=WIDTH))
    before = sorted(tmp_path.iterdir())
    code, told, _ = bmatch_(
        "transport", gauge, tmp_path / "v.npy", "--out", tmp_path / "o.npy", "--dry-run", "--json"
    )
    assert code == 0
    assert json.loads(told)["files"] == 2
    code, told, _ = bmatch_("merge", *pair, "--out", tmp_path / "m", "--dry-run", "--json")
    assert code == 0
    plan = json.loads(told)
    assert plan["read_bytes"] > 1.5 * plan["written_bytes"]
    assert sorted(tmp_path.iterdir()) == before
