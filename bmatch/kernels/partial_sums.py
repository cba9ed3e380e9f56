"""Partial sums in float32, added up in float64 in an order that never changes.

Programs that share a sum each write a part of it, and this pass adds the parts: no atomics, so the
same input gives the same bits, and a site's bits do not depend on the sites beside it.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from bmatch.kernels.dispatch import launching_on

_BLOCK_P, _BLOCK_W = 16, 128


@triton.jit(do_not_specialize=["parts"])
def add_partial_sums_kernel(
    p_total,  # float64 [sites, width], added to
    p_partial,  # float32 [sites, parts, width]
    parts,
    width,
    BLOCK_P: tl.constexpr,
    BLOCK_W: tl.constexpr,
):
    """BLOCK_W sums of one site, BLOCK_P parts at a time."""
    i_site = tl.program_id(1).to(tl.int64)
    o_w = tl.program_id(0) * BLOCK_W + tl.arange(0, BLOCK_W)
    p_out = p_total + i_site * width + o_w
    b_total = tl.load(p_out, mask=o_w < width, other=0.0)
    for i_p in range(0, parts, BLOCK_P):
        o_p = i_p + tl.arange(0, BLOCK_P)
        p_block = p_partial + (i_site * parts + o_p)[:, None] * width + o_w[None, :]
        m_block = (o_p < parts)[:, None] & (o_w < width)[None, :]
        b_total += tl.sum(tl.load(p_block, mask=m_block, other=0.0).to(tl.float64), 0)
    tl.store(p_out, b_total, mask=o_w < width)


def add_partial_sums(total: torch.Tensor, partial: torch.Tensor) -> None:
    """``total += partial.sum(1)``, in place.

    Parameters
    ----------
    total : float64 [S, W], contiguous
    partial : float32 [S, P, W], contiguous
    """
    sites, parts, width = partial.shape
    with launching_on(total.device):
        add_partial_sums_kernel[(triton.cdiv(width, _BLOCK_W), sites)](
            total, partial, parts, width, BLOCK_P=_BLOCK_P, BLOCK_W=_BLOCK_W
        )
