"""The solver for CUDA devices through its Python layer, its kernels run on the CPU by fibers."""

from __future__ import annotations

import ctypes
import os
import sys
import types

import numpy as np
import pytest
import scipy.optimize
import torch
from fibers import built_fibers, needs_fibers, play_device
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_fuzz import FAMILIES

import bmatch
from bmatch import _core, arrays
from bmatch.assignment import cuda

EXAMPLES = int(os.environ.get("BMATCH_FUZZ_EXAMPLES", "400")) // 4
pytestmark = needs_fibers


@pytest.fixture(scope="module")
def fibers(tmp_path_factory):
    return built_fibers(tmp_path_factory)


@pytest.fixture(autouse=True)
def device(request, monkeypatch):
    if request.node.get_closest_marker("host") is None:
        play_device(monkeypatch, request.getfixturevalue("fibers"))


def agrees(cost, rows, cols, maximize=False):
    """Whether a matching's sum is SciPy's."""
    cost = cost.double().numpy()
    rows, cols = rows.numpy(), cols.numpy()
    assert list(rows) == sorted(set(rows))
    assert len(rows) == len(cols) == len(set(cols)) == min(cost.shape)
    expected = cost[scipy.optimize.linear_sum_assignment(cost, maximize)]
    off = abs(cost[rows, cols].sum() - expected.sum())
    assert off <= 1e-12 * np.abs(expected).sum()


@st.composite
def matrices(draw, most=60):
    r = np.random.default_rng(draw(st.integers(0, 2**32)))
    n = draw(st.integers(1, most))
    m = n + draw(st.sampled_from([0, 0, 0, 1, n // 8, n]))
    cost = FAMILIES[draw(st.sampled_from(sorted(FAMILIES)))](r, n, m)
    kind = draw(st.sampled_from([np.float64, np.float32, np.float16]))
    with np.errstate(over="ignore"):
        narrow = cost.astype(kind)
    cost = narrow if np.isfinite(narrow).all() else cost
    if draw(st.integers(0, 3)) == 0:
        cost = np.where(r.random((n, m)) < r.random(), cost.dtype.type(np.inf), cost)
    tensor = torch.from_numpy(cost)
    layout = draw(st.integers(0, 3))
    if layout == 1:
        tensor = tensor.T.contiguous().T
    elif layout == 2:
        tensor = torch.stack([tensor, tensor], 2)[:, :, 1]
    elif layout == 3:
        tensor = torch.cat([tensor, tensor], 1)[:, :m]
    return tensor.T if draw(st.integers(0, 3)) == 0 else tensor


TEAMS = st.sampled_from(list(_core.CudaTeam.__members__.values()))


@given(matrices(), st.booleans(), TEAMS, st.integers(0, 2**32))
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_objective_and_certificate(fibers, cost, maximize, team, seed):
    fibers.seed(seed)
    cost = -cost if maximize else cost
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cuda, "team_for", lambda *_: team)
        try:
            scipy.optimize.linear_sum_assignment(cost.double().numpy(), maximize)
        except ValueError:
            with pytest.raises(ValueError, match="cost matrix is infeasible"):
                bmatch.solve(cost, maximize, backend="cuda")
            return
        a = bmatch.solve(cost, maximize, backend="cuda")
        pairs = bmatch.linear_sum_assignment(cost, maximize)
    agrees(cost, a.row_ind, a.col_ind, maximize)
    agrees(cost, *pairs, maximize)
    c = bmatch.certify(cost.double().numpy(), a, maximize)
    finite = cost.double().numpy()[np.isfinite(cost.double().numpy())]
    scale = np.abs(finite).max(initial=0.0)
    assert c.min_reduced_cost >= -1e-12 * scale
    limit = 1e-12 * abs(c.objective) + max(cost.shape) * np.spacing(scale)
    assert 0 <= a.gap <= limit
    assert abs(c.gap) <= limit
    assert a.objective == pytest.approx(c.objective, rel=1e-14, abs=limit)


@given(st.integers(1, 9), matrices(20), st.integers(0, 2**32))
@settings(
    max_examples=EXAMPLES // 4,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_batches(fibers, problems, cost, seed):
    fibers.seed(seed)
    r = np.random.default_rng(seed)
    batch = torch.stack([cost[torch.from_numpy(r.permutation(len(cost)))] for _ in range(problems)])
    try:
        expected = [scipy.optimize.linear_sum_assignment(c.double().numpy()) for c in batch]
    except ValueError:
        with pytest.raises(ValueError, match="problem 0 of the batch"):
            bmatch.batch_linear_sum_assignment(batch)
        return
    found = bmatch.batch_linear_sum_assignment(batch)
    for matrix, matched in zip(batch, found, strict=True):
        rows = (matched >= 0).nonzero()[:, 0]
        agrees(matrix, rows, matched[rows])
    assert len(expected) == problems


@pytest.mark.parametrize(
    "dtype", [torch.bfloat16, torch.int32, torch.int8, torch.bool, torch.int64]
)
def test_other_types(dtype):
    cost = (200 * torch.rand(50, 60, generator=torch.Generator().manual_seed(0))).to(dtype)
    a = bmatch.solve(cost, backend="cuda")
    agrees(cost, a.row_ind, a.col_ind)


def test_signs():
    g = torch.Generator().manual_seed(1)
    c = torch.randn(70, 70, generator=g)
    a = bmatch.solve(c, sign_marginalized=True, backend="cuda")
    agrees(c.abs(), a.row_ind, a.col_ind, True)
    assert torch.equal(a.sign, c[a.row_ind, a.col_ind].sign().to(torch.int8))
    assert torch.all(a.row_dual[:, None] + a.col_dual >= c.double().abs() - 1e-12)


@pytest.mark.parametrize("square", [False, True])
def test_warm_start(square):
    g = torch.Generator().manual_seed(2)
    cost = torch.rand(80, 80 if square else 90, generator=g)
    start = bmatch.solve(cost + 1e-4 * torch.rand(cost.shape, generator=g), backend="cuda")
    cold, warm = (bmatch.solve(cost, backend="cuda", warm_start=w) for w in (None, start))
    assert torch.equal(cold.col_ind, warm.col_ind)
    if square:
        assert warm.stats["bidding_rounds"] < cold.stats["bidding_rounds"]
    with pytest.raises(ValueError, match="warm_start is the answer for a matrix of shape"):
        bmatch.solve(cost[:40, :40], backend="cuda", warm_start=start)


def test_the_same_answer_for_every_interleaving(fibers):
    for family in ("ties", "uniform", "equal rows", "product"):
        cost = torch.from_numpy(FAMILIES[family](np.random.default_rng(3), 70, 70))
        answers = []
        for seed in range(4):
            fibers.seed(seed)
            a = bmatch.solve(cost, backend="cuda")
            answers.append((a.col_of_row.tolist(), a.col_dual.tolist(), a.row_dual.tolist()))
        assert all(answer == answers[0] for answer in answers), family


def test_a_constant_matrix_gives_the_identity():
    a = bmatch.solve(torch.full((40, 55), 2.5), backend="cuda")
    assert torch.equal(a.col_of_row, torch.arange(40))


def test_where_prices_dwarf_the_answer_the_host_finds_it():
    gain = torch.full((5, 5), -torch.inf, dtype=torch.float64)
    gain[0, 0] = 2.563e142
    gain[1, 2:4] = torch.tensor([1.1849e58, 1.9395e80], dtype=torch.float64)
    gain[2, 2:4] = torch.tensor([2.3715e202, 5.8858e-187], dtype=torch.float64)
    gain[3, 2:] = torch.tensor([6.0228e87, 4.4548e266, 1.6659e62], dtype=torch.float64)
    gain[4, [0, 1, 3]] = torch.tensor([5.7279e-245, 4.6181e-129, 1.9375e25], dtype=torch.float64)
    a = bmatch.solve(gain, maximize=True, backend="cuda")
    assert a.col_of_row.tolist() == [0, 3, 2, 4, 1]
    assert isinstance(a.row_dual, torch.Tensor)
    batch = bmatch.batch_linear_sum_assignment(torch.stack([gain, gain]), maximize=True)
    assert batch.tolist() == 2 * [[0, 3, 2, 4, 1]]


def test_what_takes_too_much_work_is_left_to_the_host(monkeypatch):
    r = np.random.default_rng(5)
    hard = torch.from_numpy(FAMILIES["product"](r, 90, 90))
    easy = torch.from_numpy(r.random((90, 90))) - 2 * torch.eye(90)
    monkeypatch.setattr(cuda, "team_for", lambda *_: _core.CudaTeam.block)

    def launched(cost, work):
        reports = cuda.launch(cost, _core.Sense.minimize, duals=True, most_work=work).reports
        return reports["outcome"].tolist(), reports

    (outcome,), (report,) = launched(hard[None], 0)
    assert outcome == _core.CudaOutcome.optimal
    # Enough is as good as no limit; half of the work is none at all, and told soon.
    spent = report["bidding_rounds"] // 2 + report["forest_rounds"] + 11 * report["forest_phases"]
    spent += (report["rescans"] + report["whole_rows"]) // 10
    assert launched(hard[None], int(spent))[0] == [_core.CudaOutcome.optimal]
    (outcome,), (report,) = launched(hard[None], int(spent) // 2)
    assert outcome == _core.CudaOutcome.costly
    assert report["bidding_rounds"] // 2 + report["forest_rounds"] <= spent // 2
    assert launched(torch.stack([hard, easy]), 1)[0] == [5, 0]

    asked = []
    real = cuda.solve_on_host
    monkeypatch.setattr(cuda, "solve_on_host", lambda *a, **k: asked.append(1) or real(*a, **k))
    monkeypatch.setattr(cuda, "most_work_for", lambda *_: 1)
    for cost in (hard, hard[:70].T):
        a = bmatch.solve(cost, backend="cuda")
        agrees(cost, a.row_ind, a.col_ind)
        assert isinstance(a.row_dual, torch.Tensor)
    assert asked == [1, 1]
    bmatch.solve(easy, backend="cuda")
    for cost, matched in zip(
        (hard, easy), bmatch.batch_linear_sum_assignment(torch.stack([hard, easy])), strict=True
    ):
        agrees(cost, torch.arange(90), matched)
    assert asked == [1, 1, 1]


def test_how_much_work_there_may_be():
    assert cuda.most_work_for(1024, 1024) == 2048
    assert cuda.most_work_for(1, 1) == 1024
    assert cuda.most_work_for(2**24, 2**24) < 2**31


def test_a_captured_graph_stays_on_the_device(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    monkeypatch.setattr(cuda, "solve_on_host", None)  # must not be asked
    cost = torch.rand(20, 20)
    agrees(cost, *bmatch.linear_sum_assignment(cost))


@pytest.mark.parametrize("group", ["signed_permutation", "permutation_global_sign"])
def test_match(group):
    """A matrix on a device is solved there, with the answer of the host."""
    n = cuda.HOST_ROWS
    truth = bmatch.SignedPermutation.random(n, group, seed=1)
    x = torch.randn(500, n, generator=torch.Generator().manual_seed(1))
    c = torch.corrcoef(torch.cat([truth.to("cpu").apply(x), x], 1).T)[:n, n:]
    on_device = bmatch.match(c, group)
    assert on_device.gauge.to(None) == truth
    assert on_device.assignment.stats["forest_phases"] == 0  # no two rows want the same column
    on_host = bmatch.match(c.numpy(), group)
    assert isinstance(on_device.assignment.col_dual, np.ndarray)
    assert np.allclose(on_device.margin, on_host.margin, atol=1e-12)


def test_empty():
    for shape in ((0, 0), (0, 4), (4, 0)):
        rows, cols = bmatch.linear_sum_assignment(torch.zeros(shape))
        assert rows.shape == cols.shape == (0,)
        assert bmatch.solve(torch.zeros(shape), backend="cuda").objective == 0.0
    assert bmatch.batch_linear_sum_assignment(torch.zeros(0, 3, 4)).shape == (0, 3)
    assert bmatch.batch_linear_sum_assignment(torch.zeros(2, 0, 4)).shape == (2, 0)


@pytest.mark.parametrize("most_work", [0, 1], ids=["by the device", "by the host"])
def test_infeasible_rows_are_named(most_work, monkeypatch):
    monkeypatch.setattr(cuda, "most_work_for", lambda *_: most_work)
    monkeypatch.setattr(cuda, "team_for", lambda *_: _core.CudaTeam.block)
    cost = torch.rand(6, 9, generator=torch.Generator().manual_seed(0))
    cost[[1, 4, 5], 2:] = torch.inf
    with pytest.raises(ValueError, match="3 rows 1, 4, 5 have finite entries in only 2 columns"):
        bmatch.solve(cost, backend="cuda")
    with pytest.raises(ValueError, match="3 columns 1, 4, 5 have finite entries in only 2 rows"):
        bmatch.solve(cost.T, backend="cuda")
    with pytest.raises(ValueError, match=r"only 2 columns \(problem 1 of the batch\)"):
        bmatch.batch_linear_sum_assignment(torch.stack([torch.rand(6, 9), cost]))
    with pytest.raises(ValueError, match=r"in only 2 rows \(problem 1 of the batch\)"):
        bmatch.batch_linear_sum_assignment(torch.stack([torch.rand(9, 6), cost.T]))


@pytest.mark.parametrize("bad", [float("nan"), -float("inf")])
def test_invalid_entries(bad):
    cost = torch.rand(30, 30)
    cost[29, 29] = bad
    with pytest.raises(
        ValueError, match=rf"entries: {bad} in row 29, column 29; nonfinite='forbid'"
    ):
        bmatch.solve(cost, backend="cuda")
    expected = bmatch.solve(cost, nonfinite="forbid").objective
    assert bmatch.solve(cost, backend="cuda", nonfinite="forbid").objective == expected
    with pytest.raises(
        ValueError, match=rf"\(problem 0 of the batch\): {bad} in row 29, column 29;"
    ):
        bmatch.batch_linear_sum_assignment(cost[None])
    (col_of_row,) = bmatch.batch_linear_sum_assignment(cost[None], nonfinite="forbid")
    assert cost[range(30), col_of_row].sum() == pytest.approx(expected)


def test_wrong_kinds_of_input():
    with pytest.raises(ValueError, match=r"expected a matrix \(2-D array\), got a 1 array"):
        bmatch.solve(torch.zeros(3), backend="cuda")
    with pytest.raises(ValueError, match="expected a batch of matrices"):
        bmatch.batch_linear_sum_assignment(torch.zeros(3, 3))
    with pytest.raises(TypeError, match="Cannot cast array data"):
        bmatch.solve(torch.zeros(3, 3, dtype=torch.complex64), backend="cuda")
    with pytest.raises(ValueError, match="float64 does not hold them one by one"):
        bmatch.solve(torch.tensor([[2**60, 2**60 + 1], [2**60 + 3, 2**60]]), backend="cuda")
    with pytest.raises(ValueError, match="backend must be 'auto', 'cpu' or 'cuda', got 'tpu'"):
        bmatch.solve(torch.zeros(3, 3), backend="tpu")


def test_wide_integers_and_eighths_are_read_as_on_the_host():
    near = torch.tensor([[2**62, 2**62 + 1], [2**62 + 5, 2**62]])
    never = torch.tensor([[2**63 - 1, 1], [1, -(2**63)]])
    batch = torch.stack([near, torch.tensor([[0, 1], [5, 0]]), near.flip(1), never])
    found = bmatch.batch_linear_sum_assignment(batch)
    assert found.tolist() == [[0, 1], [0, 1], [1, 0], [0, 1]]
    assert bmatch.solve(never, backend="cuda").objective == 0.0
    eighths = torch.rand(9, 12).to(torch.float8_e4m3fn)
    expected = bmatch.solve(eighths.float().numpy()).objective
    assert bmatch.solve(eighths, backend="cuda").objective == expected


def test_small_matrices_go_to_the_host_and_back(monkeypatch):
    monkeypatch.setattr(cuda, "launch", None)  # must not be asked
    n = cuda.HOST_ROWS - 1
    cost = torch.rand(n, 2 * n)
    rows, cols = bmatch.linear_sum_assignment(cost)
    agrees(cost, rows, cols)
    assert isinstance(bmatch.solve(cost).row_dual, torch.Tensor)
    assert isinstance(bmatch.solve(torch.rand(n + 1, n + 1), backend="cpu").sign, type(None))


def test_large_ones_stay(monkeypatch):
    asked = []
    real = cuda.launch
    monkeypatch.setattr(cuda, "launch", lambda *a, **k: asked.append(1) or real(*a, **k))
    cost = torch.rand(cuda.HOST_ROWS, cuda.HOST_ROWS)
    agrees(cost, *bmatch.linear_sum_assignment(cost))
    assert asked == [1]


def test_arrays_of_other_libraries(monkeypatch):
    """What CuPy's arrays look like from outside: DLPack both ways, and answers of their kind."""

    class Array:
        def __init__(self, tensor):
            self.tensor, self.shape = tensor, tensor.shape

        def __dlpack__(self, **kwargs):
            return self.tensor.__dlpack__()

        def __dlpack_device__(self):
            return self.tensor.__dlpack_device__()

    library = types.ModuleType("other")
    library.from_dlpack = Array
    Array.__module__ = "other.core"
    monkeypatch.setitem(sys.modules, "other", library)
    monkeypatch.setattr(arrays, "is_on_device", lambda v: isinstance(v, (torch.Tensor, Array)))
    cost = torch.rand(140, 140)
    rows, cols = bmatch.linear_sum_assignment(Array(cost))
    assert isinstance(rows, Array)
    agrees(cost, rows.tensor, cols.tensor)


@pytest.mark.host
def test_what_lies_on_the_host_is_not_moved():
    with pytest.raises(ValueError, match=r"pass cost.cuda\(\); nothing is moved"):
        bmatch.solve(np.zeros((3, 3)), backend="cuda")
    with pytest.raises(ValueError, match=r"pass cost.cuda\(\)"):
        bmatch.batch_linear_sum_assignment(torch.zeros(2, 3, 3), backend="cuda")


@pytest.mark.host
@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a device")
def test_without_a_device_the_reason_is_said():
    facts = _core.cuda_facts()
    assert facts.devices == 0
    assert facts.trouble
    assert ("sm_90" in facts.compiled) == facts.built
    assert not cuda.is_usable()
    assert f"cannot be solved there: {facts.trouble}; pass backend='cpu'" in cuda.why_unusable()


def test_a_planted_matrix_costs_one_read_and_few_barriers(fibers):
    """What the solver is for: no row is read twice, and the grid waits for itself four times."""
    n = 150
    order = np.random.default_rng(0).permutation(n)
    cost = torch.from_numpy(np.random.default_rng(1).random((n, n), dtype=np.float32) + 1)
    cost[torch.arange(n), order] = 0.0
    fibers.spent()
    answer = cuda.launch(cost[None], _core.Sense.minimize, duals=True, team=_core.CudaTeam.grid)
    barriers, _, near, _, read = fibers.spent()
    assert np.array_equal(answer.col_of_row[0], order)
    # Lists and the certificate take some entries again, a warp's 32 lanes each.
    assert n * n * 4 <= read <= n * n * 4 + n * 4 * (32 + 4)
    assert barriers <= 4
    assert near == 0  # its arrays are in the second cache


def test_a_block_keeps_its_arrays_and_lists_near(fibers):
    costs = torch.rand(2, 60, 60, generator=torch.Generator().manual_seed(0))
    fibers.compiled.play(3, ctypes.c_uint64(227 * 1024))
    try:
        fibers.spent()
        answer = cuda.launch(costs, _core.Sense.minimize, duals=True, team=_core.CudaTeam.block)
        _, far, near, _, _ = fibers.spent()
    finally:
        fibers.compiled.play(3, ctypes.c_uint64(16384))
    assert (answer.reports["forest_phases"] > 0).all()
    assert 10 * far < near
