"""benchmarks/cases.py and peers.py: matrices by name and seed, and solvers that agree on them."""

from __future__ import annotations

import hashlib
import math

import numpy as np
import pytest
import scipy.optimize
import torch

from benchmarks import cases, peers
from benchmarks.cases import Case

CPU = torch.device("cpu")
# SHA-256 of the bytes at n = 32, seed 7: results name seeds, so the matrices must stay. Not of
# families that are products or roots, whose last bits are the machine's.
DIGESTS = {
    "uniform": "a4f237439bd4", "int100": "b2c4ad701e38", "product": "ccff24b71f67",
    "binary": "94e970ed91a8", "one zero a row": "c97d3e6319fb", "equal rows": "218c21d0953e",
    "equal columns": "7b556475091c", "constant": "e9bac255f4ad", "|a - b|": "985164f727c6",
    "a + b": "1a94bc653dc4", "blocks": "2417ae3a2fc6", "sparse": "785df203d5ad",
    "uniform float64": "b49fcbadf367", "scipy uniform": "9425aeeaefcf",
    "scipy integer": "9cf0b1d64061", "scipy binary": "210adf6e5c8f",
}  # fmt: skip


def families():
    return {**cases.SQUARE, **cases.DEGENERATE, **cases.SCIPY}


@pytest.mark.parametrize("case", ["planted 8 x 8", "|a - b| 4 x 4", "scipy binary 64 x 128",
    "SmolLM2 stream 15 (64 tokens) 576 x 576", "uniform 208 x 300 x 100"])  # fmt: skip
def test_a_case_is_read_as_it_is_written(case):
    assert str(Case.parse(case)) == case


def test_a_case_has_a_shape():
    assert Case.parse("uniform 208 x 300 x 100") == Case("uniform", 300, 100, 208)
    with pytest.raises(ValueError, match="got 'planted'"):
        Case.parse("planted")


@pytest.mark.parametrize("family", DIGESTS)
def test_matrices_stay_what_they_were(family):
    cost = cases.make(family, 32, 32, 7)
    assert hashlib.sha256(cost.tobytes()).hexdigest().startswith(DIGESTS[family])


def test_every_family_is_made():
    for family in families():
        cost = cases.make(family, 16, 16, 3)
        assert cost.shape == (16, 16)
        assert cost.dtype in (np.float32, np.float64)
        assert np.isfinite(cost).all()
        assert np.array_equal(cost, cases.make(family, 16, 16, 3))
        if family != "constant":
            assert not np.array_equal(cost, cases.make(family, 16, 16, 4))


@pytest.mark.parametrize("family", cases.SQUARE)
def test_a_device_draws_the_same_law(family):
    """Means and spreads of large matrices, of which the host has another sample."""
    n = 400
    host = cases.make(family, n, n, 5).astype(np.float64)
    device = cases.make(family, n, n, 5, CPU)
    assert device.dtype == torch.float32
    assert torch.equal(device, cases.make(family, n, n, 5, CPU))
    found = device.double().numpy()
    assert abs(found.mean() - host.mean()) < 0.15 * host.std()
    assert found.std() == pytest.approx(host.std(), rel=0.15)
    if family in ("planted", "corr16"):  # partners stand out in every row
        assert (np.sort(found)[:, 1] > 1.5 * found.min(1)).all()


def test_what_only_the_host_draws_is_carried_over():
    expected = torch.from_numpy(cases.make("|a - b|", 20, 20, 5))
    assert torch.equal(cases.make("|a - b|", 20, 20, 5, CPU), expected)


def test_batches():
    case = Case("uniform", 5, 7, 3)
    assert case.make(1).shape == (3, 5, 7)
    assert case.make(1, CPU).shape == (3, 5, 7)
    assert not np.array_equal(case.make(1), case.make(2))


@pytest.mark.parametrize(
    "name", [n for n, s in peers.HOST.items() if s.is_installed and n != peers.READ]
)
@pytest.mark.parametrize("shape", [(30, 30), (20, 30), (30, 20)])
def test_solvers_are_called_as_they_want(name, shape):
    solver = peers.HOST[name]
    if not solver.takes(*shape):
        assert solver.square_only
        return
    cost = cases.make("scipy uniform", *shape, 3)
    rows, cols = solver.matched(solver.solve(cost))
    assert len(rows) == min(shape)
    expected = cost[scipy.optimize.linear_sum_assignment(cost)].sum()
    assert cost[rows, cols].sum() == pytest.approx(expected, rel=1e-12)


def test_by_way_of_the_host_columns_come_back():
    solve = peers.DEVICE["scipy"].solve
    for problems, n, m in ((3, 5, 7), (3, 7, 5)):
        c = Case("uniform", n, m, problems).make(2, CPU)
        col_of_row = solve(c)
        assert col_of_row.shape == (problems, n)
        assert ((col_of_row >= 0).sum(1) == min(n, m)).all()
        for one, cols in zip(c.numpy(), col_of_row.numpy(), strict=True):
            rows = np.flatnonzero(cols >= 0)
            best = one[scipy.optimize.linear_sum_assignment(one)].sum()
            assert one[rows, cols[rows]].sum() == pytest.approx(best, rel=1e-6)


def test_a_peer_whose_answer_is_not_optimal_is_none():
    objectives = {"bmatch": 10.0, "scipy": 10.0, "lapjv": 10.0 + 1e-10, "lost": math.inf}
    excess = peers.excesses(objectives)
    assert excess["scipy"] == 0
    assert excess["lapjv"] == pytest.approx(1e-11, rel=1e-4)
    found = {name: peers.Found(1.0, value) for name, value in excess.items()}
    found[peers.READ] = peers.Found(0.1, 0.0)
    assert peers.exact_peers(found) == {"scipy": 1.0}
    assert peers.foretold(2.0, 100, 200) == 16.0
