"""Signs by linear algebra against all assignments of signs, tried one by one."""

from __future__ import annotations

import functools
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bmatch.architecture.constraints import NONE, Axis, Constraints
from bmatch.architecture.permutations import Slots
from bmatch.architecture.signs import _flips, _solutions, odd_slots


@given(st.lists(st.integers(0, 63), max_size=8))
def test_solutions_are_all_vectors_with_even_overlap(rows):
    expected = {v for v in range(64) if all((v & row).bit_count() % 2 == 0 for row in rows)}
    basis = _solutions(rows, 6)
    sums = set()
    for chosen in itertools.product((0, 1), repeat=len(basis)):
        total = 0
        for take, vector in zip(chosen, basis, strict=True):
            total ^= vector if take else 0
        sums.add(total)
    assert sums == expected
    assert len(sums) == 2 ** len(basis)


def space(slots, nodes=1, units=3):
    """Constraints without equations, and units with one atom in each of some axes."""
    c = Constraints()
    columns = [c.new_axis(Axis(f"weight{k}", 0), units) for k in range(slots)]
    return c, Slots(tuple(range(slots)), np.stack(columns, axis=1), nodes)


def even(c, *atoms):
    """The signs of some atoms sum to nothing."""
    c.equate(np.array([c.form(map(int, atoms))]), np.array([NONE]))


def equal(c, atoms, *slots):
    """In each unit the signs of these slots sum to nothing."""
    for row in atoms:
        even(c, *(row[k] for k in slots))


def test_a_writer_and_its_reader_flip_together():
    c, found = space(3)
    equal(c, found.atoms, 0, 1)
    equal(c, found.atoms, 2)
    assert odd_slots(c, found, frozenset()) == ("signed_permutation", (True, True, False))


def test_gains_stay_as_they_are():
    c, found = space(3)
    equal(c, found.atoms, 0, 1, 2)
    assert odd_slots(c, found, frozenset({1})) == ("signed_permutation", (True, False, True))


def test_a_mean_over_units_leaves_one_sign_for_all():
    c, found = space(2)
    equal(c, found.atoms, 0, 1)
    for row in found.atoms[1:]:
        even(c, row[0], found.atoms[0, 0])
    assert odd_slots(c, found, frozenset()) == ("permutation_global_sign", (True, True))


def test_without_any_freedom_there_are_no_signs():
    c, found = space(2)
    equal(c, found.atoms, 0)
    equal(c, found.atoms, 1)
    assert odd_slots(c, found, frozenset()) == ("permutation", (False, False))


@pytest.mark.parametrize(("nodes", "group"), [(1, "signed_permutation"), (4, "permutation")])
def test_a_block_whose_parts_flip_apart_has_no_sign(nodes, group):
    c, found = space(4, nodes=nodes)
    equal(c, found.atoms, 0, 1)
    equal(c, found.atoms, 2, 3)
    assert odd_slots(c, found, frozenset())[0] == group


def test_rows_and_columns_of_one_matrix_are_no_sign_of_the_space():
    """A head's square matrix, whose two flips undo each other, beside a stream that is tied."""
    c, found = space(6)
    equal(c, found.atoms, 0, 1)
    equal(c, found.atoms, 0, 2)
    equal(c, found.atoms, 2, 3)  # a gain, before what is tied reads
    for row in found.atoms[1:]:
        even(c, row[0], found.atoms[0, 0])
    for row, other in itertools.product(found.atoms, repeat=2):
        even(c, row[4], other[5])
    expected = ("permutation_global_sign", (True, True, True, True, False, False))
    assert odd_slots(c, found, frozenset({3})) == expected


def test_the_sign_for_all_may_pass_through_a_gain():
    """A tied head behind a norm of its own: the gain flips with the rest."""
    c, found = space(3)
    equal(c, found.atoms, 0, 1)
    equal(c, found.atoms, 1, 2)
    for row in found.atoms[1:]:
        even(c, row[0], found.atoms[0, 0])
    expected = ("permutation_global_sign", (True, True, True))
    assert odd_slots(c, found, frozenset({2})) == expected


@given(st.data(), st.integers(1, 3), st.sampled_from([1, 5, 70]))
def test_slots_that_flip_evenly_are_those_of_sets(data, units, slots):
    """More slots than a number has bits among them."""
    c, found = space(slots, units=units)
    atoms = st.sets(st.integers(1, units * slots), min_size=1, max_size=6)
    alone, together = set(), set()
    for members in data.draw(st.lists(atoms, max_size=6)):
        even(c, *members)
        by_unit = {}
        for unit, slot in np.argwhere(np.isin(found.atoms, sorted(members))).tolist():
            by_unit[unit] = by_unit.get(unit, 0) ^ 1 << slot
        alone |= {*by_unit.values()}
        together.add(functools.reduce(int.__xor__, by_unit.values()))
    assert tuple(map(sorted, _flips(c, found))) == (sorted(alone), sorted(together))
