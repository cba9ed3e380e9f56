"""Problems whose rows may stay out, sparse ones, and batches of several sizes, for the stress.

Oracles: for limits lap's extension, solved by SciPy; for as many pairs as possible integers so
small that SciPy's sums with a large number in place of forbidden pairs are exact.
"""

from __future__ import annotations

import numpy as np
import pytest
import scipy.optimize
import scipy.sparse
import torch
from optimality import SENSES, minimised, scipy_objective

import bmatch

MOST = 10**6  # of the costs of partial problems
LARGE = 2.0**40  # 60 of them and 60 costs are exact in float64
LEAST = np.nextafter(0.0, 1.0)  # half of a limit may be rounded by as much
COUNTED = ("complete", "limit", "partial")


def small_problem(r, families):
    """Costs [n, m] of a family, +inf for forbidden pairs of whatever sense, in a small type."""
    n, m = np.exp(r.uniform(0, np.log(60), 2)).astype(int)
    family = str(r.choice(sorted(families)))
    cost = families[family](r, n, m)
    if r.random() < 0.6:
        cost = np.rint(MOST * np.abs(cost / max(np.abs(cost).max(), 1e-300)))
        cost = np.floor(cost / float(r.choice([1, 1e3, 1e5])))
    if r.random() < 0.3:
        cost = cost * r.choice([-1, 1], cost.shape)
    with np.errstate(over="ignore"):
        single = cost.astype(np.float32)
    if r.random() < 0.5 and np.isfinite(single).all():
        cost = single
    if r.random() < 0.6:
        cost = np.where(r.random((n, m)) < r.random(), cost.dtype.type(np.inf), cost)
    return f"{family}, {n} x {m} {cost.dtype}", cost


def best_complete(c):
    """The least sum of a complete matching; None where there is none."""
    try:
        return scipy_objective(c)
    except ValueError:
        return None


def best_limited(c, low):
    """The least sum of lap's extension."""
    n, m = c.shape
    extension = np.full((n + m, n + m), low / 2)
    extension[:n, :m] = np.where(c > low, np.inf, c)
    extension[n:, m:] = 0
    return best_complete(extension)


def best_partial(c):
    """As many pairs as possible, and their least sum, of integers."""
    filled = np.where(np.isinf(c), LARGE, c)
    pairs = scipy.optimize.linear_sum_assignment(filled)
    matched = filled[pairs]
    return np.count_nonzero(matched < LARGE), matched[matched < LARGE].sum()


def require(c, rows, cols, kind, low, name):
    """These pairs are a matching of allowed pairs, and none is better."""
    n, m = c.shape
    assert len(rows) == len(cols) == len(set(rows)) == len(set(cols)), name
    matched = c[rows, cols]
    assert np.isfinite(matched).all(), (name, "a forbidden pair")
    if kind == "partial":
        assert (len(rows), matched.sum()) == best_partial(c), name
        return
    total, expected, size = matched.sum(), best_complete(c), np.abs(matched).sum()
    if kind == "limit":
        assert (matched <= low).all(), (name, "a pair above the limit")
        out = n + m - 2 * len(rows)
        total, size = total + low / 2 * out, size + abs(low) / 2 * out
        expected = best_limited(c, low)
    else:
        assert len(rows) == min(n, m), name
    rounding = 1e-12 * size + (n + m) * LEAST
    assert abs(total - expected) <= rounding, (name, total, expected)


def prove(stored, c, answer, sense, name):
    """The answer's duals, and those that `certify` is given, prove it."""
    scale = np.abs(c[np.isfinite(c)]).max(initial=abs(answer.cost_limit or 0.0))
    rounding = 1e-12 * scale + LEAST
    proof = bmatch.certify(stored, answer, **SENSES[sense])
    assert proof.min_reduced_cost >= -rounding, (name, proof)
    assert abs(proof.gap) <= rounding * sum(c.shape), (name, proof)
    assert 0 <= answer.gap <= rounding * sum(c.shape), (name, answer.gap)


def options_for(kind, cost, r):
    """How the kind is asked for, and its limit."""
    if kind == "partial":
        return {"partial": True}, None
    if kind == "complete":
        return {}, None
    finite = np.abs(cost[np.isfinite(cost)]) if r.random() < 0.5 else cost[np.isfinite(cost)]
    limit = float(np.quantile(finite, r.random())) if finite.size else 1.0
    return {"cost_limit": limit}, limit


def drawn(r, families):
    """A problem, the sense and the kind that it is asked for."""
    name, cost = small_problem(r, families)
    sense = str(r.choice([*SENSES]))
    kind = str(r.choice(COUNTED))
    finite = cost[np.isfinite(cost)]
    if kind == "partial" and ((np.abs(finite) > MOST).any() or (finite % 1 != 0).any()):
        kind = "limit"
    return f"{name}, {sense}, {kind}", cost, sense, kind


def as_stored(cost, sense, r):
    """Dense, or sparse with the finite entries: in the caller's sense."""
    worst = -np.inf if sense == "maximize" else np.inf
    forbidden = np.isinf(cost)
    if r.random() < 0.5 and not (sense == "magnitude" and forbidden.any()):
        return "dense", np.where(forbidden, cost.dtype.type(worst), cost)
    row, col = np.nonzero(~forbidden)
    order = r.permutation(len(row))
    entries = scipy.sparse.coo_matrix((cost[row, col][order], (row[order], col[order])), cost.shape)
    layout = str(r.choice(["coo", "csr", "csc"]))
    return f"sparse {layout}", entries.asformat(layout)


def check_alone(r, families, counts):
    """A problem, dense or sparse, complete, with a limit or partial."""
    name, cost, sense, kind = drawn(r, families)
    layout, stored = as_stored(cost, sense, r)
    name = f"{name}, {layout}"
    counts[f"{layout.split()[0]} {kind}"] += 1
    c = minimised(cost, sense)
    options, limit = options_for(kind, cost, r)
    low = None if limit is None else limit if sense == "minimize" else -limit
    if kind == "complete" and best_complete(c) is None:
        with pytest.raises(ValueError, match="infeasible"):
            bmatch.solve(stored, **SENSES[sense])
        return
    answer = bmatch.solve(stored, **SENSES[sense], **options)
    require(c, answer.row_ind, answer.col_ind, kind, low, name)
    prove(stored, c, answer, sense, name)


def check_ragged(r, families, counts):
    """A batch that is padded with NaN, a problem of each size."""
    counts["ragged"] += 1
    kind = str(r.choice(["limit", "partial"]))
    maximize = bool(r.random() < 0.5)
    sense = "maximize" if maximize else "minimize"
    drawn_ones = [drawn(r, families) for _ in range(int(r.integers(1, 5)))]
    costs = [cost for _, cost, _, of in drawn_ones if (of == "partial") == (kind == "partial")]
    if not costs:
        return
    sizes = np.array([cost.shape for cost in costs])
    batch = np.full((len(costs), *sizes.max(0)), np.nan)
    limits = np.empty(len(costs))
    for k, cost in enumerate(costs):
        rows, cols = cost.shape
        batch[k, :rows, :cols] = np.where(np.isinf(cost), -np.inf if maximize else np.inf, cost)
        limits[k] = options_for("limit", cost, r)[1]
    options = {"partial": True} if kind == "partial" else {"cost_limit": limits}
    found = bmatch.batch_linear_sum_assignment(batch, maximize, sizes=sizes, **options)
    for cost, limit, columns in zip(costs, limits, found, strict=True):
        rows = np.flatnonzero(columns >= 0)
        low = -limit if maximize else limit
        require(minimised(cost, sense), rows, columns[rows], kind, low, f"ragged {sense} {kind}")


def check_half(r, families, counts):
    """bfloat16, which only tensors have, as stored."""
    counts["bfloat16"] += 1
    name, cost = small_problem(r, families)
    with np.errstate(over="ignore"):
        stored = torch.from_numpy(np.ascontiguousarray(cost, np.float32)).bfloat16()
    c = stored.double().numpy()
    if best_complete(c) is None:
        return
    answer = bmatch.solve(stored)
    rows, cols = np.asarray(answer.row_ind), np.asarray(answer.col_ind)
    require(c, rows, cols, "complete", None, f"{name}, bfloat16")


KINDS = (check_alone, check_ragged, check_half)
SHARES = (0.7, 0.2, 0.1)
