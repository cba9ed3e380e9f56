"""Claims carried by planted gauges, against re-indexing one coordinate at a time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bmatch import SignedPermutation
from bmatch.audit import Claim

D = 12


def moved(index, gauge):
    """Where a coordinate is in the target, and with which sign, by search."""
    place = next(i for i in range(D) if gauge.perm[i] == index)
    return place, int(gauge.sign[place])


@given(st.integers(0, 2**32 - 1))
def test_carrying_is_reindexing(seed):
    rng = np.random.default_rng(seed)
    gauge = SignedPermutation.random(D, seed=rng)
    index = np.stack([rng.permutation(D)[:2] for _ in range(5)])
    sign, weight = rng.choice([-1, 1], 5), rng.normal(size=5)
    site = [3, 3, "a", None, 7]
    claim = Claim(index, sign, weight, site=site)
    for way in ("raw", "permutation", "signed"):
        expected = []
        for pair, s, w, where in zip(index, sign, weight, site, strict=True):
            places = [moved(i, gauge) if way != "raw" else (int(i), 1) for i in pair]
            turn = np.prod([t for _, t in places]) if way == "signed" else 1
            row = tuple(sorted(int(p) for p, _ in places))
            expected.append(((where, row, int(s * turn)), w * turn))
        assert claim.carried(gauge, way).items() == expected


def test_what_does_not_turn_is_permuted_alone():
    gauge = SignedPermutation.random(D, seed=1)
    claim = Claim([0, 5, 7], [1, -1, 1], [0.1, -0.2, 0.3], signed=False)
    signed, permuted = claim.carried(gauge, "signed"), claim.carried(gauge, "permutation")
    assert signed.items() == permuted.items()
    assert [row[0] for row in signed.index.tolist()] == [moved(i, gauge)[0] for i in (0, 5, 7)]


def test_found_in_another_claim():
    claim = Claim([1, 2, 3], [1, 1, -1], [1.0, 2.0, -4.0], site=[0, 0, 1])
    other = Claim([3, 2, 1], [-1, 1, -1], [-4.0, 2.003, 1.0], site=[1, 0, 0])
    assert claim.found_in(other, 1e-3).tolist() == [False, True, True]
    assert claim.found_in(other, 1e-6).tolist() == [False, False, True]
    with pytest.raises(ValueError, match="one has signs"):
        claim.found_in(Claim([1]), 1e-3)


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        (([0.5],), {}, TypeError, "must be integers"),
        (([],), {}, TypeError, "must be integers"),
        (([[[1]]],), {}, ValueError, r"\[n\] or \[n, m\]"),
        (([1, 2], [1]), {}, ValueError, "as many numbers for sign"),
        (([1, 2], [1, 0.5]), {}, ValueError, "must be \\+1 or -1"),
        (([1, 2], None, ["a", "b"]), {}, ValueError, "as many numbers for weight"),
        (([1, 2],), {"site": [1]}, ValueError, "has 1 sites"),
    ],
)
def test_bad_claims(arguments, options, error, message):
    with pytest.raises(error, match=message):
        Claim(*arguments, **options)


def test_an_unknown_way_is_refused():
    with pytest.raises(ValueError, match="way must be one of raw"):
        Claim([1]).carried(SignedPermutation.identity(2), "nonsense")
