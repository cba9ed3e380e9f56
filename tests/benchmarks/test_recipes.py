"""benchmarks/recipes.py: one line makes a matrix again, and compositions are such lines."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from benchmarks import cases, recipes
from benchmarks.cases import Case
from benchmarks.slowest import BASES


@pytest.mark.parametrize("seed", range(60))
def test_compositions_are_made_by_their_name(seed):
    random = Random(seed)
    recipe = recipes.compose(random, BASES, 1 + seed % 4)
    n, m = random.randint(1, 50), random.randint(1, 50)
    case = Case(recipe + cases.WIDE, n, m)
    assert Case.parse(str(case)) == case
    cost = case.make(seed)
    assert cost.shape == (n, m)
    assert cost.dtype == np.float64
    assert np.array_equal(cost, case.make(seed))
    assert not np.isnan(cost).any()
    assert np.isfinite(cost[linear_sum_assignment(cost)]).all()
    for _ in range(5):
        recipe = recipes.mutated(random, recipe, BASES)
        assert recipes.is_recipe(recipe)
        assert cases.make(recipe, n, m, seed).dtype == np.float32


def test_the_same_seed_composes_the_same():
    composed = [recipes.compose(Random(9), BASES, 3) for _ in range(2)]
    assert composed[0] == composed[1]
    assert len({recipes.compose(Random(k), BASES, 3) for k in range(20)}) == 20


@pytest.mark.parametrize("name", recipes.OPERATIONS)
def test_every_operation_changes_something(name):
    argument = recipes.OPERATIONS[name].choices[-1]
    step = name if argument is None else f"{name} {'grid' if argument == 'family' else argument}"
    base = {"abs": "scipy uniform"}.get(name, "GIoU")
    for n, m in ((30, 40), (40, 30)):
        cost = cases.make(f"{base} > {step}", n, m, 3)
        assert cost.shape == (n, m)
        assert not np.array_equal(cost, cases.make(base + " > row shifts 0", n, m, 3))


def test_operations_do_what_they_say():
    plain = cases.make("uint8", 30, 30, 1)
    assert np.array_equal(cases.make("uint8 > negative", 30, 30, 1), -plain)
    assert np.array_equal(cases.make("uint8 > transposed", 30, 30, 1), plain.T)
    capped = cases.make("uint8 > cap 0.5", 30, 30, 1)
    assert np.array_equal(capped, np.minimum(plain, np.float32(np.quantile(plain, 0.5))))
    assert (cases.make("uint8 > zero rows 0.3", 30, 30, 1)[21:] == 0).all()
    assert len(np.unique(cases.make("uniform > levels 5", 30, 30, 1))) == 5
    assert len(np.unique(cases.make("uniform > copies 10", 30, 30, 1), axis=0)) <= 3
    assert (np.diff(cases.make("uniform > sorted", 30, 30, 1)) >= 0).all()


def test_infinite_costs_are_the_last():
    assert recipes.ordered(["IoU", "infinite 0.2", "abs", "infinite 0.9"]) == (
        "IoU > abs > infinite 0.2"
    )


def test_an_unknown_step_is_told():
    with pytest.raises(ValueError, match=r"one of row scales, .*, got 'frobnicate 3'"):
        cases.make("IoU > frobnicate 3", 4, 4, 0)
