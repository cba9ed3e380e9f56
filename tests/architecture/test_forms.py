"""Sums of unknown signs by number, against sets and their symmetric differences."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bmatch.architecture.forms import Forms, stretches

SETS = st.lists(st.sets(st.integers(0, 40), max_size=5), min_size=1, max_size=8)


@given(SETS)
def test_sums_of_pairs_are_symmetric_differences(sets):
    forms = Forms()
    numbers = np.array([forms.of_set(one) for one in sets])
    firsts, seconds = (side.ravel() for side in np.meshgrid(numbers, numbers, indexing="ij"))
    expected = [one ^ other for one in sets for other in sets]
    sums = forms.sums(firsts, seconds)
    assert sums.tolist() == [forms.of_set(one) for one in expected]
    pairs, atoms = forms.members(firsts, seconds)
    found = [set(atoms[pairs == k].tolist()) for k in range(len(expected))]
    assert found == expected
    again, members = forms.members(sums, 0 * sums)
    assert np.array_equal(again, pairs)
    assert np.array_equal(members, atoms)


def test_numbers_go_up_as_sums_are_met():
    forms = Forms()
    assert forms.of_set([]) == 0
    ones = forms.of_atoms(np.array([7, 3, 9]))
    assert ones.tolist() == [1, 2, 3]
    assert forms.sums(ones, ones).tolist() == [0, 0, 0]
    assert forms.sums(ones[[0, 1, 0, 0]], ones[[1, 0, 2, 1]]).tolist() == [4, 4, 5, 4]
    assert forms.of_set([9, 7]) == 5


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 4))))
def test_stretches_lie_one_after_another(pairs):
    starts, lengths = np.array(pairs, np.int64).reshape(-1, 2).T
    numbers, places = stretches(starts, lengths)
    expected = [(k, start + j) for k, (start, length) in enumerate(pairs) for j in range(length)]
    assert list(zip(numbers.tolist(), places.tolist(), strict=True)) == expected
