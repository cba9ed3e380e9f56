"""Activations about a shift: their column sums, and their split into bfloat16 planes.

Two passes over a stream, both bound by memory. Correlation does not depend on the shift, and
subtracting it before anything is squared keeps a large mean from drowning the variance. Masked
tokens become zeros, whatever they hold, which leaves every sum unchanged.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from bmatch.kernels.dispatch import ROW_MULTIPLE, launching_on

_BLOCK_T, _BLOCK_D = 32, 128
_STEPS = 8  # blocks of tokens per program: 256 tokens in one float32 sum


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


@triton.jit(do_not_specialize=["tokens"])
def column_sums_kernel(
    p_values,  # [tokens, D]
    p_mask,  # uint8 [tokens], read if MASKED
    p_shift,  # float32 [D]
    p_sum,  # float32 [programs, D]
    p_square,  # float32 [programs, D]
    tokens,
    D,
    stride_row,
    stride_col,
    MASKED: tl.constexpr,
    PLANES: tl.constexpr,
    STEPS: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """Sums of STEPS * BLOCK_T tokens for BLOCK_D columns."""
    i_t = tl.program_id(0)
    o_d = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    b_shift = tl.load(p_shift + o_d, mask=o_d < D, other=0.0)
    b_sum = tl.zeros((BLOCK_D,), dtype=tl.float32)
    b_square = tl.zeros((BLOCK_D,), dtype=tl.float32)
    for step in range(STEPS):
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
        b_sum += tl.sum(b_values, 0)
        b_square += tl.sum(b_values * b_values, 0)
    o_out = i_t.to(tl.int64) * D + o_d
    tl.store(p_sum + o_out, b_sum, mask=o_d < D)
    tl.store(p_square + o_out, b_square, mask=o_d < D)


@triton.jit(do_not_specialize=["tokens"])
def split_planes_kernel(
    p_values,  # [tokens, D]
    p_mask,  # uint8 [tokens], read if MASKED
    p_shift,  # float32 [D]
    p_planes,  # bfloat16 [PLANES, rows, width]
    tokens,
    D,
    rows,
    width,
    stride_row,
    stride_col,
    MASKED: tl.constexpr,
    PLANES: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """The planes of one block."""
    o_t = tl.program_id(0) * BLOCK_T + tl.arange(0, BLOCK_T)
    o_d = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    b_shift = tl.load(p_shift + o_d, mask=o_d < D, other=0.0)
    b_values = _centred_block(
        p_values, p_mask, b_shift, o_t, o_d, tokens, D, stride_row, stride_col, MASKED
    )
    m_out = (o_t < rows)[:, None] & (o_d < D)[None, :]
    p_high = p_planes + o_t.to(tl.int64)[:, None] * width + o_d[None, :]
    b_high, b_middle, b_low = _planes(b_values)
    plane = rows.to(tl.int64) * width
    tl.store(p_high, b_high, mask=m_out)
    if PLANES > 1:
        tl.store(p_high + plane, b_middle, mask=m_out)
    if PLANES > 2:
        tl.store(p_high + 2 * plane, b_low, mask=m_out)


def column_sums(
    values: torch.Tensor,
    shift: torch.Tensor,
    mask: torch.Tensor | None = None,
    planes: int | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Sums and sums of squares of ``values - shift`` over tokens.

    Parameters
    ----------
    values : float32, float16 or bfloat16 [T, D]
        Of any strides.
    shift : float32 [D]
    mask : bool [T], contiguous, optional
        True where a token counts; the others may hold anything.
    planes : {1, 2, 3}, optional
        Sum the differences as `split_planes` rounds them, so that the moments are those of the
        numbers that are multiplied. Default: as they are.

    Returns
    -------
    sum, square : float64 [D]
        Within 256 tokens summed in float32, beyond in float64. NaN or infinity in a counted
        token shows in `square`.
    """
    tokens, d = values.shape
    programs = triton.cdiv(tokens, _STEPS * _BLOCK_T)
    partial = torch.empty((2, programs, d), dtype=torch.float32, device=values.device)
    if programs:
        with launching_on(values.device):
            column_sums_kernel[(programs, triton.cdiv(d, _BLOCK_D))](
                values,
                _bytes(mask),
                shift,
                partial[0],
                partial[1],
                tokens,
                d,
                values.stride(0),
                values.stride(1),
                MASKED=mask is not None,
                PLANES=planes or 0,
                STEPS=_STEPS,
                BLOCK_T=_BLOCK_T,
                BLOCK_D=_BLOCK_D,
            )
    total, square = partial.sum(1, dtype=torch.float64)
    return total, square


def split_planes(
    values: torch.Tensor,
    shift: torch.Tensor,
    mask: torch.Tensor | None = None,
    planes: int = 2,
) -> torch.Tensor:
    """``values - shift`` as bfloat16 planes whose sum it is, zeros where masked.

    Parameters
    ----------
    values, shift, mask
        As for `column_sums`.
    planes : {1, 2, 3}
        Each keeps 8 significant bits: three hold float32 whole.

    Returns
    -------
    bfloat16 [planes, rows, D]
        `rows` is T rounded up to a multiple of 64, the rest zeros; rows start on 16 bytes.
    """
    tokens, d = values.shape
    rows = triton.cdiv(tokens, ROW_MULTIPLE) * ROW_MULTIPLE
    width = triton.cdiv(d, 8) * 8
    out = torch.empty((planes, rows, width), dtype=torch.bfloat16, device=values.device)
    if rows:
        with launching_on(values.device):
            split_planes_kernel[(triton.cdiv(rows, _BLOCK_T), triton.cdiv(d, _BLOCK_D))](
                values,
                _bytes(mask),
                shift,
                out,
                tokens,
                d,
                rows,
                width,
                values.stride(0),
                values.stride(1),
                MASKED=mask is not None,
                PLANES=planes,
                BLOCK_T=_BLOCK_T,
                BLOCK_D=_BLOCK_D,
            )
    return out[:, :, :d]


def _bytes(mask: torch.Tensor | None) -> torch.Tensor | None:
    return None if mask is None else mask.view(torch.uint8)
