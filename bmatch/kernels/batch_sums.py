"""What the host has to know of a batch, and how its sums move means: one small launch each.

The numbers are few, so what counts is how often the host has to call: in torch these are some fifty
launches a batch, each longer to ask for than to run.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from bmatch.kernels.dispatch import cdiv, launching_on

_BLOCK_P, _BLOCK_W = 64, 16  # parts and channels added up at once
_BLOCK_MOVED = 256


@triton.jit(do_not_specialize=["tokens", "parts"])
def findings_kernel(
    p_partial,  # float32 [sites, parts, 2, W]: sums, squares
    p_shift,  # float32 [sites, W]
    p_seen,  # int64 [tokens], how many count up to each token, read if MASKED
    p_sums,  # float64 [sites, 2, W]
    p_findings,  # float64 [2 sites blocks + 1]
    tokens,
    parts,
    W,
    MASKED: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_W: tl.constexpr,
):
    """BLOCK_W channels of a site: their sums, the largest square and whether any is shifted."""
    INFINITY: tl.constexpr = float("inf")
    i_block = tl.program_id(0)
    blocks = tl.cdiv(W, BLOCK_W)
    i_site = (i_block // blocks).to(tl.int64)
    o_w = i_block % blocks * BLOCK_W + tl.arange(0, BLOCK_W)
    m_w = o_w < W
    b_sum = tl.zeros((BLOCK_P, BLOCK_W), dtype=tl.float64)
    b_square = tl.zeros((BLOCK_P, BLOCK_W), dtype=tl.float64)
    for i_p in range(0, parts, BLOCK_P):
        o_p = i_p + tl.arange(0, BLOCK_P)
        m_block = (o_p < parts)[:, None] & m_w[None, :]
        p_block = p_partial + (i_site * parts + o_p)[:, None] * 2 * W + o_w[None, :]
        b_sum += tl.load(p_block, mask=m_block, other=0.0).to(tl.float64)
        b_square += tl.load(p_block + W, mask=m_block, other=0.0).to(tl.float64)
    p_out = p_sums + i_site * 2 * W + o_w
    b_squares = tl.sum(b_square, 0)
    tl.store(p_out, tl.sum(b_sum, 0), mask=m_w)
    tl.store(p_out + W, b_squares, mask=m_w)

    # A maximum would pass over NaN.
    b_squares = tl.where(b_squares == b_squares, b_squares, INFINITY)
    b_shift = tl.load(p_shift + i_site * W + o_w, mask=m_w, other=0.0)
    tl.store(p_findings + i_block, tl.max(b_squares, 0))
    m_shifted = (b_shift != 0.0).to(tl.int32)
    tl.store(p_findings + tl.num_programs(0) + i_block, tl.max(m_shifted, 0).to(tl.float64))
    if i_block == 0:
        count = tokens.to(tl.int64)
        if MASKED:
            count = tl.load(p_seen + tokens - 1)
        tl.store(p_findings + 2 * tl.num_programs(0), count.to(tl.float64))


@triton.jit
def _move(p_mean, p_square, m_w, b_centre, b_sum, b_square, weight, share, count):
    b_mean = tl.load(p_mean, mask=m_w, other=0.0)
    b_delta = b_centre + b_sum / count - b_mean
    b_old = tl.load(p_square, mask=m_w, other=0.0)
    tl.store(p_square, b_old + b_square + b_delta * b_delta * weight, mask=m_w)
    tl.store(p_mean, b_mean + b_delta * share, mask=m_w)
    return b_delta


@triton.jit(do_not_specialize=["seen", "count"])
def move_kernel(
    p_y_mean,  # float64 [sites, D1], as its square
    p_x_mean,  # float64 [sites, D2], as its square
    p_y_square,
    p_x_square,
    p_shift,  # float32 [sites, D1 + D2]
    p_sums,  # float64 [sites, 2, D1 + D2]
    p_factors,  # float64 [sites, 2, D1 + D2]
    D1,
    D2,
    seen: tl.int64,
    count: tl.int64,
    BLOCK_W: tl.constexpr,
):
    """BLOCK_W channels of a site, of both streams side by side."""
    W = D1 + D2
    i_site = tl.program_id(1).to(tl.int64)
    o_w = tl.program_id(0) * BLOCK_W + tl.arange(0, BLOCK_W)
    m_y = o_w < D1
    m_x = (o_w >= D1) & (o_w < W)
    m_w = o_w < W
    before = seen.to(tl.float64)
    n = count.to(tl.float64)
    share = n / (before + n)
    weight = before * share
    b_centre = tl.load(p_shift + i_site * W + o_w, mask=m_w, other=0.0).to(tl.float64)
    p_sum = p_sums + i_site * 2 * W + o_w
    b_sum = tl.load(p_sum, mask=m_w, other=0.0)
    # About the new tokens' own mean, as the statistics are.
    b_square = tl.maximum(tl.load(p_sum + W, mask=m_w, other=0.0) - b_sum * b_sum / n, 0.0)
    b_y_delta = _move(
        p_y_mean + i_site * D1 + o_w, p_y_square + i_site * D1 + o_w,
        m_y, b_centre, b_sum, b_square, weight, share, n,
    )  # fmt: skip
    b_x_delta = _move(
        p_x_mean + i_site * D2 + o_w - D1, p_x_square + i_site * D2 + o_w - D1,
        m_x, b_centre, b_sum, b_square, weight, share, n,
    )  # fmt: skip
    p_out = p_factors + i_site * 2 * W + o_w
    tl.store(p_out, tl.where(m_y, -b_sum / n, b_sum), mask=m_w)
    tl.store(p_out + W, tl.where(m_y, b_y_delta * weight, b_x_delta), mask=m_w)


def findings(
    partial: torch.Tensor, shift: torch.Tensor, seen: torch.Tensor | None, tokens: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Sums of a batch from their parts, and what the host has to know of them.

    Parameters
    ----------
    partial : float32 [S, P, 2, W], contiguous
        As `column_sums` finds them.
    shift : float32 [S, W], contiguous
    seen : int64 [T], contiguous, or None
        How many tokens count up to each; None: all do.
    tokens : int
        T > 0.

    Returns
    -------
    sums : float64 [S, 2, W]
        In an order that never changes.
    findings : float64 [2 S B + 1]
        Of each site in B blocks of channels the largest sum of squares, infinite for NaN; of each
        whether it is shifted, 0 or 1; the number of tokens that count.
    """
    sites, parts, _, width = partial.shape
    programs = sites * cdiv(width, _BLOCK_W)
    sums = torch.empty((sites, 2, width), dtype=torch.float64, device=partial.device)
    found = torch.empty(2 * programs + 1, dtype=torch.float64, device=partial.device)
    with launching_on(partial.device):
        findings_kernel[(programs,)](
            partial, shift, seen, sums, found, tokens, parts, width,
            MASKED=seen is not None, BLOCK_P=_BLOCK_P, BLOCK_W=_BLOCK_W,
        )  # fmt: skip
    return sums, found


def move(
    means: tuple[torch.Tensor, torch.Tensor],
    squares: tuple[torch.Tensor, torch.Tensor],
    shift: torch.Tensor,
    sums: torch.Tensor,
    seen: int,
    count: int,
) -> torch.Tensor:
    """Move means, and squares about them, by a batch's sums about its shift, in place.

    Parameters
    ----------
    means, squares : float64 [S, D1] and [S, D2], contiguous
        Of the target and of the source, over `seen` tokens.
    shift : float32 [S, D1 + D2], contiguous
    sums : float64 [S, 2, D1 + D2], contiguous
        Of `count` tokens, as `findings` adds them up.
    seen, count : int

    Returns
    -------
    float64 [S, 2, D1 + D2]
        ``left`` and ``right`` side by side, of which ``left^T right`` has to be added to the
        comoments beside the new tokens' products about the shift.
    """
    sites, d1 = means[0].shape
    d2 = means[1].shape[1]
    factors = torch.empty((sites, 2, d1 + d2), dtype=torch.float64, device=sums.device)
    with launching_on(sums.device):
        move_kernel[(cdiv(d1 + d2, _BLOCK_MOVED), sites)](
            *means, *squares, shift, sums, factors, d1, d2, seen, count, BLOCK_W=_BLOCK_MOVED
        )
    return factors
