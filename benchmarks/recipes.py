"""Recipes: what a matrix is made of, in one line that makes it again.

A recipe is a family and operations on it, in their order: ``"IoU > row scales 4 > cap 0.3"``. An
operation may take a number, or the name of another family. Infinite costs are always the last.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Any, NamedTuple

import numpy as np

Rng = np.random.Generator
Matrix = Any  # an array [n, m]
Shaped = Callable[[int, int], Matrix]  # the matrix before the operation, at any shape

THEN = " > "
MOST = 1e30
"""What finite entries are kept within, so that float32 holds them and sums stay finite."""


class Operation(NamedTuple):
    """One step.

    Attributes
    ----------
    apply : callable
        ``(rng, before, n, m, argument) -> [n, m]``, where ``before(n, m)`` draws what the steps
        before it make.
    choices : sequence
        Arguments that compositions take; None for an operation without, "family" for a name.
    last : bool
        Whether nothing may follow.
    """

    apply: Callable[[Rng, Shaped, int, int, Any], Matrix]
    choices: Sequence[Any] = (None,)
    last: bool = False


def _spread(cost: Matrix) -> float:
    """The standard deviation of the entries; 1 if they are equal."""
    return float(cost[:: 1 + len(cost) // 256].std()) or 1.0


def _quantile(cost: Matrix, share: float) -> float:
    return float(np.quantile(cost[:: 1 + len(cost) // 256], share))


def _levels(cost: Matrix, count: float) -> Matrix:
    """Rounded to so many integers."""
    least, most = cost.min(), cost.max()
    return np.round((cost - least) / (most - least or 1.0) * (count - 1))


def _zero_rows(r: Rng, before: Shaped, n: int, m: int, share: float) -> Matrix:
    cost, kept = np.zeros((n, m)), max(1, round(n * (1 - share)))
    cost[:kept] = before(kept, m)
    return cost


def _padded(r: Rng, before: Shaped, n: int, m: int, share: float) -> Matrix:
    """Rows and columns of the largest entry."""
    kept = before(max(1, round(n * (1 - share))), max(1, round(m * (1 - share))))
    cost = np.full((n, m), float(kept.max()))
    cost[: len(kept), : kept.shape[1]] = kept
    return cost


def _copies(r: Rng, before: Shaped, n: int, m: int, count: float) -> Matrix:
    kept = max(1, int(n // count))
    return before(kept, m)[r.integers(0, kept, n)]


def _large(cost: Matrix, where: Matrix, value: float) -> Matrix:
    return np.where(where, value, cost)


def _nearest(cost: Matrix, count: int) -> Matrix:
    """The least so many of a row; the rest as large as the largest."""
    k = min(count, cost.shape[1]) - 1
    return _large(cost, cost > np.partition(cost, k, axis=1)[:, k : k + 1], float(cost.max()))


def _blocks(cost: Matrix, count: int) -> Matrix:
    i, j = (np.arange(k) * count // k for k in cost.shape)
    return _large(cost, np.not_equal.outer(i, j), float(cost.max()))


def _infinite(r: Rng, before: Shaped, n: int, m: int, share: float) -> Matrix:
    """A complete matching is left."""
    k, where = min(n, m), r.random((n, m)) < share
    where[r.permutation(n)[:k], r.permutation(m)[:k]] = False
    return _large(before(n, m), where, np.inf)


def _low_rank(r: Rng, cost: Matrix, times: float) -> Matrix:
    n, m = cost.shape
    return cost + times * _spread(cost) * (r.standard_normal((n, 2)) @ r.standard_normal((2, m)))


def _mixed(r: Rng, cost: Matrix, other: Matrix, part: float | None) -> Matrix:
    """The sum, or of every entry one of both, each in units of its own spread."""
    cost, other = (np.where(np.isfinite(z), z, MOST) / _spread(z) for z in (cost, other))
    return cost + other if part is None else np.where(r.random(cost.shape) < part, other, cost)


def _entries(change: Callable[[Rng, Matrix, Any], Matrix]) -> Callable[..., Matrix]:
    """An operation that keeps the shape."""
    return lambda r, before, n, m, x: change(r, before(n, m), x)


FAMILY = "family"
OPERATIONS: dict[str, Operation] = {
    "row scales": Operation(
        _entries(lambda r, c, x: c * 10 ** r.uniform(-x, x, (len(c), 1))), (0.3, 1.0, 3.0)
    ),
    "column scales": Operation(
        _entries(lambda r, c, x: c * 10 ** r.uniform(-x, x, c.shape[1])), (0.3, 1.0, 3.0)
    ),
    "row shifts": Operation(
        _entries(lambda r, c, x: c + x * _spread(c) * r.random((len(c), 1))), (1.0, 30.0, 1e4)
    ),
    "column shifts": Operation(
        _entries(lambda r, c, x: c + x * _spread(c) * r.random(c.shape[1])), (1.0, 30.0, 1e4)
    ),
    "levels": Operation(_entries(lambda r, c, x: _levels(c, x)), (2, 5, 20, 256)),
    "cap": Operation(
        _entries(lambda r, c, x: np.minimum(c, _quantile(c, x))), (0.02, 0.1, 0.5, 0.9)
    ),
    "floor": Operation(_entries(lambda r, c, x: np.maximum(c, _quantile(c, x))), (0.02, 0.1, 0.5)),
    "zero rows": Operation(_zero_rows, (0.05, 0.3, 0.6)),
    "padded": Operation(_padded, (0.05, 0.3)),
    "copies": Operation(_copies, (2, 10, 50)),
    "forbidden": Operation(
        _entries(lambda r, c, x: _large(c, r.random(c.shape) < x, 1e6 * _spread(c))),
        (0.2, 0.9, 0.99),
    ),
    "infinite": Operation(_infinite, (0.2, 0.9, 0.99), last=True),
    "nearest": Operation(_entries(lambda r, c, x: _nearest(c, int(x))), (2, 5, 20)),
    "blocks": Operation(_entries(lambda r, c, x: _blocks(c, int(x))), (2, 8, 40)),
    "shuffled": Operation(
        _entries(lambda r, c, x: c[r.permutation(len(c))][:, r.permutation(c.shape[1])])
    ),
    "sorted": Operation(_entries(lambda r, c, x: np.sort(c, axis=1))),
    "transposed": Operation(lambda r, before, n, m, x: before(m, n).T),
    "low rank": Operation(_entries(_low_rank), (0.1, 1.0, 10.0)),
    "noise": Operation(
        _entries(lambda r, c, x: c + x * _spread(c) * r.standard_normal(c.shape)),
        (1e-4, 0.01, 0.1, 1.0),
    ),
    "abs": Operation(_entries(lambda r, c, x: abs(c))),
    "negative": Operation(_entries(lambda r, c, x: -c)),
    "exp": Operation(_entries(lambda r, c, x: np.exp(x * (c - c.mean()) / _spread(c))), (1.0, 5.0)),
    "plus": Operation(lambda r, before, n, m, x: _mixed(r, before(n, m), x(n, m), None), (FAMILY,)),
    "or": Operation(lambda r, before, n, m, x: _mixed(r, before(n, m), x(n, m), 0.3), (FAMILY,)),
}
"""What recipes are made of; of the sides, columns are reached by `transposed`."""


def is_recipe(name: str) -> bool:
    """Whether a name is that of a recipe, not of a family."""
    return THEN in name


def parse(step: str) -> tuple[str, str | None]:
    """The name of an operation and its argument."""
    for name in OPERATIONS:
        if step == name:
            return name, None
        if step.startswith(name + " "):
            return name, step[len(name) + 1 :]
    raise ValueError(f"a step of a recipe is one of {', '.join(OPERATIONS)}, got {step!r}")


def draw(
    r: Rng, recipe: str, n: int, m: int, family: Callable[[Rng, str, int, int], Matrix]
) -> Matrix:
    """The matrix ``[n, m]`` that a recipe makes of what `family` draws."""
    before, _, step = recipe.rpartition(THEN)
    if not before:
        return np.asarray(family(r, recipe, n, m), np.float64)
    name, text = parse(step)
    operation = OPERATIONS[name]
    argument: Any = text
    if operation.choices == (FAMILY,):
        argument = lambda n, m: np.asarray(family(r, str(text), n, m), np.float64)  # noqa: E731
    elif text is not None:
        argument = float(text)
    with np.errstate(over="ignore", under="ignore"):
        cost = operation.apply(r, lambda n, m: draw(r, before, n, m, family), n, m, argument)
    return np.where(np.isinf(cost) & operation.last, cost, np.clip(cost, -MOST, MOST))


def compose(random: Random, families: Sequence[str], steps: int) -> str:
    """A random recipe of so many steps."""
    return ordered(
        [random.choice(families), *(random_step(random, families) for _ in range(steps))]
    )


def random_step(random: Random, families: Sequence[str]) -> str:
    """One operation with an argument."""
    name = random.choice(list(OPERATIONS))
    argument = random.choice(OPERATIONS[name].choices)
    if argument == FAMILY:
        argument = random.choice(families)
    return name if argument is None else f"{name} {argument}"


def ordered(parts: Sequence[str]) -> str:
    """A recipe of a family and steps: what must be last is, once."""
    steps = [step for step in parts[1:] if not OPERATIONS[parse(step)[0]].last]
    last = [step for step in parts[1:] if OPERATIONS[parse(step)[0]].last]
    return THEN.join([parts[0], *steps, *last[:1]])


def mutated(random: Random, recipe: str, families: Sequence[str]) -> str:
    """The recipe with one part more, less, or another in its place."""
    parts = recipe.split(THEN)
    place = random.randrange(len(parts))
    kind = random.choice(("more", "less", "other"))
    if kind == "more" and len(parts) < 6:
        parts.insert(place + 1, random_step(random, families))
    elif kind == "less" and len(parts) > 2:
        del parts[max(1, place)]
    elif place == 0:
        parts[0] = random.choice(families)
    else:
        parts[place] = random_step(random, families)
    return ordered(parts)
