"""Matrices as they come: every type and layout, 64-bit integers, and what is refused."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.optimize
from optimality import assert_certified, scipy_objective

import bmatch
from bmatch import _core, arrays
from bmatch.assignment.costs import Costs, sense_of
from bmatch.assignment.margins import margins

DTYPES = ["float64", "float32", "float16", "int64", "int32", "int8", "uint8", "uint64", "bool"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(40, 40), (25, 60), (60, 25), (1, 7), (7, 1)])
def test_every_dtype_and_shape(dtype, shape):
    cost = np.random.default_rng(3).integers(0, 2 if dtype == "bool" else 100, shape).astype(dtype)
    a = bmatch.solve(cost)
    assert a.objective == scipy_objective(cost.astype(np.float64))
    assert_certified(cost, a)
    assert a.row_ind.dtype == a.col_ind.dtype == a.col_of_row.dtype == np.int64
    assert np.array_equal(np.flatnonzero(a.col_of_row >= 0), a.row_ind)
    assert np.array_equal(a.col_of_row[a.row_ind], a.col_ind)


def test_strided_input_is_read_in_place_and_never_written():
    base = np.random.default_rng(0).standard_normal((60, 90))
    before = base.copy()
    for view in (base.T, base[::2, ::-3], base[::-1], np.asfortranarray(base)):
        view.flags.writeable = False
        assert bmatch.solve(view).objective == pytest.approx(scipy_objective(view), rel=1e-13)
    fields = np.zeros((20, 20), dtype=[("a", "f8"), ("b", "i1")])
    fields["a"] = base[:20, :20]
    assert bmatch.solve(fields["a"]).objective == pytest.approx(scipy_objective(base[:20, :20]))
    swapped = base[:20, :20].astype(">f8")
    assert bmatch.solve(swapped).objective == pytest.approx(scipy_objective(base[:20, :20]))
    assert np.array_equal(base, before)


def test_torch_tensors_come_back_as_tensors():
    torch = pytest.importorskip("torch")

    cost = torch.rand(30, 40, generator=torch.Generator().manual_seed(0))
    kinds = cost.double(), cost.bfloat16(), cost.half(), cost.T, cost.clone().requires_grad_()
    for tensor in (cost, *kinds):
        a = bmatch.solve(tensor)
        expected = scipy_objective(tensor.detach().double().numpy())
        assert isinstance(a.row_ind, torch.Tensor)
        assert a.col_of_row.dtype == torch.int64
        assert a.objective == pytest.approx(expected, rel=1e-12)
    with pytest.raises(ValueError, match="cost matrix is on meta"):
        bmatch.solve(torch.empty(3, 3, device="meta"))


@pytest.mark.parametrize(
    ("cost", "error", "message"),
    [
        ([1, 2, 3], ValueError, r"expected a matrix \(2-D array\), got a 1 array"),
        (np.zeros((2, 2, 2)), ValueError, r"expected a matrix \(2-D array\), got a 3 array"),
        (np.array([["a", "b"], ["c", "d"]]), TypeError, "Cannot cast array data from dtype"),
        (np.eye(2) * 1j, TypeError, r"Cannot cast array data from dtype\('complex128'\)"),
        (np.eye(2, dtype=object), TypeError, r"Cannot cast array data from dtype\('O'\)"),
        ([[np.nan, 1], [1, 2]], ValueError, "matrix contains invalid numeric entries"),
        ([[-np.inf, 1], [1, 2]], ValueError, "matrix contains invalid numeric entries"),
        ([[np.inf, np.inf], [1, 2]], ValueError, "infeasible: row 0 has no finite entry"),
        ([[1, np.inf], [1, np.inf]], ValueError, "the 2 rows 0, 1 have finite entries in only 1"),
        ([[1], [np.inf], [np.inf]], None, None),
        ([[np.inf]] * 3, ValueError, "infeasible: column 0 has no finite entry"),
    ],
)
def test_bad_input(cost, error, message):
    if error is None:
        assert np.array_equal(bmatch.solve(cost).col_of_row, [0, -1, -1])
        return
    with pytest.raises(error, match=message):
        bmatch.linear_sum_assignment(cost)
    if error is TypeError or "2-D" in message:
        with pytest.raises(error):
            scipy.optimize.linear_sum_assignment(cost)


def test_infinities_by_direction():
    with pytest.raises(ValueError, match="invalid numeric entries"):
        bmatch.solve([[np.inf, 1], [1, 2]], maximize=True)
    with pytest.raises(ValueError, match="invalid numeric entries"):
        bmatch.solve([[-np.inf, 1], [1, 2]], sign_marginalized=True)
    assert bmatch.solve([[-np.inf, 1], [1, 2]], maximize=True).objective == 2


def test_wide_integers_are_exact_or_refused():
    near = 2**62 + np.array([[0, 1], [1, 0]]) * 3
    a = bmatch.solve(near, maximize=True)
    assert np.array_equal(a.col_ind, [1, 0])
    assert a.objective == float(2 * (2**62 + 3))
    assert np.array_equal(bmatch.linear_sum_assignment(near)[1], [0, 1])
    unsigned = np.array([[2**64 - 1, 2**64 - 2], [2**64 - 2, 2**64 - 2]], dtype=np.uint64)
    assert np.array_equal(bmatch.linear_sum_assignment(unsigned)[1], [1, 0])
    with pytest.raises(ValueError, match=r"further apart than float64 tells apart \(2\*\*53\)"):
        bmatch.solve(np.array([[0, 2**60 + 1], [1, 3]]))


def wide_integers(shape, low, dtype="int64", seed=0):
    """Integers that float64 does not tell apart, as Python integers too."""
    r = np.random.default_rng(seed)
    cost = (r.integers(0, 50, shape).astype(object) + low).astype(dtype)
    return cost, cost.astype(object)


def exact_optimum(whole, best):
    """By enumeration over the short side, in Python's integers."""
    short = whole if whole.shape[0] <= whole.shape[1] else whole.T
    columns = itertools.permutations(range(short.shape[1]), len(short))
    return best(sum(short[i, j] for i, j in enumerate(p)) for p in columns)


WIDE = [(2**62, "int64"), (-(2**62), "int64"), (-(2**53) - 60, "int64"), (2**64 - 50, "uint64")]


@pytest.mark.parametrize(("low", "dtype"), WIDE)
@pytest.mark.parametrize("shape", [(5, 5), (4, 6), (6, 4)])
@pytest.mark.parametrize("goal", ["minimize", "maximize", "sign_marginalized"])
def test_wide_integers_in_every_sense(low, dtype, shape, goal):
    cost, whole = wide_integers(shape, low, dtype)
    options = {} if goal == "minimize" else {goal: True}
    wanted = abs(whole) if goal == "sign_marginalized" else whole
    best = exact_optimum(wanted, min if goal == "minimize" else max)
    for matrix in (cost, np.asfortranarray(cost)):
        a = bmatch.solve(matrix, **options)
        assert sum(wanted[a.row_ind, a.col_ind]) == best
        assert a.objective == float(best)  # to the last bit, however many pairs
        assert a.gap == 0
        if goal == "sign_marginalized":
            assert np.array_equal(a.sign, np.full(min(shape), 1 if low > 0 else -1))
        slack = wanted.astype(float) - (a.row_dual[:, None] + a.col_dual)
        slack = slack if goal == "minimize" else -slack
        assert slack.min() >= -2 * np.spacing(float(abs(low)))  # duals are float64
        assert bmatch.solve(matrix, **options, warm_start=a).objective == a.objective
        for answer in (a, (a.row_ind, a.col_ind)):
            c = bmatch.certify(matrix, answer, **options)
            assert c.objective == c.bound == float(best)
            assert c.gap == 0
            assert c.min_reduced_cost == 0
        worse = a.row_ind, np.roll(a.col_ind, 1)
        c = bmatch.certify(matrix, worse, **options)
        assert c.gap == abs(best - sum(wanted[worse])) > 0
        assert c.objective == float(sum(wanted[worse]))


def margins_of(cost, maximize, sign_marginalized):
    found = bmatch.solve(cost, maximize, sign_marginalized=sign_marginalized)
    return margins(Costs.of(cost, sense_of(maximize, sign_marginalized)), found)


def test_wide_integers_in_batches_margins_and_matches():
    cost, whole = wide_integers((6, 6), 2**61, seed=3)
    moved = (whole - 2**61).astype(np.float64)
    out = bmatch.batch_linear_sum_assignment(np.stack([cost, cost.T]), maximize=True)
    assert sum(whole[np.arange(6), out[0]]) == exact_optimum(whole, max)
    assert sum(whole.T[np.arange(6), out[1]]) == exact_optimum(whole, max)
    for options in ((False, False), (True, False), (False, True)):
        margin, exact = margins_of(cost, *options)
        expected, _ = margins_of(moved, *options)
        assert exact.all()
        assert np.array_equal(margin, expected)
    margin, _ = margins_of(-cost, False, True)
    assert np.array_equal(margin, expected)
    with pytest.raises(ValueError, match=r"holds integers beyond 2\*\*53"):
        bmatch.match(cost)


LAYOUTS = {
    "rows": (lambda c: c, False),
    "columns": (lambda c: c.T.copy().T, True),
    "every other column": (lambda c: np.repeat(c, 2, axis=1)[:, ::2], False),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(6, 6), (4, 6), (6, 4)])
def test_the_short_side_is_the_solvers_rows(layout, shape):
    torch = pytest.importorskip("torch")
    arrange, columnwise = LAYOUTS[layout]
    cost = arrange(np.random.default_rng(0).random(shape))
    transposed = shape == (6, 4) or (shape == (6, 6) and columnwise)
    on_host = Costs.of(cost, _core.Sense.minimize)
    assert on_host.matrix is cost
    on_device = Costs.of_device(torch.from_numpy(cost), _core.Sense.minimize)
    assert on_device.oriented.stride(1) == 1
    for costs in (on_host, on_device, on_device.on_host()):
        assert costs.transposed == transposed
        assert costs.transposed_square == (transposed and shape == (6, 6))
        oriented = cost.T if transposed else cost
        assert np.array_equal(arrays.as_array(costs.oriented), oriented)
    assert isinstance(on_device.on_host().matrix, np.ndarray)
    assert on_host.on_host() is on_host


@pytest.mark.parametrize(
    ("sense", "low", "stored"),
    [
        ("minimize", -(2**60), "minimize"),
        ("maximize", 2**60, "maximize"),
        ("maximize_magnitude", 2**60, "maximize"),
        ("maximize_magnitude", -(2**60), "minimize"),
        ("maximize_magnitude", 5, "maximize_magnitude"),
    ],
)
def test_integers_are_moved_in_every_sense(sense, low, stored):
    cost = low + np.arange(12).reshape(3, 4)
    costs = Costs.of(cost, getattr(_core.Sense, sense))
    assert costs.shift == (low if abs(low) > 2**53 else 0)
    assert costs.stored_sense == getattr(_core.Sense, stored)
    whole = cost.astype(object)
    wanted = {"minimize": whole, "maximize": -whole, "maximize_magnitude": -abs(whole)}[sense]
    minimised = costs.minimised(costs.matrix)
    assert np.array_equal(minimised.astype(int).astype(object) + costs.minimised_shift, wanted)
    assert costs.total(minimised.ravel()) == float(wanted.sum())
    assert costs.negative(np.arange(3), np.arange(3)).tolist() == 3 * [low < 0]


def test_where_a_matrix_lies_is_asked_once(monkeypatch):
    asked = []
    is_on_device = arrays.is_on_device
    monkeypatch.setattr(arrays, "is_on_device", lambda v: asked.append(v) or is_on_device(v))
    cost = np.random.default_rng(0).random((5, 5))
    for ask in (bmatch.solve, bmatch.match):
        asked.clear()
        ask(cost)
        assert len(asked) == 1
