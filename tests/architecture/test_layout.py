"""Words for axes, and gauges along them, against entries moved one by one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bmatch import SignedPermutation
from bmatch.architecture.layout import Piece, Word, carry, carry_slabs, words
from bmatch.architecture.spaces import Part, member_of
from bmatch.orthogonal import OrthogonalGauge


def test_words_are_read_and_written():
    shape = "vocab_size D +D 2*w:+D,+D a*b:heads 48:+mlp 2*f:+mlp,mlp any a:+q|2*b:+q,q|c b|a:+q"
    read = list(words(shape))
    assert " ".join(map(str, read)) == shape
    assert [word.space for word in read] == ["", "D", "D", "D", "heads", "mlp", "mlp", "", "q", "q"]
    assert [word.length for word in read[:5]] == ["vocab_size", "D", "D", "2*w", "a*b"]
    read.pop(3)
    assert [word.length for word in read[4:]] == ["48", "2*f", "any", "a+2*b+c", "b+a"]
    assert read[5].odd == (False, True)
    assert read[7].pieces == (Piece("a", (False,)), Piece("2*b", (False, True)), Piece("c"))
    assert str(read[7].without_space()) == "a+2*b+c"
    assert [str(word.of_any_length()) for word in read[5:8]] == ["any:+mlp,mlp", "any", "any"]


def test_pieces_are_carried_as_one_by_one():
    """q of four heads, and k and v of two, in one matrix; then something else."""
    word = words("q:+h|kv:+h,h|rest")[0]
    sizes = {"q": 12, "kv": 12, "rest": 5}
    parts = word.parts(2, 29, sizes.get)
    assert parts == [Part(0, 6, False), Part(12, 3, False), Part(18, 3, True)]
    gauge = SignedPermutation([1, 0], [-1, 1])
    tensor = np.random.default_rng(0).normal(size=(29, 3))
    q, k, v, rest = np.split(tensor, [12, 18, 24])
    turned = [np.concatenate([half[len(half) // 2 :], half[: len(half) // 2]]) for half in (q, k)]
    expected = np.concatenate([*turned, -v[3:], v[:3], rest])
    assert np.array_equal(carry(tensor, 0, gauge, parts), expected)
    in_place = torch.tensor(tensor)
    member = member_of(("t", 0, None), parts)
    member.carry(in_place, gauge)
    assert np.array_equal(in_place.numpy(), expected)
    assert member.parts(2) == tuple(parts)
    for length, known, told in (
        (30, sizes, "30 entries, not q.kv.rest"),
        (29, {}, "29 entries, not q.kv.rest"),
        (29, {"q": 11, "kv": 13, "rest": 5}, "11 entries, not 1 parts of 2 blocks"),
    ):
        with pytest.raises(ValueError, match=told):
            word.parts(2, length, known.get)


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
    parts = Word((Piece("any", tuple(odd)),), "heads").parts(units, len(tensor), {}.get)
    assert np.array_equal(carry(tensor, 0, gauge, parts), expected)
    there = carry(torch.tensor(tensor.T.copy()), 1, gauge, parts)
    assert np.array_equal(there.numpy().T, expected)
    assert np.array_equal(carry(expected, 0, gauge.inverse(), parts), tensor)
    in_place = torch.tensor(tensor)
    member_of(("t", 0, None), parts).carry(in_place, gauge)
    assert np.array_equal(in_place.numpy(), expected)


@pytest.mark.parametrize("kind", [np.array, torch.tensor])
def test_slabs_are_carried_apart(kind):
    tensor = kind(np.random.default_rng(0).normal(size=(3, 4, 2)))
    gauges = {0: SignedPermutation.random(4, seed=1), 2: SignedPermutation.random(4, seed=2)}
    result = carry_slabs(tensor, 1, gauges, [Part(0, 1, True)])
    for slab, gauge in gauges.items():
        assert (result[slab] == gauge.apply(tensor[slab], 0)).all()
    assert (result[1] == tensor[1]).all()
    assert carry_slabs(tensor, 1, {}, []) is tensor


def test_axes_that_do_not_divide_are_refused():
    word = words("any:heads")[0]
    for length in (6, 3):
        with pytest.raises(ValueError, match=f"{length} entries, not 1 parts of 4"):
            word.parts(4, length, {}.get)


@pytest.mark.parametrize("gauge", [SignedPermutation, OrthogonalGauge])
def test_the_stream_several_times_over_is_carried_in_each_copy(gauge):
    """What reads the stream beside the embeddings, whatever the group."""
    gauge = gauge.random(5, seed=3)
    (word,) = words("15:D,D,D")
    tensor = np.random.default_rng(0).normal(size=(4, 15))
    parts = word.parts(5, 15, {}.get)
    expected = np.concatenate([gauge.apply(copy, 1) for copy in np.split(tensor, 3, 1)], 1)
    assert np.allclose(carry(tensor, 1, gauge, parts), expected, rtol=0, atol=1e-15)
    moved = carry(torch.from_numpy(tensor), 1, gauge, parts)
    assert np.allclose(moved.numpy(), expected, rtol=0, atol=1e-15)
