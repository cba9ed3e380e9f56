"""Activations about a shift: their column sums, and their split into bfloat16 planes.

Two passes over a stream, both bound by memory. Correlation does not depend on the shift, and
subtracting it before anything is squared keeps a large mean from drowning the variance. Masked
tokens become zeros, whatever they hold, which leaves every sum unchanged. One launch serves both
streams of all sites, which share the mask.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from bmatch.kernels.dispatch import cdiv, launching_on, strides

_BLOCK_T, _BLOCK_D = 16, 128
_STEPS = 16  # blocks of tokens per program: 256 tokens in one float32 sum
_WARPS, _STAGES = 4, 4  # three blocks are on their way while one is summed


@triton.jit
def _centred_block(
    p_values, p_mask, b_shift, o_t, o_d, tokens, D, stride_row, stride_col, MASKED: tl.constexpr
):
    m_t = o_t < tokens
    if MASKED:
        m_t = m_t & (tl.load(p_mask + o_t, mask=m_t, other=0) != 0)
    m_block = m_t[:, None] & (o_d < D)[None, :]
    p_block = p_values + (
        o_t.to(tl.int64)[:, None] * stride_row + o_d.to(tl.int64)[None, :] * stride_col
    )
    # To float32 before any arithmetic: bfloat16 has none of its own before sm_90.
    b_values = tl.load(p_block, mask=m_block, other=0.0).to(tl.float32)
    return tl.where(m_block, b_values - b_shift[None, :], 0.0)  # [BLOCK_T, BLOCK_D]


@triton.jit
def _planes(b_values):
    b_high = b_values.to(tl.bfloat16)
    b_rest = b_values - b_high.to(tl.float32)
    b_middle = b_rest.to(tl.bfloat16)
    return b_high, b_middle, (b_rest - b_middle.to(tl.float32)).to(tl.bfloat16)


@triton.jit
def _sum_block(
    p_values, p_mask, p_shift, p_out, i_t, i_d, tokens, D, width, stride_row, stride_col,
    MASKED: tl.constexpr, PLANES: tl.constexpr, STEPS: tl.constexpr, STAGES: tl.constexpr,
    BLOCK_T: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    o_d = i_d * BLOCK_D + tl.arange(0, BLOCK_D)
    b_shift = tl.load(p_shift + o_d, mask=o_d < D, other=0.0)
    # Sums stay where they are made until the end: adding up a block at each step, through shared
    # memory, would take longer than reading it.
    b_sum = tl.zeros((BLOCK_T, BLOCK_D), dtype=tl.float32)
    b_square = tl.zeros((BLOCK_T, BLOCK_D), dtype=tl.float32)
    for step in tl.range(STEPS, num_stages=STAGES):
        o_t = (i_t * STEPS + step) * BLOCK_T + tl.arange(0, BLOCK_T)
        b_values = _centred_block(
            p_values, p_mask, b_shift, o_t, o_d, tokens, D, stride_row, stride_col, MASKED
        )
        if PLANES > 0:
            b_high, b_middle, b_low = _planes(b_values)
            b_values = b_high.to(tl.float32)
            if PLANES > 1:
                b_values += b_middle.to(tl.float32)
            if PLANES > 2:
                b_values += b_low.to(tl.float32)
        b_sum += b_values
        b_square += b_values * b_values
    tl.store(p_out + o_d, tl.sum(b_sum, 0), mask=o_d < D)
    tl.store(p_out + width + o_d, tl.sum(b_square, 0), mask=o_d < D)


@triton.jit(do_not_specialize=["tokens", "parts", "stride_y_site", "stride_x_site"])
def column_sums_kernel(
    p_y,  # [sites, tokens, D1]
    p_x,  # [sites, tokens, D2]
    p_mask,  # uint8 [tokens], read if MASKED
    p_shift,  # float32 [sites, D1 + D2]
    p_partial,  # float32 [sites, parts, 2, D1 + D2]: sums, squares
    tokens,
    parts,
    D1,
    D2,
    stride_y_site,  # in units of UNIT numbers, as is the other
    stride_y_row,
    stride_y_col,
    stride_x_site,
    stride_x_row,
    stride_x_col,
    MASKED: tl.constexpr,
    UNIT: tl.constexpr,
    PLANES: tl.constexpr,
    STEPS: tl.constexpr,
    STAGES: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """Sums of STEPS * BLOCK_T tokens for BLOCK_D columns of a site: of Y first, then of X."""
    n_y = tl.cdiv(D1, BLOCK_D)
    n_d = n_y + tl.cdiv(D2, BLOCK_D)
    i_t = tl.program_id(0) // n_d  # programs side by side in time are so in memory
    i_d = tl.program_id(0) % n_d
    i_site = tl.program_id(1).to(tl.int64)
    width = D1 + D2
    p_shift += i_site * width
    p_out = p_partial + (i_site * parts + i_t) * 2 * width
    if i_d < n_y:
        _sum_block(
            p_y + i_site * stride_y_site * UNIT, p_mask, p_shift, p_out, i_t, i_d,
            tokens, D1, width, stride_y_row, stride_y_col,
            MASKED, PLANES, STEPS, STAGES, BLOCK_T, BLOCK_D,
        )  # fmt: skip
    else:
        _sum_block(
            p_x + i_site * stride_x_site * UNIT, p_mask, p_shift + D1, p_out + D1, i_t, i_d - n_y,
            tokens, D2, width, stride_x_row, stride_x_col,
            MASKED, PLANES, STEPS, STAGES, BLOCK_T, BLOCK_D,
        )  # fmt: skip


@triton.jit
def _split_block(
    p_values, p_mask, p_shift, p_planes, i_t, i_d, tokens, D, width, stride_row, stride_col,
    MASKED: tl.constexpr, PLANES: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    o_t = i_t * BLOCK_T + tl.arange(0, BLOCK_T)
    o_d = i_d * BLOCK_D + tl.arange(0, BLOCK_D)
    b_shift = tl.load(p_shift + o_d, mask=o_d < D, other=0.0)
    b_values = _centred_block(
        p_values, p_mask, b_shift, o_t, o_d, tokens, D, stride_row, stride_col, MASKED
    )
    m_out = (o_t < tokens)[:, None] & (o_d < D)[None, :]
    plane = tokens.to(tl.int64) * width
    p_high = p_planes + o_t.to(tl.int64)[:, None] * width + o_d[None, :]
    b_high, b_middle, b_low = _planes(b_values)
    tl.store(p_high, b_high, mask=m_out)
    if PLANES > 1:
        tl.store(p_high + plane, b_middle, mask=m_out)
    if PLANES > 2:
        tl.store(p_high + 2 * plane, b_low, mask=m_out)


@triton.jit(
    do_not_specialize=["tokens", "stride_y_site", "stride_x_site"],
    do_not_specialize_on_alignment=["p_shift"],  # it may be that of any site
)
def split_planes_kernel(
    p_y,  # [sites, tokens, D1]
    p_x,  # [sites, tokens, D2]
    p_mask,  # uint8 [tokens], read if MASKED
    p_shift,  # float32 [sites, D1 + D2]
    p_y_planes,  # bfloat16 [sites, PLANES, tokens, D1_width]
    p_x_planes,  # bfloat16 [sites, PLANES, tokens, D2_width]
    tokens,
    D1,
    D2,
    D1_width,
    D2_width,
    stride_y_site,  # in units of UNIT numbers, as is the other
    stride_y_row,
    stride_y_col,
    stride_x_site,
    stride_x_row,
    stride_x_col,
    MASKED: tl.constexpr,
    UNIT: tl.constexpr,
    PLANES: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """The planes of one block of a site, of Y or of X."""
    n_y = tl.cdiv(D1, BLOCK_D)
    n_d = n_y + tl.cdiv(D2, BLOCK_D)
    i_t = tl.program_id(0) // n_d
    i_d = tl.program_id(0) % n_d
    i_site = tl.program_id(1).to(tl.int64)
    p_shift += i_site * (D1 + D2)
    rows = i_site * PLANES * tokens  # of the sites before
    if i_d < n_y:
        _split_block(
            p_y + i_site * stride_y_site * UNIT, p_mask, p_shift,
            p_y_planes + rows * D1_width, i_t, i_d,
            tokens, D1, D1_width, stride_y_row, stride_y_col, MASKED, PLANES, BLOCK_T, BLOCK_D,
        )  # fmt: skip
    else:
        _split_block(
            p_x + i_site * stride_x_site * UNIT, p_mask, p_shift + D1,
            p_x_planes + rows * D2_width, i_t, i_d - n_y,
            tokens, D2, D2_width, stride_x_row, stride_x_col, MASKED, PLANES, BLOCK_T, BLOCK_D,
        )  # fmt: skip


def column_sums(
    target: torch.Tensor,
    source: torch.Tensor,
    shift: torch.Tensor,
    mask: torch.Tensor | None = None,
    planes: int | None = None,
) -> torch.Tensor:
    """Sums and sums of squares of ``values - shift`` over the tokens of each site, in parts.

    Parameters
    ----------
    target, source : float32, float16 or bfloat16 [S, T, D1] and [S, T, D2]
        Of any strides.
    shift : float32 [S, D1 + D2], contiguous
        Those of both streams side by side.
    mask : bool [T], contiguous, optional
        True where a token counts; the others may hold anything.
    planes : {1, 2, 3}, optional
        Sum the differences as `split_planes` rounds them, so that the moments are those of the
        numbers that are multiplied. Default: as they are.

    Returns
    -------
    float32 [S, P, 2, D1 + D2]
        Sums, then squares, each over 256 tokens: P is `sum_parts`. NaN or infinity in a counted
        token shows in the squares.
    """
    sites, tokens, d1 = target.shape
    d2 = source.shape[2]
    parts = sum_parts(tokens)
    partial = torch.empty((sites, parts, 2, d1 + d2), dtype=torch.float32, device=shift.device)
    unit, walked = strides(target, source)
    if tokens:
        with launching_on(target.device):
            column_sums_kernel[(parts * _column_blocks(d1, d2), sites)](
                target, source, _bytes(mask), shift, partial, tokens, parts, d1, d2,
                *walked,
                MASKED=mask is not None, UNIT=unit, PLANES=planes or 0,
                STEPS=_STEPS, STAGES=_STAGES, BLOCK_T=_BLOCK_T, BLOCK_D=_BLOCK_D,
                num_warps=_WARPS,
            )  # fmt: skip
    return partial


def sum_parts(tokens: int) -> int:
    """How many partial sums of float32 `column_sums` writes for each sum."""
    return cdiv(tokens, _STEPS * _BLOCK_T)


def split_planes(
    target: torch.Tensor,
    source: torch.Tensor,
    shift: torch.Tensor,
    mask: torch.Tensor | None = None,
    planes: int = 2,
) -> tuple[torch.Tensor, torch.Tensor]:
    """``values - shift`` as bfloat16 planes whose sum it is, zeros where masked.

    Parameters
    ----------
    target, source, shift, mask
        As for `column_sums`.
    planes : {1, 2, 3}
        Each keeps 8 significant bits: three hold float32 whole.

    Returns
    -------
    bfloat16 [S, planes, T, D1] and [S, planes, T, D2]
        Rows start on 16 bytes.
    """
    sites, tokens, d1 = target.shape
    d2 = source.shape[2]
    widths = [cdiv(d, 8) * 8 for d in (d1, d2)]
    y, x = (
        torch.empty((sites, planes, tokens, width), dtype=torch.bfloat16, device=target.device)
        for width in widths
    )
    unit, walked = strides(target, source)
    if tokens:
        blocks = cdiv(tokens, _BLOCK_T) * _column_blocks(d1, d2)
        with launching_on(target.device):
            split_planes_kernel[(blocks, sites)](
                target, source, _bytes(mask), shift, y, x, tokens, d1, d2, *widths,
                *walked,
                MASKED=mask is not None, UNIT=unit, PLANES=planes,
                BLOCK_T=_BLOCK_T, BLOCK_D=_BLOCK_D, num_warps=_WARPS,
            )  # fmt: skip
    return y[..., :d1], x[..., :d2]


def _column_blocks(d1: int, d2: int) -> int:
    return cdiv(d1, _BLOCK_D) + cdiv(d2, _BLOCK_D)


def _bytes(mask: torch.Tensor | None) -> torch.Tensor | None:
    return None if mask is None else mask.view(torch.uint8)
