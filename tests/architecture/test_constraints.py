"""Atoms that move together, and sums of unknown signs."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bmatch.architecture.constraints import CHOSEN, NONE, WILD, Axis, Constraints, pairs_of


@given(st.lists(st.tuples(st.integers(-1, 2**31 - 1), st.integers(-1, 2**31 - 1)), min_size=1))
def test_pairs_are_read_back_from_their_keys(pairs):
    a, b = np.array(pairs, np.int64).T
    firsts, seconds = pairs_of(a * (1 << 32) + b)
    assert np.array_equal(firsts, a)
    assert np.array_equal(seconds, b)


@given(st.lists(st.tuples(st.integers(1, 12), st.integers(1, 12))))
def test_classes_are_those_of_a_graph(pairs):
    c = Constraints()
    atoms = c.new_axis(Axis("weight", 0), 12)
    for a, b in pairs:
        c.union(np.array([a]), np.array([b]))
    reached = np.eye(12, dtype=bool)
    for a, b in pairs:
        reached[a - 1, b - 1] = reached[b - 1, a - 1] = True
    for _ in range(4):
        reached = reached @ reached
    found = c.find(atoms)
    assert np.array_equal(found[:, None] == found, reached)


def test_marks_stay_on_atoms():
    c = Constraints()
    first, second = c.new_axis(Axis("weight", 0), 2)
    c.union(np.array([first]), np.array([second]))
    found = c.find(np.array([NONE, WILD, second, second | CHOSEN]))
    assert found.tolist() == [NONE, WILD, first, first | CHOSEN]
    assert c.plain(found).tolist() == [NONE, WILD, first, first]


def test_a_set_is_one_block_and_a_single_atom_is_its_own():
    c = Constraints()
    atoms = c.new_axis(Axis("weight", 0), 3)
    block = c.block(atoms)
    assert block not in atoms
    assert c.block(atoms) == block
    assert c.block(atoms[:1]) == atoms[0]


def test_zeros_agree_with_every_form():
    c = Constraints()
    one, other, third = {1, 2}, {1, 3}, {1}
    form = np.array([c.form(one), c.form(other), WILD])
    assert c.add(form, np.array([WILD])).tolist() == [WILD] * 3
    c.equate(form, np.array([WILD, c.form(other), c.form(third)]))
    assert c.num_equations == 0
    c.equate(form, np.array([NONE]))
    c.equate(form, np.array([NONE]))
    assert c.num_equations == 2


def test_equations_are_found_by_their_atoms():
    c = Constraints()
    for one, other in (({1, 2}, {2, 5}), ({3}, set()), ({5, 1}, set())):
        c.equate(np.array([c.form(one)]), np.array([c.form(other)]))
    assert c.num_equations == 2  # the third says what the first does

    def found(*atoms):
        numbers, places = c.equations_of(np.array(atoms))
        sets = {}
        for number, place in zip(numbers.tolist(), places.tolist(), strict=True):
            sets.setdefault(number, set()).add(atoms[place])
        return sorted(map(sorted, sets.values()))

    assert found(5, 3, 2, 1) == [[1, 5], [3]]
    assert found(5, 2) == [[5]]
    assert found(4) == []
    c.equate(np.array([c.form({4})]), np.array([NONE]))
    assert found(4) == [[4]]
