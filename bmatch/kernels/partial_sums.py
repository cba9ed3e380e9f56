"""Partial sums in float32, added up in float64 in an order that never changes.

Programs that share a sum each write a part of it, and this pass adds the parts: no atomics, so the
same input gives the same bits, and a site's bits do not depend on the sites beside it. What the
comoments need beside products, two outer products a site, is added in the same pass.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from bmatch.kernels.dispatch import cdiv, launching_on

_BLOCK_P, _BLOCK_W = 4, 1024  # 32 numbers a thread, of which neighbours are 16 bytes


@triton.jit
def outer_sum(p_factors, o_m, o_n, m_m, m_n, D1, D2):
    """Entries of ``left^T right``, of float64 [2, D1 + D2] of a site: left and right in a row."""
    b_entry = tl.load(p_factors + o_m, mask=m_m, other=0.0) * tl.load(
        p_factors + D1 + o_n, mask=m_n, other=0.0
    )
    p_second = p_factors + D1 + D2
    return b_entry + tl.load(p_second + o_m, mask=m_m, other=0.0) * tl.load(
        p_second + D1 + o_n, mask=m_n, other=0.0
    )


@triton.jit(do_not_specialize=["parts", "has_factors"])
def partial_sums_kernel(
    p_total,  # float64 [sites, D1, D2], added to
    p_partial,  # float32 [sites, parts, D1, D2]
    p_factors,  # float64 [sites, 2, D1 + D2], read if has_factors
    parts,
    D1,
    D2,
    has_factors,
    BLOCK_P: tl.constexpr,
    BLOCK_W: tl.constexpr,
):
    """BLOCK_W sums of one site, BLOCK_P parts at a time."""
    width = D1 * D2
    i_site = tl.program_id(1).to(tl.int64)
    o_w = tl.program_id(0) * BLOCK_W + tl.arange(0, BLOCK_W)
    m_w = o_w < width
    b_sum = tl.zeros((BLOCK_P, BLOCK_W), dtype=tl.float64)
    for i_p in range(0, parts, BLOCK_P):
        o_p = i_p + tl.arange(0, BLOCK_P)
        p_block = p_partial + (i_site * parts + o_p)[:, None] * width + o_w[None, :]
        m_block = (o_p < parts)[:, None] & m_w[None, :]
        b_sum += tl.load(p_block, mask=m_block, other=0.0).to(tl.float64)
    p_out = p_total + i_site * width + o_w
    b_total = tl.load(p_out, mask=m_w, other=0.0) + tl.sum(b_sum, 0)
    if has_factors != 0:
        p_site = p_factors + i_site * 2 * (D1 + D2)
        b_total += outer_sum(p_site, o_w // D2, o_w % D2, m_w, m_w, D1, D2)
    tl.store(p_out, b_total, mask=m_w)


def add_partial_sums(
    total: torch.Tensor, partial: torch.Tensor, factors: torch.Tensor | None = None
) -> None:
    """``total += partial.sum(1) + left^T right``, in one pass, in place.

    Parameters
    ----------
    total : float64 [S, D1, D2], contiguous
    partial : float32 [S, P, D1, D2], contiguous
    factors : float64 [S, 2, D1 + D2], contiguous, optional
        ``left`` and ``right`` side by side. Default: nothing is added beside the parts.
    """
    sites, parts, d1, d2 = partial.shape
    given = total if factors is None else factors  # an address, from which nothing is read
    with launching_on(total.device):
        partial_sums_kernel[(cdiv(d1 * d2, _BLOCK_W), sites)](
            total, partial, given, parts, d1, d2, int(factors is not None),
            BLOCK_P=_BLOCK_P, BLOCK_W=_BLOCK_W,
        )  # fmt: skip
