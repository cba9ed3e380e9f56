"""Spaces read off relations between atoms, against all permutations of small graphs."""

from __future__ import annotations

import numpy as np

from bmatch.architecture.constraints import Axis, Constraints
from bmatch.architecture.permutations import Graph, spaces


def found(c):
    """Group the atoms of each space by their units."""
    return {frozenset(frozenset(row.tolist()) for row in slots.atoms) for slots in spaces(c)}


def units(*groups):
    return frozenset(frozenset(int(atom) for atom in group) for group in groups)


def test_axes_that_meet_are_one_space():
    c = Constraints()
    rows, columns = (c.new_axis(Axis(name, 0), 4) for name in ("writes", "reads"))
    c.union(rows, columns)
    (slots,) = spaces(c)
    assert np.array_equal(slots.atoms, np.stack([rows, columns], axis=1))
    assert slots.nodes == 1


def test_an_axis_that_nothing_meets_is_no_space():
    c = Constraints()
    c.new_axis(Axis("positions", 0), 5)
    assert spaces(c) == []


def test_colours_tell_atoms_apart():
    c = Constraints()
    rows, columns = (c.new_axis(Axis(name, 0), 4) for name in ("writes", "reads"))
    c.union(rows, columns)
    c.colour(rows[:2], np.array([7, 7], np.uint64))
    assert found(c) == {
        units((rows[0], columns[0]), (rows[1], columns[1])),
        units((rows[2], columns[2]), (rows[3], columns[3])),
    }


def test_heads_and_the_dimensions_inside_of_each():
    c = Constraints()
    values, output = (c.new_axis(Axis(name, 0), 6) for name in ("values", "output"))
    c.union(values, output)
    for head in range(2):
        c.block(values[3 * head : 3 * head + 3])
    pairs = list(zip(values, output, strict=True))
    whole = [sum(map(tuple, pairs[:3]), ()), sum(map(tuple, pairs[3:]), ())]
    assert found(c) == {units(*whole), units(*pairs[:3]), units(*pairs[3:])}
    assert sorted(slots.nodes > 1 for slots in spaces(c)) == [False, False, True]


def test_heads_of_different_sizes_stay():
    c = Constraints()
    values, output = (c.new_axis(Axis(name, 0), 5) for name in ("values", "output"))
    c.union(values, output)
    c.block(values[:2])
    c.block(values[2:])
    pairs = list(zip(values, output, strict=True))
    assert found(c) == {units(*pairs[:2]), units(*pairs[2:])}


def test_pairs_move_as_pairs():
    """Two atoms of one axis in a class, as rotary embeddings tie them, keep their order."""
    c = Constraints()
    query = c.new_axis(Axis("query", 0), 6)
    gains = c.new_axis(Axis("gains", 0), 6)
    c.union(query[:3], query[3:])
    c.relate(query, gains)
    assert found(c) == {units(*zip(query[:3], query[3:], gains[:3], gains[3:], strict=True))}


def test_an_exchange_that_forces_what_has_to_stay_is_none():
    c = Constraints()
    values, output = (c.new_axis(Axis(name, 0), 2) for name in ("values", "output"))
    c.relate(values, output)
    graph = Graph(c)
    pairs = graph.exchange(0, 1)
    assert {frozenset(pair) for pair in pairs} == {frozenset({0, 1}), frozenset({2, 3})}
    assert graph.exchange(0, 1, {2}) is None
