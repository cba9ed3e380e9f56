"""The scan of rows against its twin, and against what its lists promise."""

from __future__ import annotations

import pytest
import torch
from data import surrounded

from bmatch.kernels import reference, row_scan

LENGTH = 32


def costs_of(sense, cost):
    cost = cost.double()
    return (cost, -cost, -cost.abs())[sense]


def agrees(cost, sense):
    scan = row_scan.scan_rows(cost, sense, LENGTH)
    best, second, col, valid, *_ = reference.scan_rows(cost, sense, LENGTH)
    assert torch.equal(scan.valid, valid)
    for got, expected in ((scan.best, best), (scan.second, second), (scan.col, col)):
        assert torch.equal(got[valid], expected[valid])
    costs = costs_of(sense, cost)
    for i in valid.nonzero()[:, 0].tolist():
        used = scan.list_cost[i] < torch.inf
        listed = scan.list_col[i][used].long()
        assert len(set(listed.tolist())) == len(listed)
        assert torch.equal(costs[i][listed], scan.list_cost[i][used])
        assert (scan.list_cost[i].diff().nan_to_num() >= 0).all()
        unlisted = torch.ones(costs.shape[1], dtype=torch.bool)
        unlisted[listed] = False
        assert (costs[i][unlisted] >= scan.bound[i]).all()
        assert best[i] <= scan.bound[i]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(1, 1), (5, 33), (9, 128), (4, 129), (7, 700)])
def test_lists_and_bounds(dtype, shape):
    cost = torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    for sense in range(3):
        agrees(surrounded(cost), sense)


def test_ties_forbidden_pairs_and_bad_entries():
    g = torch.Generator().manual_seed(2)
    cost = torch.randint(0, 4, (12, 300), generator=g).float()
    cost[0] = 1.0
    cost[1] = torch.inf
    cost[2, 40:] = torch.inf
    cost[3, 299] = torch.nan
    cost[4, 0] = -torch.inf
    agrees(cost, 0)
    agrees(torch.where(cost.isfinite(), -cost, cost), 1)


def test_rows_far_apart():
    agrees(torch.randn(6, 900, generator=torch.Generator().manual_seed(3))[:, :411], 2)
