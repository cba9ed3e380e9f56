"""The solver on a real GPU, against SciPy; `make gpu` runs these with compute-sanitizer too."""

from __future__ import annotations

import _thread
import threading
import time
import warnings

import numpy as np
import pytest
import scipy.optimize
import torch
from test_fuzz import FAMILIES

import bmatch
from bmatch import _core
from bmatch.assignment import cuda

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.fixture(autouse=True)
def small_ones_too(monkeypatch):
    """On the device whose size would send them to the host."""
    monkeypatch.setattr(cuda, "HOST_ROWS", 1)


def agrees(cost, rows, cols, maximize=False):
    cost = cost.double().cpu().numpy()
    rows, cols = rows.cpu().numpy(), cols.cpu().numpy()
    assert len(set(rows)) == len(set(cols)) == len(rows) == min(cost.shape)
    expected = cost[scipy.optimize.linear_sum_assignment(cost, maximize)]
    assert abs(cost[rows, cols].sum() - expected.sum()) <= 1e-12 * np.abs(expected).sum()


@pytest.mark.parametrize("team", ["warp", "block", "grid"])
@pytest.mark.parametrize("shape", [(60, 60), (40, 55), (200, 200), (150, 400)])
@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_families(family, shape, team, monkeypatch):
    monkeypatch.setattr(cuda, "team_for", lambda *_: getattr(_core.CudaTeam, team))
    if team == "warp" and max(shape) > cuda.WARP_COLUMNS:
        pytest.skip("a warp has no registers for so many columns")
    cost = torch.from_numpy(FAMILIES[family](np.random.default_rng(0), *shape)).cuda()
    a = bmatch.solve(cost, backend="cuda")
    agrees(cost, a.row_ind, a.col_ind)
    c = bmatch.certify(cost.cpu().numpy(), a_on_host(a))
    assert c.min_reduced_cost >= -1e-12 * float(cost.abs().max())


@pytest.mark.parametrize("shape", [(300, 300), (200, 700)])
@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_scans_by_triton_for_the_solver_on_the_host(family, shape, monkeypatch):
    pytest.importorskip("triton")
    monkeypatch.setattr(cuda, "is_usable", lambda: False)  # as if it was built without nvcc
    cost = torch.from_numpy(FAMILIES[family](np.random.default_rng(0), *shape)).cuda()
    for matrix in (cost, cost.float(), cost.T):
        a = bmatch.solve(matrix, backend="cuda")
        agrees(matrix, a.row_ind, a.col_ind)
        assert a.row_dual.is_cuda


def a_on_host(a):
    return bmatch.Assignment(
        **{
            name: value.cpu().numpy() if isinstance(value, torch.Tensor) else value
            for name, value in vars(a).items()
        }
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_types_and_strides(dtype):
    g = torch.Generator("cuda").manual_seed(0)
    wide = torch.rand(300, 701, generator=g, device="cuda").to(dtype)
    for cost in (wide[:, :300], wide[:, 1:301], wide.T, wide[:, ::2], wide[::2, :150].T):
        a = bmatch.solve(cost, backend="cuda")
        agrees(cost, a.row_ind, a.col_ind)
        assert a.row_dual.device == cost.device


def test_large_against_the_host():
    g = torch.Generator("cuda").manual_seed(1)
    cost = torch.rand(4096, 4096, generator=g, device="cuda")
    a, b = bmatch.solve(cost), bmatch.solve(cost.cpu())
    assert a.objective == pytest.approx(b.objective, rel=1e-12)
    assert a.gap <= 1e-12 * abs(a.objective)


@pytest.mark.parametrize("shape", [(1100, 1100), (1024, 1536)])
def test_what_takes_too_long_is_left_to_the_host(shape):
    g = torch.Generator("cuda").manual_seed(4)
    a, b = (torch.rand(k, generator=g, device="cuda") for k in shape)
    cost = a[:, None] + b  # a phase of the search for every row, if it is wide
    if shape[0] == shape[1]:
        cost = a[:, None] * b
    launched = cuda.launch(cost[None], _core.Sense.minimize, duals=False)
    assert list(launched.unsolved.values()) == [_core.CudaOutcome.costly]
    agrees(cost, *bmatch.linear_sum_assignment(cost))


def test_beyond_46340_rows():
    n = 47_000
    if torch.cuda.mem_get_info()[0] < 12e9:
        pytest.skip("needs 12 GB of memory on the device")
    order = torch.randperm(n, generator=torch.Generator().manual_seed(0)).cuda()
    cost = torch.ones(n, n, dtype=torch.bfloat16, device="cuda")
    cost[torch.arange(n, device="cuda"), order] = 0.0
    assert torch.equal(bmatch.linear_sum_assignment(cost)[1], order)


def test_infeasible_and_invalid():
    cost = torch.rand(200, 300, device="cuda")
    cost[[3, 7], 1:] = torch.inf
    with pytest.raises(ValueError, match=r"2 rows 3, 7 have finite entries in only 1 column$"):
        bmatch.solve(cost)
    cost[0, 0] = torch.nan
    with pytest.raises(ValueError, match="invalid numeric entries"):
        bmatch.solve(cost)


@pytest.mark.parametrize(("problems", "n", "m"), [(300, 30, 30), (50, 20, 90), (40, 300, 100)])
def test_batches(problems, n, m):
    g = torch.Generator("cuda").manual_seed(2)
    costs = torch.rand(problems, n, m, generator=g, device="cuda")
    found = bmatch.batch_linear_sum_assignment(costs)
    for cost, matched in zip(costs, found, strict=True):
        rows = (matched >= 0).nonzero()[:, 0]
        agrees(cost, rows, matched[rows])


def test_two_streams_and_two_threads():
    g = torch.Generator("cuda").manual_seed(3)
    costs = [torch.rand(500, 500, generator=g, device="cuda") for _ in range(2)]
    torch.cuda.synchronize()
    expected = [bmatch.linear_sum_assignment(cost)[1] for cost in costs]
    found = [[], []]

    def work(k):
        with torch.cuda.stream(torch.cuda.Stream()):
            for _ in range(5):
                found[k].append(bmatch.linear_sum_assignment(costs[k])[1].clone())

    threads = [threading.Thread(target=work, args=(k,)) for k in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    torch.cuda.synchronize()
    assert all(torch.equal(one, expected[k]) for k in range(2) for one in found[k])


def test_the_host_waits_once(monkeypatch):
    """For the reports alone, and torch for nothing."""
    cost = torch.rand(300, 300, device="cuda")
    bmatch.linear_sum_assignment(cost)
    waited = []
    real = cuda.launch

    def launch(*arguments, **options):
        launched = real(*arguments, **options)
        wait = launched.wait
        launched.wait = lambda: waited.append(1) or wait()
        return launched

    monkeypatch.setattr(cuda, "launch", launch)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")  # setting the mode warns, too: it calls it a prototype
        torch.cuda.set_sync_debug_mode("warn")
        try:
            bmatch.linear_sum_assignment(cost)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert waited == [1]
    assert not [w for w in caught if "called a synchronizing CUDA operation" in str(w.message)]


def test_ctrl_c_ends_the_wait():
    cost = torch.rand(300, 300, device="cuda")
    bmatch.linear_sum_assignment(cost)
    torch.cuda._sleep(20_000_000_000)  # some ten seconds of clock cycles before the solve
    started = time.monotonic()
    threading.Timer(0.3, _thread.interrupt_main).start()
    with pytest.raises(KeyboardInterrupt):
        bmatch.linear_sum_assignment(cost)
    assert time.monotonic() - started < 2
    torch.cuda.synchronize()
    agrees(cost, *bmatch.linear_sum_assignment(cost))


def test_match():
    truth = bmatch.SignedPermutation.random(256, seed=1)
    x = torch.randn(2000, 256, generator=torch.Generator("cuda").manual_seed(5), device="cuda")
    c = torch.corrcoef(torch.cat([truth.to("cuda").apply(x), x], 1).T)[:256, 256:]
    found = bmatch.match(c)
    assert found.gauge == truth.to("cuda")
    assert np.all(found.margin > 0)


def test_in_a_cuda_graph(monkeypatch):
    cost = torch.rand(300, 300, device="cuda")
    bmatch.linear_sum_assignment(cost)
    monkeypatch.setattr(cuda, "HOST_ROWS", 1024)  # but nothing of a graph is the host's
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        rows, cols = bmatch.linear_sum_assignment(cost)
    cost.copy_(torch.rand(300, 300, device="cuda"))
    graph.replay()
    torch.cuda.synchronize()
    agrees(cost, rows, cols)
