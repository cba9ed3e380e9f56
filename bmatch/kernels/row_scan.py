"""One read of a cost matrix: the two least costs of every row, and a list of its candidates.

The columns of a row are dealt into bins, neighbours into different ones. Of each bin its least
entry is kept, and the value of the second: no column but the bins' least costs less than the least
of the seconds, so that is a bound on all that are not listed, found in the same read.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl

from bmatch.kernels.dispatch import cdiv, launching_on

BINS, _BLOCK_ROWS, _WARPS = 128, 4, 4


class RowScan(NamedTuple):
    """What a scan finds, tensors on the matrix's device, costs as float64.

    Attributes
    ----------
    best, second : float64 [n]
        The two least costs; equal if two columns attain the least.
    col : int32 [n]
        The lowest column that attains it; -1 if nothing in the row is finite.
    valid : bool [n]
        No NaN and no -infinity.
    list_cost : float64 [n, length]
        Least costs first, infinite where unused.
    list_col : int32 [n, length]
    bound : float64 [n]
        No column that is not listed costs less.
    """

    best: torch.Tensor
    second: torch.Tensor
    col: torch.Tensor
    valid: torch.Tensor
    list_cost: torch.Tensor
    list_col: torch.Tensor
    bound: torch.Tensor


@triton.jit
def scan_kernel(
    p_cost,  # float [N, M], rows stride_row apart
    p_least,  # the kernel's type [N, BINS]
    p_col,  # int32 [N, BINS]
    p_rest,  # the kernel's type [N], least of the bins' seconds
    p_valid,  # int8 [N]
    N,
    M,
    stride_row,
    SENSE: tl.constexpr,  # 0 the costs, 1 their negatives, 2 minus their magnitudes
    BLOCK_ROWS: tl.constexpr,
    BINS: tl.constexpr,
):
    """BLOCK_ROWS rows, scanned from the left."""
    TYPE: tl.constexpr = p_least.dtype.element_ty
    INFINITY: tl.constexpr = float("inf")
    o_i = tl.program_id(0) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    o_bin = tl.arange(0, BINS)
    p_row = p_cost + o_i.to(tl.int64)[:, None] * stride_row
    b_least = tl.full((BLOCK_ROWS, BINS), INFINITY, dtype=TYPE)
    b_second = tl.full((BLOCK_ROWS, BINS), INFINITY, dtype=TYPE)
    b_col = tl.full((BLOCK_ROWS, BINS), -1, dtype=tl.int32)
    b_valid = tl.full((BLOCK_ROWS, BINS), 1, dtype=tl.int32)
    for i_n in range(0, M, BINS):
        o_n = i_n + o_bin
        m_block = (o_i < N)[:, None] & (o_n < M)[None, :]
        b_cost = tl.load(p_row + o_n[None, :], mask=m_block, other=0.0).to(TYPE)
        if SENSE == 1:
            b_cost = -b_cost
        if SENSE == 2:
            b_cost = -tl.abs(b_cost)
        b_cost = tl.where(m_block, b_cost, INFINITY)
        b_valid = tl.where(b_cost > -INFINITY, b_valid, 0)
        m_less = b_cost < b_least
        b_second = tl.where(m_less, b_least, tl.where(b_cost < b_second, b_cost, b_second))
        b_col = tl.where(m_less, o_n[None, :], b_col)
        b_least = tl.where(m_less, b_cost, b_least)
    p_bins = o_i.to(tl.int64)[:, None] * BINS + o_bin[None, :]
    tl.store(p_least + p_bins, b_least, mask=(o_i < N)[:, None])
    tl.store(p_col + p_bins, b_col, mask=(o_i < N)[:, None])
    tl.store(p_rest + o_i, tl.min(b_second, 1), mask=o_i < N)
    tl.store(p_valid + o_i, tl.min(b_valid, 1).to(tl.int8), mask=o_i < N)


def scan_rows(cost: torch.Tensor, sense: int, length: int) -> RowScan:
    """Scan every row of a matrix where it lies.

    Parameters
    ----------
    cost : float16, bfloat16, float32 or float64 [n, m]
        On a CUDA device; the entries of a row lie side by side.
    sense : int
        0: costs; 1: gains, costs are their negatives; 2: costs are minus the magnitudes.
    length : int
        Length of the lists, less than `BINS`.
    """
    n, m = cost.shape
    kind = torch.float64 if cost.dtype == torch.float64 else torch.float32
    least = torch.empty((n, BINS), dtype=kind, device=cost.device)
    col = torch.empty((n, BINS), dtype=torch.int32, device=cost.device)
    rest = torch.empty(n, dtype=kind, device=cost.device)
    valid = torch.empty(n, dtype=torch.int8, device=cost.device)
    with launching_on(cost.device):
        scan_kernel[(cdiv(n, _BLOCK_ROWS),)](
            cost, least, col, rest, valid, n, m, cost.stride(0),
            SENSE=sense, BLOCK_ROWS=_BLOCK_ROWS, BINS=BINS, num_warps=_WARPS,
        )  # fmt: skip
    listed, order = least.topk(length + 1, largest=False)  # sorted
    bound = torch.minimum(rest, listed[:, length])
    ties = torch.where((least == listed[:, :1]) & (col >= 0), col, torch.iinfo(torch.int32).max)
    lowest = ties.amin(1)
    listed, order = listed[:, :length], order[:, :length]
    return RowScan(
        best=listed[:, 0].double(),
        second=torch.minimum(rest, listed[:, 1]).double(),
        col=torch.where(listed[:, 0] < torch.inf, lowest, -1),
        valid=valid.bool(),
        list_cost=torch.where(listed <= bound[:, None], listed, torch.inf).double(),
        list_col=col.gather(1, order),
        bound=bound.double(),
    )
