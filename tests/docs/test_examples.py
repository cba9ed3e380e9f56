"""The scripts in examples/, run as a user would run them."""

from __future__ import annotations

import re
import subprocess
import sys

import numpy as np
import pages
import pytest

import bmatch

EXAMPLES = pages.ROOT / "examples"


def run(name, *arguments, status=0):
    """What a script prints, errors last."""
    done = subprocess.run(
        [sys.executable, EXAMPLES / f"{name}.py", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status, done.stderr
    return done.stdout + done.stderr


def test_track():
    right, seen = re.match(r"(\d+) of (\d+) detections", run("track", "--frames", 20)).groups()
    assert 500 < int(seen) < 600
    assert int(right) > 0.9 * int(seen)


def test_prove(tmp_path):
    cost = np.random.default_rng(0).random((12, 20))
    _, best = bmatch.linear_sum_assignment(cost)
    np.save(tmp_path / "costs.npy", cost)
    np.save(tmp_path / "best.npy", best)
    np.save(tmp_path / "worse.npy", np.arange(12))
    assert run("prove", tmp_path / "costs.npy", tmp_path / "best.npy").endswith("optimal\n")
    lost = cost[np.arange(12), np.arange(12)].sum() - cost[np.arange(12), best].sum()
    told = run("prove", tmp_path / "costs.npy", tmp_path / "worse.npy", status=1)
    assert f"not optimal: {lost:.6f} may be gained" in told


def test_stream_goes_on_where_it_stopped(tmp_path):
    rng = np.random.default_rng(0)
    truth = bmatch.SignedPermutation.random(16, seed=3)
    for name in ("target", "source"):
        (tmp_path / name).mkdir()

    def add(*names):
        for name in names:
            x = rng.normal(size=(200, 16)).astype(np.float32)
            noise = 0.3 * rng.normal(size=x.shape).astype(np.float32)
            np.save(tmp_path / "source" / f"{name}.npy", x)
            np.save(tmp_path / "target" / f"{name}.npy", truth.apply(x) + noise)

    arguments = (tmp_path / "target", tmp_path / "source", tmp_path / "gauge.safetensors")
    add("a", "b")
    assert run("stream", *arguments).startswith("400 tokens")
    add("c")
    assert run("stream", *arguments).startswith("600 tokens")
    assert bmatch.SignedPermutation.load(arguments[2]) == truth
    count = bmatch.CrossMoments.load(tmp_path / "gauge.moments").count
    assert count == 600


def test_carry_vector(pair, secret, tmp_path):
    text = tmp_path / "text.txt"
    text.write_text((pages.ROOT / "README.md").read_text())
    vector = np.random.default_rng(0).normal(size=secret.dim)
    np.save(tmp_path / "vector.npy", vector)
    carried = tmp_path / "carried.npy"
    told = run("carry_vector", *pair, text, tmp_path / "vector.npy", carried)
    assert "written to carried.npy" in told
    assert np.array_equal(np.load(carried), secret.apply(vector))
    text.write_text("x")
    assert "at least 2" in run("carry_vector", *pair, text, vector, carried, status=1)


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_every_example_has_a_test_and_a_page(path):
    assert f"def test_{path.stem}" in (pages.ROOT / "tests/docs/test_examples.py").read_text()
    assert f'--8<-- "examples/{path.name}"' in (pages.ROOT / "docs/examples.md").read_text()
