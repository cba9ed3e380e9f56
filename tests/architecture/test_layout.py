"""Words for axes, and gauges along them, against entries moved one by one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bmatch import SignedPermutation
from bmatch.architecture.layout import carry, carry_slabs, member, words


def test_words_are_read_and_written():
    shape = "vocab_size D +D a*b:heads 48:+mlp 2*f:+mlp,mlp any"
    read = words(shape)
    assert " ".join(map(str, read)) == shape
    assert [word.space for word in read] == ["", "D", "D", "heads", "mlp", "mlp", ""]
    assert [word.length for word in read] == ["vocab_size", "D", "D", "a*b", "48", "2*f", "any"]
    assert read[5].odd == (False, True)


def moved(tensor, gauge, odd):
    """Along the first axis, entry by entry."""
    width = len(tensor) // (gauge.dim * len(odd))
    blocks = tensor.reshape(len(odd), gauge.dim, width, -1)
    result = np.empty_like(blocks)
    for part, flips in enumerate(odd):
        for unit in range(gauge.dim):
            sign = gauge.sign[unit] if flips else 1
            result[part, unit] = sign * blocks[part, gauge.perm[unit]]
    return result.reshape(tensor.shape)


@settings(deadline=None)
@given(
    st.integers(1, 5),
    st.integers(1, 3),
    st.lists(st.booleans(), min_size=1, max_size=3),
    st.integers(0, 99),
)
def test_parts_of_blocks_are_carried_as_one_by_one(units, width, odd, seed):
    gauge = SignedPermutation.random(units, seed=seed)
    tensor = np.random.default_rng(seed).normal(size=(len(odd) * units * width, 3))
    expected = moved(tensor, gauge, tuple(odd))
    assert np.array_equal(carry(tensor, 0, gauge, tuple(odd)), expected)
    there = carry(torch.tensor(tensor.T.copy()), 1, gauge, tuple(odd))
    assert np.array_equal(there.numpy().T, expected)
    assert np.array_equal(carry(expected, 0, gauge.inverse(), tuple(odd)), tensor)
    in_place = torch.tensor(tensor)
    member("t", 0, None, tuple(odd), units, len(tensor)).carry(in_place, gauge)
    assert np.array_equal(in_place.numpy(), expected)


@pytest.mark.parametrize("kind", [np.array, torch.tensor])
def test_slabs_are_carried_apart(kind):
    tensor = kind(np.random.default_rng(0).normal(size=(3, 4, 2)))
    gauges = {0: SignedPermutation.random(4, seed=1), 2: SignedPermutation.random(4, seed=2)}
    result = carry_slabs(tensor, 1, gauges, (True,))
    for slab, gauge in gauges.items():
        assert (result[slab] == gauge.apply(tensor[slab], 0)).all()
    assert (result[1] == tensor[1]).all()
    assert carry_slabs(tensor, 1, {}, (True,)) is tensor


def test_axes_that_do_not_divide_are_refused():
    gauge = SignedPermutation.identity(4)
    for length in (6, 3):
        with pytest.raises(ValueError, match=f"axis 0 has {length} entries, not 1 parts of 4"):
            carry(np.ones(length), 0, gauge, (True,))
