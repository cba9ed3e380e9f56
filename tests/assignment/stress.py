"""The solver against SciPy for as long as one likes: ``make stress``.

Problems are drawn from a seed: family, shape, dtype, layout, sense, forbidden pairs, threads, and
the way they are asked. Half of them have rows that may stay out, are sparse, or are batches of
several sizes (stress_kinds.py). Instruction sets take turns. The first wrong answer ends the run
with what it takes to draw it again.
"""

from __future__ import annotations

import argparse
import collections
import itertools
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import scipy.optimize

import bmatch
from bmatch import _core

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from stress_kinds import KINDS, SHARES
from test_fuzz import FAMILIES

NARROW = ("float16", "int64", "int32", "int16", "int8", "uint32", "uint16", "uint8", "bool", "wide")
DTYPES = ("float64", "float32", *NARROW)
SLICE = 60.0  # seconds an instruction set


def draw(r):
    """A problem: what it is called, the matrix, and how it is to be asked."""
    n = int(np.exp(r.uniform(0, np.log(900 if r.random() < 0.1 else 250))))
    m = n + int(r.choice([0, 0, 0, 1, 2, n // 8, n, 3 * n]))
    family = str(r.choice(sorted(FAMILIES)))
    dtype = str(r.choice(DTYPES, p=[0.3, 0.3, *[0.4 / len(NARROW)] * len(NARROW)]))
    cost = FAMILIES[family](r, n, m)
    if dtype.startswith("float"):
        with np.errstate(over="ignore"):
            cast = cost.astype(dtype)
        cost = cast if np.isfinite(cast).all() else cost
    else:
        top = {"bool": 1, "int8": 100, "uint8": 255, "int16": 30_000, "uint16": 60_000}.get(
            dtype, 10 ** int(r.integers(1, 9))
        )
        unit = cost / max(np.abs(cost).max(), 1e-300)
        cost = np.rint(top * np.abs(unit))
        # Beyond 2**53: an offset that no optimum depends on, and that float64 would round.
        offset = int(r.choice([-1, 1])) * 2**60 if dtype == "wide" else 0
        cost = cost.astype("int64" if dtype == "wide" else dtype)
        cost = cost + offset if offset else cost
    goal = str(r.choice(["minimize", "maximize", "sign_marginalized"], p=[0.6, 0.25, 0.15]))
    if cost.dtype.kind in "fi" and dtype not in ("int8", "int16", "wide") and r.random() < 0.3:
        cost = cost * r.choice([-1, 1], cost.shape).astype(cost.dtype)
    forbidding = goal != "sign_marginalized" and cost.dtype.kind == "f" and r.random() < 0.25
    if forbidding:
        never = np.array(-np.inf if goal == "maximize" else np.inf, cost.dtype)
        cost = np.where(r.random((n, m)) < r.random(), never, cost)
    if r.random() < 0.3:
        cost = cost.T
    layout = int(r.integers(5))
    if layout == 1:
        cost = np.asfortranarray(cost)
    elif layout == 2:
        spread = np.zeros((cost.shape[0], 3 * cost.shape[1]), dtype=cost.dtype)
        spread[:, ::3] = cost
        cost = spread[:, ::3]
    elif layout == 3:
        cost = np.ascontiguousarray(cost[::-1, ::-1])[::-1, ::-1]
    elif layout == 4 and cost.dtype.kind in "fi":
        cost = cost.astype(cost.dtype.newbyteorder())
    name = f"{family}, {cost.shape[0]} x {cost.shape[1]} {dtype}, layout {layout}, {goal}"
    return name + (", forbidden pairs" if forbidding else ""), cost, goal, int(r.integers(1, 4))


def check(r, counts):
    """One problem; an AssertionError says what does not hold."""
    if r.random() < 0.5:
        r.choice(KINDS, p=SHARES)(r, FAMILIES, counts)
    else:
        check_complete(r, counts)


def check_complete(r, counts):
    """A complete matching of a dense matrix, and all the ways to ask for it."""
    name, cost, goal, threads = draw(r)
    maximize = goal != "minimize"
    options = {} if goal == "minimize" else {goal: True}
    before = cost.copy()
    low = int(cost.min()) if cost.dtype.kind in "iu" and np.abs(cost).max() > 2**53 else 0
    costs = (cost - low).astype(np.float64)  # what SciPy can hold
    if goal == "sign_marginalized":
        costs = np.abs(costs) if low == 0 else costs * np.sign(low)
    counts[goal] += 1
    try:
        pairs = scipy.optimize.linear_sum_assignment(costs, maximize)
    except ValueError:
        counts["infeasible"] += 1
        with pytest.raises(ValueError, match="cost matrix is infeasible"):
            bmatch.solve(cost, **options, num_threads=threads)
        return

    def agrees(rows, cols, what, costs=costs, pairs=pairs):
        assert len(rows) == len(cols) == len(set(rows)) == len(set(cols)) == min(cost.shape), name
        matched = costs[rows, cols]
        off = abs(matched.sum() - costs[pairs].sum())
        assert off <= 1e-12 * np.abs(matched).sum(), (name, what, off)

    a = bmatch.solve(cost, **options, num_threads=threads)
    agrees(a.row_ind, a.col_ind, f"{threads} threads")
    other = bmatch.solve(cost, **options, num_threads=threads % 3 + 1)
    assert np.array_equal(other.col_ind, a.col_ind), (name, "another answer with other threads")
    assert np.array_equal(other.col_dual, a.col_dual), (name, "other duals with other threads")
    scale = np.abs(costs[np.isfinite(costs)]).max(initial=0.0)
    c = bmatch.certify(cost, a, **options)
    assert c.min_reduced_cost >= -1e-12 * scale, (name, c)
    limit = 1e-12 * np.abs(costs[pairs]).sum() + max(cost.shape) * np.spacing(scale)
    assert abs(c.gap) <= limit, (name, c)
    assert 0 <= a.gap <= limit, (name, a.gap)

    if goal != "sign_marginalized":
        agrees(*bmatch.linear_sum_assignment(cost, maximize), "drop-in")
    if r.random() < 0.2 and goal != "sign_marginalized":
        counts["batches"] += 1
        flipped = np.stack([cost, cost[::-1]])
        out = bmatch.batch_linear_sum_assignment(flipped, maximize, num_threads=threads)
        rows = np.flatnonzero(out[0] >= 0)
        agrees(rows, out[0][rows], "batch")
        rows = np.flatnonzero(out[1] >= 0)
        # Where costs span more than float64 holds, SciPy's answer depends on the order of the rows.
        turned = costs[::-1], scipy.optimize.linear_sum_assignment(costs[::-1], maximize)
        agrees(rows, out[1][rows], "batch, second problem", *turned)
    if r.random() < 0.2 and cost.dtype.kind == "f":
        counts["warm starts"] += 1
        with np.errstate(over="ignore"):
            near = cost * (1 + 1e-3 * r.random(cost.shape)).astype(cost.dtype)
        if np.array_equal(np.isfinite(near), np.isfinite(cost)):
            start = bmatch.solve(near, **options)
            warm = bmatch.solve(cost, **options, warm_start=start, num_threads=threads)
            agrees(warm.row_ind, warm.col_ind, "warm start")
    if r.random() < 0.3 and cost.dtype in (np.float32, np.float64) and cost.dtype.isnative:
        counts["small ones by the large route"] += 1
        sense = getattr(_core.Sense, goal if goal != "sign_marginalized" else "maximize_magnitude")
        oriented = cost.T if cost.shape[0] > cost.shape[1] else cost
        solved = _core.solve(oriented, sense, threads, True, None, small=0)
        found = np.arange(len(oriented)), solved.col_of_row
        agrees(*(found[::-1] if oriented is not cost else found), "large route")
    assert np.array_equal(before, cost), (name, "input written to")


def work(seed, first, seconds):
    """Problems from number `first` on; returns how many there were."""
    counts = collections.Counter()
    end = time.monotonic() + seconds
    number = first
    while time.monotonic() < end:
        try:
            check(np.random.default_rng([seed, number]), counts)
        except BaseException:
            print(f"seed {seed}, problem {number}, {_core.instruction_set()}", flush=True)
            raise
        number += 1
    done = ", ".join(f"{count} {what}" for what, count in sorted(counts.items()))
    print(f"{number - first} {_core.instruction_set()}: {done}", flush=True)
    return number - first


def main():
    """Slices of the time for the instruction sets in turn, until it is over."""
    sets = _core.instruction_sets()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=1800.0)
    parser.add_argument("--seed", type=int, default=20261122)
    parser.add_argument("--first", type=int, default=0, help="number of the first problem")
    parser.add_argument("--isa", choices=sets, help="this instruction set alone")
    options = parser.parse_args()
    end = time.monotonic() + options.seconds
    first, total = options.first, collections.Counter()
    for isa in itertools.cycle(sets if options.isa is None else [options.isa]):
        if (left := end - time.monotonic()) <= 0:
            break
        _core.use(isa)
        count = work(options.seed, first, min(SLICE, left))
        total[isa] += count
        first += count
    print(
        f"no wrong answer: {sum(total.values())} problems in {options.seconds:.0f} s, {dict(total)}"
    )


if __name__ == "__main__":
    main()
