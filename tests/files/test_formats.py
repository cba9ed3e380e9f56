"""Files that others have: those of commit 7e2bdad are read, and what is written now is the same."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from bmatch import CrossMoments, SignedPermutation

DATA = Path(__file__).parents[1] / "data"
GAUGE, MOMENTS = (DATA / f"{kind}_of_7e2bdad.safetensors" for kind in ("gauge", "moments"))


def contents(path):
    """Header and numbers of a safetensors file; its strings may come in any order."""
    whole = path.read_bytes()
    end = 8 + int.from_bytes(whole[:8], "little")
    return json.loads(whole[8:end]), whole[end:]


def batches():
    """What the moments have seen: float64 [300, 5] and [300, 4], twice."""
    g = torch.Generator().manual_seed(0)
    for _ in range(2):
        x = torch.randn(300, 4, generator=g, dtype=torch.float64)
        yield torch.randn(300, 5, generator=g, dtype=torch.float64) + x[:, :1], x


def test_the_gauge_is_read():
    gauge = SignedPermutation.load(GAUGE)
    assert gauge == SignedPermutation.random(48, seed=7)
    assert dict(gauge.metadata) == {
        "source": "base",
        "source_sha256": 64 * "0",
        "target": "tuned",
        "target_sha256": 64 * "1",
        "tokens": "4096",
    }


def test_the_moments_are_read():
    moments = CrossMoments.load(MOMENTS)
    assert (moments.target_dim, moments.source_dim, moments.count) == (5, 4, 600)
    assert moments.precision == "highest"
    y, x = (torch.cat(part).numpy() for part in zip(*batches(), strict=True))
    found = moments.correlation().numpy()
    assert np.abs(found - np.corrcoef(y.T, x.T)[:5, 5:]).max() < 1e-7
    told_then = {
        0: [0.7213821411132812, 0.009796949103474617, 0.05970031023025513, 0.026753708720207214],
        4: [0.7277065515518188, 0.035112813115119934, 0.06210268288850784, -0.05993211641907692],
    }
    for row, expected in told_then.items():
        assert found[row].tolist() == expected


@pytest.mark.parametrize(("kind", "path"), [(SignedPermutation, GAUGE), (CrossMoments, MOMENTS)])
def test_what_was_read_is_written_as_it_was(kind, path, tmp_path):
    kind.load(path).save(tmp_path / "again")
    assert contents(tmp_path / "again") == contents(path)


def test_a_gauge_made_now_is_written_as_then(tmp_path):
    then = SignedPermutation.load(GAUGE)
    SignedPermutation.random(48, seed=7).save(tmp_path / "now", then.metadata)
    assert contents(tmp_path / "now") == contents(GAUGE)


def test_moments_made_now_are_written_as_then(tmp_path):
    """Their numbers but for roundings, which other processors have others of."""
    moments = CrossMoments(5, 4)
    for y, x in batches():
        moments.update(y, x)
    moments.save(tmp_path / "now")
    (header, numbers), (header_then, numbers_then) = (
        contents(path) for path in (tmp_path / "now", MOMENTS)
    )
    assert header == header_then
    found, expected = np.frombuffer(numbers), np.frombuffer(numbers_then)
    assert np.allclose(found, expected, rtol=1e-12, atol=1e-12)
