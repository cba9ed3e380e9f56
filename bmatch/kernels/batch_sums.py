"""What the host has to know of a batch, and how its sums move means: one small launch each.

The numbers are few, so what counts is how often the host has to call: in torch these are some fifty
launches a batch, each longer to ask for than to run.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from bmatch.kernels.dispatch import launching_on

_BLOCK, _BLOCK_W = 1024, 256


@triton.jit(do_not_specialize=["tokens"])
def findings_kernel(
    p_sums,  # float64 [sites, 2, W]: sums, squares
    p_shift,  # float32 [sites, W]
    p_mask,  # uint8 [tokens], read if MASKED
    p_findings,  # float64 [2 sites + 1]
    tokens,
    W,
    MASKED: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """A site's largest square and whether it is shifted; the last program counts tokens."""
    INFINITY: tl.constexpr = float("inf")
    sites = tl.num_programs(0) - 1
    i_site = tl.program_id(0)
    o = tl.arange(0, BLOCK)
    if i_site < sites:
        p_site = p_sums + i_site.to(tl.int64) * 2 * W + W
        b_largest = tl.zeros((BLOCK,), dtype=tl.float64)
        b_shifted = tl.zeros((BLOCK,), dtype=tl.int32)
        for i_w in range(0, W, BLOCK):
            m_w = i_w + o < W
            b_square = tl.load(p_site + i_w + o, mask=m_w, other=0.0)
            # A maximum would pass over NaN.
            b_square = tl.where(b_square == b_square, b_square, INFINITY)
            b_largest = tl.maximum(b_largest, b_square)
            b_shift = tl.load(p_shift + i_site.to(tl.int64) * W + i_w + o, mask=m_w, other=0.0)
            b_shifted |= (b_shift != 0.0).to(tl.int32)
        tl.store(p_findings + i_site, tl.max(b_largest, 0))
        tl.store(p_findings + sites + i_site, tl.max(b_shifted, 0).to(tl.float64))
    else:
        count = tokens
        if MASKED:
            b_count = tl.zeros((BLOCK,), dtype=tl.int32)
            for i_t in range(0, tokens, BLOCK):
                b_kept = tl.load(p_mask + i_t + o, mask=i_t + o < tokens, other=0)
                b_count += (b_kept != 0).to(tl.int32)
            count = tl.sum(b_count, 0)
        tl.store(p_findings + 2 * sites, count.to(tl.float64))


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
    sums: torch.Tensor, shift: torch.Tensor, mask: torch.Tensor | None, tokens: int
) -> torch.Tensor:
    """Each site's largest sum of squares, whether it is shifted, and the tokens that count.

    Parameters
    ----------
    sums : float64 [S, 2, W], contiguous
        As `column_sums` finds them.
    shift : float32 [S, W], contiguous
    mask : bool [T], contiguous, or None
    tokens : int

    Returns
    -------
    float64 [2 S + 1]
        S sums, infinite for NaN; S times 0 or 1; the count.
    """
    sites, _, width = sums.shape
    found = torch.empty(2 * sites + 1, dtype=torch.float64, device=sums.device)
    with launching_on(sums.device):
        findings_kernel[(sites + 1,)](
            sums,
            shift,
            None if mask is None else mask.view(torch.uint8),
            found,
            tokens,
            width,
            MASKED=mask is not None,
            BLOCK=_BLOCK,
        )
    return found


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
        Of `count` tokens, as `column_sums` finds them.
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
        move_kernel[(triton.cdiv(d1 + d2, _BLOCK_W), sites)](
            *means, *squares, shift, sums, factors, d1, d2, seen, count, BLOCK_W=_BLOCK_W
        )
    return factors
