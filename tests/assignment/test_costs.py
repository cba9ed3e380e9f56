"""Matrices as they come: every type and layout, 64-bit integers, and what is refused."""

from __future__ import annotations

import itertools
import re
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
import scipy.optimize
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
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
    for eighth in (torch.float8_e4m3fn, torch.float8_e5m2):
        tensor = cost.to(eighth)
        assert bmatch.solve(tensor).objective == bmatch.solve(tensor.double()).objective
    rows = list(cost.bfloat16())
    assert bmatch.solve(rows).objective == bmatch.solve(cost.bfloat16()).objective


def test_tensors_that_hold_no_numbers_are_refused_in_a_sentence():
    torch = pytest.importorskip("torch")

    with pytest.raises(ValueError, match="on meta, where tensors hold no numbers: pass one that"):
        bmatch.solve(torch.empty(3, 3, device="meta"))
    with pytest.raises(TypeError, match=r"^Cannot cast array data from dtype\('complex64'\)"):
        bmatch.solve(torch.ones(3, 3, dtype=torch.complex64).conj())


@pytest.mark.parametrize(
    ("cost", "error", "message"),
    [
        ([1, 2, 3], ValueError, r"expected a matrix \(2-D array\), got a 1 array"),
        (np.zeros((2, 2, 2)), ValueError, r"expected a matrix \(2-D array\), got a 3 array"),
        (np.array([["a", "b"], ["c", "d"]]), TypeError, "Cannot cast array data from dtype"),
        (np.eye(2) * 1j, TypeError, r"Cannot cast array data from dtype\('complex128'\)"),
        ([[np.nan, 1], [1, 2]], ValueError, "matrix contains invalid numeric entries"),
        ([[-np.inf, 1], [1, 2]], ValueError, "matrix contains invalid numeric entries"),
        ([[np.inf, np.inf], [1, 2]], ValueError, "infeasible: row 0 has no finite entry"),
        ([[1, np.inf], [1, np.inf]], ValueError, "the 2 rows 0, 1 have finite entries in only 1"),
        (np.where(np.eye(3, 5) == 1, np.inf, [np.inf] * 4 + [1]), ValueError, "only 1 column$"),
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


def test_wide_integers_are_exact():
    near = 2**62 + np.array([[0, 1], [1, 0]]) * 3
    a = bmatch.solve(near, maximize=True)
    assert np.array_equal(a.col_ind, [1, 0])
    assert a.objective == float(2 * (2**62 + 3))
    assert np.array_equal(bmatch.linear_sum_assignment(near)[1], [0, 1])
    unsigned = np.array([[2**64 - 1, 2**64 - 2], [2**64 - 2, 2**64 - 2]], dtype=np.uint64)
    assert np.array_equal(bmatch.linear_sum_assignment(unsigned)[1], [1, 0])


@pytest.mark.parametrize("dtype", ["int64", "uint64"])
@pytest.mark.parametrize("maximize", [False, True])
def test_integers_further_apart_than_float64_tells_apart_are_rounded_as_scipy_rounds(
    dtype, maximize
):
    r = np.random.default_rng(0)
    limits = np.iinfo(dtype)
    never = limits.min if maximize else limits.max
    for _ in range(20):
        cost = r.integers(0, 50, (12, 12)).astype(dtype) + np.array(60 if maximize else 0, dtype)
        cost[(r.random((12, 12)) < 0.7) & ~np.eye(12, dtype=bool)] = never
        row_ind, col_ind = scipy.optimize.linear_sum_assignment(cost, maximize)
        a = bmatch.solve(cost, maximize)
        assert a.objective == cost[row_ind, col_ind].astype(object).sum()
        assert bmatch.certify(cost, a, maximize).gap == 0


OBJECTS = {
    "Decimal": [[Decimal("0.1"), Decimal(2)], [Decimal(3), Decimal(1)]],
    "Fraction": [[Fraction(1, 3), 2], [3, Fraction(1, 2)]],
    "integers": [[1, 10**20], [10**20, 1]],
    "strings": [["1", "2.5"], [" 3", "1e-3"]],
}


@pytest.mark.parametrize("kind", OBJECTS)
def test_objects_are_rounded_to_float64(kind):
    cost = OBJECTS[kind]
    numbers = np.array([[float(x) for x in row] for row in cost])
    assert np.array_equal(
        bmatch.linear_sum_assignment(cost)[1], scipy.optimize.linear_sum_assignment(cost)[1]
    )
    assert bmatch.solve(np.array(cost, dtype=object)).objective == np.trace(numbers)
    batch = bmatch.batch_linear_sum_assignment([cost, cost])
    assert batch.tolist() == [[0, 1], [0, 1]]


@pytest.mark.parametrize("cost", [[["1", "a"], ["2", "3"]], [[10**400, 1], [1, 1]], [[{}, 1]]])
def test_objects_that_are_no_numbers_are_refused_in_a_sentence(cost):
    with pytest.raises(TypeError, match=r"^cost matrix holds what float64 cannot hold: "):
        bmatch.linear_sum_assignment(cost)


def test_data_frames_are_read_and_what_they_lack_is_nan():
    class Frame:
        """As much of pandas.DataFrame as is asked for: an array of objects, and numbers of it."""

        def __array__(self, dtype=None, copy=None):
            return np.array([[1, 2], [3, None]], dtype=object)

        def to_numpy(self, dtype, na_value):
            assert np.isnan(na_value)
            return np.array([[1, 2], [3, na_value]], dtype=dtype)

    with pytest.raises(ValueError, match="nan in row 1, column 1;"):
        bmatch.linear_sum_assignment(Frame())
    assert bmatch.solve(Frame(), nonfinite="forbid").objective == 5


def test_a_batch_of_integers_is_judged_problem_by_problem():
    near = np.array([[2**62, 2**62 + 1], [2**62 + 5, 2**62]])
    never = np.iinfo(np.int64).max
    batch = np.stack([near, [[0, 1], [5, 0]], near.T[::-1], [[never, 1], [1, never]]])
    expected = [bmatch.linear_sum_assignment(problem)[1].tolist() for problem in batch]
    assert expected == [[0, 1], [0, 1], [1, 0], [1, 0]]
    assert bmatch.batch_linear_sum_assignment(batch).tolist() == expected


@pytest.mark.parametrize("shape", [(6, 9), (9, 6), (7, 7)])
@pytest.mark.parametrize("goal", ["minimize", "maximize", "sign_marginalized"])
@pytest.mark.parametrize("layout", [np.ascontiguousarray, np.asfortranarray])
def test_invalid_entries_are_named_in_the_callers_terms(shape, goal, layout):
    cost = np.random.default_rng(0).standard_normal(shape)
    options = {} if goal == "minimize" else {goal: True}
    cost[4, 2], cost[5, 1], cost[5, 3] = np.nan, np.inf, -np.inf
    count = {"minimize": 2, "maximize": 2, "sign_marginalized": 3}[goal]
    expected = (
        f"^matrix contains invalid numeric entries: nan in row 4, column 2, the first of {count};"
    )
    cost = layout(cost)
    for ask in (bmatch.solve, lambda c, **o: bmatch.certify(c, 2 * [range(min(shape))], **o)):
        with pytest.raises(ValueError, match=expected):
            ask(cost, **options)
    cost[4, 2] = 0.0
    where, value = ((5, 3), "-inf") if goal == "minimize" else ((5, 1), "inf")
    first = ", the first of 2" if goal == "sign_marginalized" else ""
    expected = f": {value} in row {where[0]}, column {where[1]}{first}; nonfinite='forbid'"
    with pytest.raises(ValueError, match=expected):
        bmatch.solve(cost, **options)
    if goal != "sign_marginalized":
        with pytest.raises(ValueError, match=expected):
            bmatch.linear_sum_assignment(cost, **options)
        batch = np.stack([np.zeros(shape), np.zeros(shape), cost])
        with pytest.raises(ValueError, match=rf"entries \(problem 2 of the batch\){expected}"):
            bmatch.batch_linear_sum_assignment(batch, **options)


def test_invalid_entries_are_found_behind_the_first_block():
    cost = np.zeros((3, 2**20 + 7), np.float32)
    cost[2, 2**20 + 3] = cost[2, 2**20 + 5] = np.nan
    with pytest.raises(ValueError, match="nan in row 2, column 1048579, the first of 2;"):
        bmatch.linear_sum_assignment(cost)


NONFINITE = [np.nan, np.inf, -np.inf]


@given(
    hnp.arrays(
        np.float64,
        st.tuples(st.integers(1, 7), st.integers(1, 7)),
        elements=st.one_of(st.floats(-50, 50, width=16), st.sampled_from(NONFINITE)),
    ),
    st.sampled_from(["minimize", "maximize", "sign_marginalized"]),
    st.sampled_from([np.float32, np.float64]),
)
@settings(max_examples=300)
def test_what_is_not_finite_forbids_a_pair(cost, goal, dtype):
    cost = cost.astype(dtype)
    before = cost.copy()
    options = {} if goal == "minimize" else {goal: True}
    wanted = {"minimize": cost, "maximize": -cost, "sign_marginalized": -np.abs(cost)}[goal]
    wanted = np.where(np.isfinite(cost), wanted, np.inf).astype(np.float64)
    try:
        expected = wanted[scipy.optimize.linear_sum_assignment(wanted)].sum()
    except ValueError:
        with pytest.raises(ValueError, match="cost matrix is infeasible"):
            bmatch.solve(cost, **options, nonfinite="forbid")
    else:
        flip = 1 if goal == "minimize" else -1
        a = bmatch.solve(cost, **options, nonfinite="forbid")
        assert flip * a.objective == pytest.approx(expected, abs=1e-9)
        c = bmatch.certify(cost, a, **options, nonfinite="forbid")
        assert c.objective == a.objective
        assert 0 <= c.gap <= 1e-9
        if goal != "sign_marginalized":
            (col_of_row,) = bmatch.batch_linear_sum_assignment(
                cost[None], **options, nonfinite="forbid"
            )
            assert np.array_equal(col_of_row, a.col_of_row)
    assert np.array_equal(cost, before, equal_nan=True)


def test_what_is_done_with_nan_is_one_of_two():
    with pytest.raises(ValueError, match="nonfinite must be 'raise' or 'forbid', got 'ignore'"):
        bmatch.solve(np.eye(2), nonfinite="ignore")


def test_more_columns_than_are_counted_are_refused():
    wide = np.broadcast_to(np.float32(1), (1, 2**32 + 3))
    for ask, cost, shape in (
        (bmatch.batch_linear_sum_assignment, wide[None], wide.shape),
        (bmatch.linear_sum_assignment, wide, wide.shape),
        (bmatch.solve, wide.T, wide.T.shape),
    ):
        with pytest.raises(ValueError, match=re.escape(f"cost matrix has shape {shape}, and the")):
            ask(cost)


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


@pytest.mark.parametrize("instructions", _core.instruction_sets())
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(9, 8), (17, 15), (40, 16), (130, 67), (500, 400)])
def test_columns_in_blocks_of_eight(shape, dtype, instructions):
    """Small tall matrices are read so: every value, at the edges too, and what is refused."""
    before = _core.instruction_set()
    _core.use(instructions)
    try:
        cost = np.random.default_rng(7).standard_normal(shape).astype(dtype)
        views = cost, np.ascontiguousarray(cost.T).T, np.repeat(cost, 2, 0)[::2]
        for matrix, maximize in itertools.product(views, (False, True)):
            wanted = scipy.optimize.linear_sum_assignment(cost, maximize)
            found = bmatch.linear_sum_assignment(matrix, maximize)
            assert all(np.array_equal(*pair) for pair in zip(found, wanted, strict=True))
        magnitudes = scipy.optimize.linear_sum_assignment(np.abs(cost), True)
        assert np.array_equal(bmatch.solve(cost, sign_marginalized=True).row_ind, magnitudes[0])
        for i, j in itertools.product((0, 7, shape[0] - 1), (0, 7, shape[1] - 1)):
            for value in (np.nan, -np.inf):
                wrong = cost.copy()
                wrong[i, j] = value
                with pytest.raises(ValueError, match="invalid numeric"):
                    bmatch.linear_sum_assignment(wrong)
    finally:
        _core.use(before)


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
