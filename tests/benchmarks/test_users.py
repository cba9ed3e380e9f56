"""benchmarks/users.py: families of any shape, in either type, the same by the same seed."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import cases
from benchmarks.users import USERS

SHAPES = ((1, 1), (3, 8), (8, 3), (33, 33), (20, 50))


@pytest.mark.parametrize("family", USERS)
def test_every_family_is_made_in_every_shape(family):
    assert USERS[family].brings
    for n, m in SHAPES:
        narrow, wide = (cases.make(family + kind, n, m, 3) for kind in ("", cases.WIDE))
        assert narrow.shape == wide.shape == (n, m)
        assert (narrow.dtype, wide.dtype) == (np.float32, np.float64)
        assert np.array_equal(narrow, cases.of_type(wide, wide=False))
        assert not np.isnan(wide).any()
        assert np.isfinite(wide).all() or family == "forbidden inf"
    assert np.array_equal(wide, cases.make(family + cases.WIDE, n, m, 3))
    assert not np.array_equal(wide, cases.make(family + cases.WIDE, n, m, 4))


def test_names_are_told_apart():
    everybody = [*USERS, *cases.SQUARE, *cases.DEGENERATE, *cases.SCIPY, *cases.REAL]
    assert len(set(everybody)) == len(everybody)
    assert not any(name in USERS for name in (*cases.SQUARE, *cases.DEGENERATE, *cases.SCIPY))


def test_boxes_overlap_as_boxes_do():
    from benchmarks.users import Boxes

    unit = Boxes(np.array([[0.5, 0.5]]), np.ones((1, 2)))
    others = Boxes(np.array([[0.5, 0.5], [1.0, 0.5], [3.5, 0.5]]), np.ones((3, 2)))
    inner, union, outer = unit.common(others)
    assert inner.tolist() == [[1.0, 0.5, 0.0]]
    assert union.tolist() == [[1.0, 1.5, 2.0]]
    assert outer.tolist() == [[1.0, 1.5, 4.0]]


def test_words_differ_as_levenshtein_counts():
    def distance(a, b):
        row = list(range(len(b) + 1))
        for i, x in enumerate(a, 1):
            last, row = row, [i]
            for j, y in enumerate(b, 1):
                row.append(min(row[-1] + 1, last[j] + 1, last[j - 1] + (x != y)))
        return row[-1]

    a, b = (np.random.default_rng(5).integers(0, 4, (k, 6), np.int8) for k in (1, 1))
    assert USERS["edits"].draw(np.random.default_rng(5), 4, 5).max() <= 6
    r = np.random.default_rng(5)
    a, b = (r.integers(0, 4, (k, 6), dtype=np.int8) for k in (4, 5))
    expected = [[distance(list(x), list(y)) for y in b] for x in a]
    assert USERS["edits"].draw(np.random.default_rng(5), 4, 5).tolist() == expected


def test_what_leaves_a_matching_leaves_one():
    from scipy.optimize import linear_sum_assignment

    for n, m in SHAPES:
        cost = cases.make("forbidden inf float64", n, m, 3)
        assert np.isfinite(cost[linear_sum_assignment(cost)]).all()
    limited = cases.make("cost limit float64", 40, 40, 3)
    assert (limited[:20, 20:] == 0.025).all()
    assert (limited[20:, 20:] == 0).all()
