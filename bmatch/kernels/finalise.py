"""From moments to correlations: the whole matrix, or only each row's strongest entries.

Both read the float64 masters once. The second writes three numbers a row instead of the matrix:
where every row's strongest source is another one, the assignment is known without leaving the
device, and the runner-up says how safe it is.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from bmatch.kernels.dispatch import cdiv, launching_on

_BLOCK_W = 256


@triton.jit(
    do_not_specialize=["count"],
    # They may be those of any site.
    do_not_specialize_on_alignment=["p_y_mean", "p_x_mean", "p_y_square", "p_x_square"],
)
def scales_kernel(
    p_y_mean,  # float64 [D1], as its square
    p_x_mean,  # float64 [D2], as its square
    p_y_square,
    p_x_square,
    p_scale,  # float64 [D1 + D2]
    D1,
    D2,
    count: tl.int64,
    BLOCK_W: tl.constexpr,
):
    """BLOCK_W channels, of both streams side by side."""
    ROUNDINGS: tl.constexpr = 1e-15  # of a mean: what they may leave where nothing varied
    o_w = tl.program_id(0) * BLOCK_W + tl.arange(0, BLOCK_W)
    m_y = o_w < D1
    m_x = (o_w >= D1) & (o_w < D1 + D2)
    b_mean = tl.load(p_y_mean + o_w, mask=m_y, other=0.0)
    b_mean += tl.load(p_x_mean + o_w - D1, mask=m_x, other=0.0)
    b_square = tl.load(p_y_square + o_w, mask=m_y, other=0.0)
    b_square += tl.load(p_x_square + o_w - D1, mask=m_x, other=0.0)
    b_rest = b_mean * ROUNDINGS
    m_constant = b_square <= count.to(tl.float64) * (b_rest * b_rest)
    b_scale = 1.0 / tl.sqrt(tl.where(m_constant, 1.0, b_square))
    b_scale = tl.where(m_constant, 0.0, b_scale)
    b_scale = tl.where(b_square < float("inf"), b_scale, float("nan"))
    tl.store(p_scale + o_w, b_scale, mask=m_y | m_x)


@triton.jit
def _correlation_block(p_comoment, p_target_scale, p_source_scale, o_m, o_n, D1, D2):
    m_m = o_m < D1
    m_n = o_n < D2
    p_block = p_comoment + o_m.to(tl.int64)[:, None] * D2 + o_n[None, :]
    b_comoment = tl.load(p_block, mask=m_m[:, None] & m_n[None, :], other=0.0)
    b_target = tl.load(p_target_scale + o_m, mask=m_m, other=0.0)
    b_source = tl.load(p_source_scale + o_n, mask=m_n, other=0.0)
    b_correlation = (b_comoment * b_target[:, None] * b_source[None, :]).to(tl.float32)
    return tl.minimum(tl.maximum(b_correlation, -1.0), 1.0)


@triton.jit
def finalise_kernel(
    p_comoment,  # float64 [D1, D2]
    p_target_scale,  # float64 [D1]
    p_source_scale,  # float64 [D2]
    p_out,  # float32 [D1, D2]
    D1,
    D2,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    """One tile of the correlation matrix."""
    o_m = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    o_n = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    b_correlation = _correlation_block(p_comoment, p_target_scale, p_source_scale, o_m, o_n, D1, D2)
    p_block = p_out + o_m.to(tl.int64)[:, None] * D2 + o_n[None, :]
    tl.store(p_block, b_correlation, mask=(o_m < D1)[:, None] & (o_n < D2)[None, :])


@triton.jit
def strongest_kernel(
    p_comoment,  # float64 [D1, D2]
    p_target_scale,  # float64 [D1]
    p_source_scale,  # float64 [D2]
    p_source,  # int64 [D1]
    p_value,  # float32 [D1]
    p_second,  # float32 [D1]
    D1,
    D2,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    """BLOCK_M rows, scanned from the left."""
    o_m = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    b_best = tl.full((BLOCK_M,), -1.0, dtype=tl.float32)
    b_second = tl.zeros((BLOCK_M,), dtype=tl.float32)
    b_value = tl.zeros((BLOCK_M,), dtype=tl.float32)
    b_source = tl.zeros((BLOCK_M,), dtype=tl.int32)
    for i_n in range(0, D2, BLOCK_N):
        o_n = i_n + tl.arange(0, BLOCK_N)
        b_correlation = _correlation_block(
            p_comoment, p_target_scale, p_source_scale,
            o_m, o_n, D1, D2,
        )  # fmt: skip
        b_strength = tl.where((o_n < D2)[None, :], tl.abs(b_correlation), -1.0)
        b_top = tl.max(b_strength, 1)
        # The lowest column among equals; columns to the left of this block win ties below.
        m_top = b_strength == b_top[:, None]
        b_column = tl.min(tl.where(m_top, o_n[None, :], D2), 1)
        m_column = o_n[None, :] == b_column[:, None]
        b_next = tl.max(tl.where(m_column, -1.0, b_strength), 1)
        m_better = b_top > b_best
        b_second = tl.maximum(tl.maximum(b_second, b_next), tl.minimum(b_best, b_top))
        b_value = tl.where(m_better, tl.sum(tl.where(m_column, b_correlation, 0.0), 1), b_value)
        b_source = tl.where(m_better, b_column, b_source)
        b_best = tl.maximum(b_best, b_top)
    tl.store(p_source + o_m, b_source.to(tl.int64), mask=o_m < D1)
    tl.store(p_value + o_m, b_value, mask=o_m < D1)
    tl.store(p_second + o_m, b_second, mask=o_m < D1)


def scales(
    means: tuple[torch.Tensor, torch.Tensor],
    squares: tuple[torch.Tensor, torch.Tensor],
    count: int,
) -> torch.Tensor:
    """What scales comoments to correlations: reciprocals of the roots of squares about the means.

    Parameters
    ----------
    means, squares : float64 [D1] and [D2], contiguous
        Of the target and of the source, over `count` tokens.
    count : int

    Returns
    -------
    float64 [D1 + D2]
        0 for a constant channel, NaN for one whose square is not finite.
    """
    d1, d2 = len(means[0]), len(means[1])
    scale = torch.empty(d1 + d2, dtype=torch.float64, device=means[0].device)
    with launching_on(scale.device):
        scales_kernel[(cdiv(d1 + d2, _BLOCK_W),)](
            *means, *squares, scale, d1, d2, count, BLOCK_W=_BLOCK_W
        )
    return scale


def finalise(
    comoment: torch.Tensor,
    target_scale: torch.Tensor,
    source_scale: torch.Tensor,
) -> torch.Tensor:
    """``comoment * target_scale source_scale^T``, in [-1, 1].

    Parameters
    ----------
    comoment : float64 [D1, D2], contiguous
        Sums of products about the means.
    target_scale, source_scale : float64 [D1] and [D2]
        As `scales` finds them.

    Returns
    -------
    float32 [D1, D2]
    """
    d1, d2 = comoment.shape
    out = torch.empty((d1, d2), dtype=torch.float32, device=comoment.device)
    block_m, block_n = 32, 128
    with launching_on(comoment.device):
        finalise_kernel[(cdiv(d1, block_m), cdiv(d2, block_n))](
            comoment,
            target_scale,
            source_scale,
            out,
            d1,
            d2,
            BLOCK_M=block_m,
            BLOCK_N=block_n,
            num_warps=8,
        )
    return out


def strongest(
    comoment: torch.Tensor,
    target_scale: torch.Tensor,
    source_scale: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Each row's strongest entry of what `finalise` would write, without writing it.

    Parameters
    ----------
    comoment, target_scale, source_scale
        As for `finalise`.

    Returns
    -------
    source : int64 [D1]
        The column of the largest magnitude, the lowest among equals.
    value : float32 [D1]
        The entry there, with its sign.
    second : float32 [D1]
        The largest magnitude elsewhere in the row; 0 where there is one column.
    """
    d1, d2 = comoment.shape
    source = torch.empty(d1, dtype=torch.int64, device=comoment.device)
    value, second = torch.empty((2, d1), dtype=torch.float32, device=comoment.device)
    block_m, block_n = 4, 256
    with launching_on(comoment.device):
        strongest_kernel[(cdiv(d1, block_m),)](
            comoment,
            target_scale,
            source_scale,
            source,
            value,
            second,
            d1,
            d2,
            BLOCK_M=block_m,
            BLOCK_N=block_n,
            num_warps=4,
        )
    return source, value, second
