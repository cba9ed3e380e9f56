"""The solver on the host for matrices elsewhere: a tensor on the host plays the device's, a twin
its scan."""

from __future__ import annotations

import os

import asynchronous
import numpy as np
import pytest
import scipy.optimize
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_fuzz import FAMILIES

import bmatch
from bmatch import _core, arrays
from bmatch.assignment import cuda, fetched
from bmatch.assignment.costs import Costs
from bmatch.kernels import reference, row_scan

EXAMPLES = int(os.environ.get("BMATCH_FUZZ_EXAMPLES", "400")) // 2
SENSES = {
    _core.Sense.minimize: lambda entries: entries,
    _core.Sense.maximize: lambda entries: -entries,
    _core.Sense.maximize_magnitude: lambda entries: -abs(entries),
}
pytestmark = pytest.mark.skipif(
    pytest.importorskip("triton").knobs.runtime.interpret, reason="the twin takes its place"
)


@pytest.fixture(autouse=True)
def twin(monkeypatch):
    def scan_rows(*arguments):
        return row_scan.RowScan(*reference.scan_rows(*arguments))

    monkeypatch.setattr(row_scan, "scan_rows", scan_rows)


@pytest.fixture
def fetches(monkeypatch):
    """Numbers of the rows that were fetched, in one list a call."""
    calls = []
    solve_fetched = _core.solve_fetched

    def spy(*arguments):
        *given_arguments, fetch = arguments

        def noted(rows):
            calls.append(rows.tolist())
            fetch(rows)

        return solve_fetched(*given_arguments, noted)

    monkeypatch.setattr(_core, "solve_fetched", spy)
    return calls


def solve(cost, sense=_core.Sense.minimize, **options):
    return fetched.solve_by_fetching(Costs.of_device(cost, sense), **options)


def random_costs(n, m, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).random((n, m)))


@given(
    st.sampled_from(sorted(FAMILIES)), st.integers(2, 90), st.integers(0, 60),
    st.sampled_from([torch.float64, torch.float32, torch.float16, torch.bfloat16]),
    st.sampled_from(list(SENSES)), st.integers(0, 2**32),
)  # fmt: skip
@settings(max_examples=EXAMPLES, deadline=None)
def test_the_same_objective_as_on_the_host(family, n, more, dtype, sense, seed):
    with np.errstate(over="ignore"):
        cost = torch.from_numpy(FAMILIES[family](np.random.default_rng(seed), n, n + more)).to(
            dtype
        )
    if not cost.isfinite().all():
        return
    answer = solve(cost, sense)
    col = answer.col_of_row.numpy()
    entries = cost.double().numpy()
    minimised = SENSES[sense](entries)
    expected = minimised[scipy.optimize.linear_sum_assignment(minimised)]
    assert len(set(col.tolist())) == n
    found = minimised[np.arange(n), col]
    assert abs(found.sum() - expected.sum()) <= 1e-12 * abs(expected).sum()
    assert answer.objective == pytest.approx(found.sum(), rel=1e-13, abs=1e-13 * abs(found).sum())
    assert 0 <= answer.gap <= 1e-12 * abs(expected).sum() + n * np.spacing(abs(minimised).max())


def test_rows_stay_where_lists_suffice(fetches):
    cost = random_costs(700, 700)
    perm = np.random.default_rng(1).permutation(700)
    cost[np.arange(700), perm] -= 2.0
    assert np.array_equal(solve(cost).col_of_row, perm)
    assert sum(map(len, fetches)) <= 8  # a sample of the values, and no row for its own sake


def test_each_row_is_fetched_once_and_threads_do_not_matter(fetches):
    a, b = (torch.from_numpy(np.random.default_rng(k).random(500)) for k in range(2))
    cost = torch.outer(a, b)  # its lists are of no use
    answers = []
    for num_threads in (1, 3):
        fetches.clear()
        answers.append(solve(cost, _core.Sense.maximize, num_threads=num_threads))
        rows = [row for call in fetches for row in call]
        assert sorted(rows) == list(range(500))
        assert len(fetches[-1]) > 400  # all that were left, at once
    assert torch.equal(answers[0].col_of_row, answers[1].col_of_row)
    assert torch.equal(answers[0].col_dual, answers[1].col_dual)


def test_a_start_from_earlier_prices(fetches):
    cost = random_costs(600, 600)
    first = solve(cost)
    fetches.clear()
    again = solve(cost, prices=first.col_dual)
    assert torch.equal(first.col_of_row, again.col_of_row)
    assert again.stats["bids"] < first.stats["bids"] / 2
    assert sum(map(len, fetches)) < 600 // 8


def test_a_failure_to_fetch_is_raised(monkeypatch):
    def lost(*_):
        raise RuntimeError("the device is lost")

    cost = torch.outer(torch.arange(600.0), torch.arange(600.0))
    monkeypatch.setattr(torch.Tensor, "index_select", lost)
    for num_threads in (1, 3):
        with pytest.raises(RuntimeError, match="the device is lost"):
            solve(cost, num_threads=num_threads)


class TestWithoutNvcc:
    """`bmatch.solve` where a tensor lies on a device and no kernel was built for it."""

    @pytest.fixture(autouse=True)
    def device(self, monkeypatch):
        monkeypatch.setattr(arrays, "is_on_device", lambda value: isinstance(value, torch.Tensor))
        monkeypatch.setattr(cuda, "is_usable", lambda: False)
        monkeypatch.setattr(cuda, "HOST_ROWS", 128)

    @pytest.mark.parametrize("shape", [(300, 300), (200, 450), (450, 200)])
    def test_the_whole_answer(self, shape, fetches):
        cost = random_costs(*shape) - 0.5
        a = bmatch.solve(cost, sign_marginalized=True)
        assert fetches
        rows, cols = scipy.optimize.linear_sum_assignment(cost.abs().numpy(), maximize=True)
        assert a.row_ind.tolist() == rows.tolist()
        assert a.col_ind.tolist() == cols.tolist()
        assert a.objective == pytest.approx(float(cost.abs()[rows, cols].sum()), rel=1e-14)
        assert isinstance(a.row_dual, torch.Tensor)
        assert torch.equal(a.sign, cost[rows, cols].sign().to(torch.int8))
        c = bmatch.certify(cost.numpy(), a, sign_marginalized=True)
        assert c.min_reduced_cost >= -1e-15
        again = bmatch.solve(cost, sign_marginalized=True, warm_start=a)
        assert again.col_ind.tolist() == cols.tolist()

    def test_columns_side_by_side(self):
        cost = random_costs(300, 300).T
        expected = scipy.optimize.linear_sum_assignment(cost.numpy())[1]
        assert bmatch.linear_sum_assignment(cost)[1].tolist() == expected.tolist()

    def test_what_has_no_assignment(self):
        cost = random_costs(300, 300)
        cost[[3, 7]] = torch.inf
        cost[[3, 7], 5] = 1.0
        with pytest.raises(ValueError, match="the 2 rows 3, 7 have finite entries in only 1 col"):
            bmatch.solve(cost)
        cost[4, 4] = torch.nan
        with pytest.raises(ValueError, match="invalid numeric entries"):
            bmatch.solve(cost)

    @pytest.mark.parametrize("shape", [(300, 300), (500, 500), (450, 400)])
    @pytest.mark.parametrize("limit", [0.002, 0.3, 2.0])
    def test_rows_that_may_stay_out(self, shape, limit):
        cost = random_costs(*shape)
        a, host = bmatch.solve(cost, cost_limit=limit), bmatch.solve(cost.numpy(), cost_limit=limit)
        assert isinstance(a.row_dual, torch.Tensor)
        assert len(a.row_ind) == len(host.row_ind)
        assert a.objective == pytest.approx(host.objective, rel=1e-12)
        c = bmatch.certify(cost.numpy(), a)
        assert abs(c.gap) <= 1e-12
        assert c.min_reduced_cost >= -1e-12

    def test_as_many_pairs_as_possible(self):
        cost = random_costs(450, 400)
        cost[:200] = torch.inf
        cost[:200, :7] = 1.0
        a = bmatch.solve(cost, partial=True)
        assert (len(a.row_ind), a.partial) == (257, True)
        assert abs(bmatch.certify(cost.numpy(), a).gap) <= 1e-12

    def test_gated_rows_stay_on_the_device(self, fetches):
        place = np.random.default_rng(0).random((600, 2))
        cost = torch.from_numpy(np.hypot(*(place[:, None] - place).transpose(2, 0, 1)))
        a = bmatch.solve(cost, cost_limit=0.01)
        assert a.col_ind.tolist() == list(range(600))
        assert sum(map(len, fetches)) <= 8  # a sample of values, and no row for its own sake

    def test_batches_say_what_to_do(self):
        with pytest.raises(ValueError, match="pass backend='cpu'"):
            bmatch.batch_linear_sum_assignment(random_costs(4, 9)[None])


def test_on_a_device_that_does_everything_late(monkeypatch):
    """Rows are whole when the solver reads them; copies that do not wait are caught."""
    costs = random_costs(200, 220)
    _, expected = scipy.optimize.linear_sum_assignment(costs.numpy())

    def right(seed):
        with asynchronous.device(seed, monkeypatch):
            cost = costs.to("cuda")
            try:
                found = solve(cost).col_of_row.cpu()
            except ValueError:  # of numbers that are not there yet
                return False
        return np.array_equal(found, expected)

    assert all(right(seed) for seed in range(8))
    copy = asynchronous._download
    monkeypatch.setattr(asynchronous, "_download", lambda values, non_blocking: copy(values, True))
    assert not all(right(seed) for seed in range(8))
