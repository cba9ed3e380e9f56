"""The optimum among candidates: leads against all cosines. Margins: test_feature_match.py."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

import bmatch
from bmatch.features.optimum import optimum
from bmatch.features.pairs import Pairs


def near_of(cosine, limit):
    row, col = np.nonzero(np.abs(cosine) > limit)
    return Pairs(row, col, cosine[row, col])


@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 2**31))
def test_leads_are_over_the_next_of_row_and_column(n, m, seed):
    cosine = np.random.default_rng(seed).uniform(-1, 1, (n, m))
    limit = 0.3
    best = optimum(near_of(cosine, limit), (n, m), limit)
    value = np.abs(cosine)
    if not (value > limit).any():
        assert best.assignment is None
        assert best.evidence().shape == (0, 4)
        return
    dense = bmatch.solve(value, maximize=True, cost_limit=limit)
    np.testing.assert_array_equal(best.target, dense.row_ind)
    np.testing.assert_array_equal(best.source, dense.col_ind)
    np.testing.assert_array_equal(best.cosine, cosine[best.target, best.source])
    for number, (i, j) in enumerate(zip(best.target, best.source, strict=True)):
        others = np.delete(value[i], j), np.delete(value[:, j], i)
        leads = [value[i, j] - max(limit, side.max(initial=0.0)) for side in others]
        np.testing.assert_allclose(best.lead[number], leads, atol=1e-15)
        np.testing.assert_allclose(
            best.evidence()[number], [value[i, j], *sorted(leads), best.margin[number]], atol=1e-15
        )


def test_no_pair_is_behind_in_both_row_and_column_by_more_than_it_is_worth():
    """Swapping in the two that lead it would be better otherwise."""
    cosine = np.random.default_rng(0).uniform(0, 1, (40, 30))
    best = optimum(near_of(cosine, 0.2), cosine.shape, 0.2)
    assert np.all(-best.lead.sum(axis=1) <= np.abs(best.cosine) - 0.2 + 1e-12)
