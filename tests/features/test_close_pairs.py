"""Close pairs against all cosines in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rank_threads import ranks_of_threads
from torch.utils._python_dispatch import TorchDispatchMode

from bmatch.features import pairs


def all_cosines(one, other):
    one, other = (np.asarray(side, np.float64) for side in (one, other))
    with np.errstate(invalid="ignore", divide="ignore"):
        unit = [side / np.linalg.norm(side, axis=1, keepdims=True) for side in (one, other)]
    return np.nan_to_num(unit[0]) @ np.nan_to_num(unit[1]).T


@given(
    st.integers(1, 40), st.integers(1, 40), st.integers(1, 9), st.booleans(), st.integers(0, 2**31)
)
def test_all_that_lie_above_the_limit_and_no_other(n, m, k, magnitudes, seed):
    r = np.random.default_rng(seed)
    one, other = r.normal(size=(n, k)), r.normal(size=(m, k)) * 10.0 ** r.integers(-30, 30, (m, 1))
    one[r.random(n) < 0.1] = 0
    limit = float(r.choice([0.0, 0.3, 0.9]))
    found = pairs.close_pairs(torch.tensor(one), torch.tensor(other), limit, magnitudes)
    true = all_cosines(one, other)
    value = np.abs(true) if magnitudes else true
    close = np.abs(value - limit) < 1e-12  # either way
    expected = set(zip(*np.nonzero((value > limit) & ~close), strict=True))
    got = set(zip(found.target.tolist(), found.source.tolist(), strict=True))
    assert expected <= got <= expected | set(zip(*np.nonzero(close), strict=True))
    assert np.all(np.diff(found.target) >= 0)
    np.testing.assert_allclose(found.cosine, true[found.target, found.source], rtol=0, atol=1e-13)


def test_blocks_of_rows_change_nothing(monkeypatch):
    r = np.random.default_rng(0)
    one, other = (torch.tensor(r.normal(size=(100, 8)), dtype=torch.float32) for _ in range(2))
    whole = pairs.close_pairs(one, other, 0.5, False)
    monkeypatch.setattr(pairs, "BLOCK_BYTES", 4 * 100 * 7)
    monkeypatch.setattr(pairs, "_AT_ONCE", 11)
    parts = pairs.close_pairs(one, other, 0.5, False)
    assert len(whole.target) > 100
    for a, b in zip(whole, parts, strict=True):
        np.testing.assert_array_equal(a, b)


def test_ranks_share_blocks_and_find_the_same(monkeypatch):
    r = np.random.default_rng(0)
    one, other = (torch.tensor(r.normal(size=(100, 8)), dtype=torch.float32) for _ in range(2))
    monkeypatch.setattr(pairs, "BLOCK_BYTES", 4 * 100 * 7)
    alone = pairs.close_pairs(one, other, 0.5, False)
    for world in (2, 3, 20):

        def serve(ranks):
            assert pairs.close_pairs(one, other, 0.5, False, ranks=ranks) is None

        with ranks_of_threads(world, serve) as first:
            shared = pairs.close_pairs(one, other, 0.5, False, ranks=first)
        for a, b in zip(alone, shared, strict=True):
            np.testing.assert_array_equal(a, b)


class Made(TorchDispatchMode):
    """All memory of so many bytes or more that torch writes into; none of it is given back."""

    def __init__(self, least):
        super().__init__()
        self.least, self.by_place = least, {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        if isinstance(found, torch.Tensor) and found.untyped_storage().nbytes() >= self.least:
            self.by_place[found.untyped_storage().data_ptr()] = found
        return found


@pytest.mark.parametrize("magnitudes", [False, True])
def test_memory_does_not_go_by_the_number_of_blocks(monkeypatch, magnitudes):
    """Cosines and what is near are made once: freed anew each time, malloc keeps them in pieces."""
    r = np.random.default_rng(0)
    one, other = (torch.tensor(r.normal(size=(n, 8)), dtype=torch.float32) for n in (700, 2000))
    monkeypatch.setattr(pairs, "BLOCK_BYTES", 4 * 2000 * 70)
    with Made(2000 * 70) as made:
        found = pairs.close_pairs(one, other, 0.9, magnitudes)
    assert len(found.target) > 100
    sizes = [tensor.untyped_storage().nbytes() for tensor in made.by_place.values()]
    assert sorted(sizes) == [2000 * 70, 4 * 2000 * 70]


@pytest.mark.parametrize(
    ("values", "error", "told"),
    [
        (np.zeros(3), ValueError, r"must be a matrix \[features, terms\], got shape \(3,\)"),
        (np.array([[1.0, np.nan]]), ValueError, "got nan in feature 0, term 1"),
        (np.array([[1j]]), TypeError, "must be real"),
        ([["a"]], TypeError, "must be a matrix of real numbers"),
    ],
)
def test_what_is_no_matrix_of_directions(values, error, told):
    with pytest.raises(error, match=told):
        pairs.as_directions(values, "target")


def test_directions_of_any_dtype():
    for dtype in (torch.float16, torch.bfloat16, torch.int8, torch.float64):
        rows = pairs.as_directions(torch.tensor([[3, 4], [0, 0]], dtype=dtype), "target")
        assert torch.equal(pairs.unit(rows), torch.tensor([[0.6, 0.8], [0.0, 0.0]]))
