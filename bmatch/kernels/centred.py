"""Activations about a shift: their column sums, and their split into bfloat16 planes.

Two passes over a stream, both bound by memory. Correlation does not depend on the shift, and
subtracting it before anything is squared keeps a large mean from drowning the variance. Masked
tokens become zeros, whatever they hold, which leaves every sum unchanged. One launch serves all
sites, which share the mask.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl

from bmatch.kernels.dispatch import launching_on, stride_unit
from bmatch.kernels.partial_sums import partial_sums

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


@triton.jit(
    do_not_specialize=["tokens", "stride_site"],
    do_not_specialize_on_alignment=["p_shift", "p_partial"],
)
def column_sums_kernel(
    p_values,  # [sites, tokens, D]
    p_mask,  # uint8 [tokens], read if MASKED
    p_shift,  # float32 [sites, D], rows `width` apart
    p_partial,  # float32 [sites, programs, 2, D]: sums, squares; rows `width` apart
    tokens,
    D,
    width,
    stride_site,  # in units of UNIT numbers
    stride_row,
    stride_col,
    MASKED: tl.constexpr,
    UNIT: tl.constexpr,
    PLANES: tl.constexpr,
    STEPS: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """Sums of STEPS * BLOCK_T tokens for BLOCK_D columns of a site."""
    i_t = tl.program_id(0)
    i_site = tl.program_id(2)
    p_site = p_values + i_site.to(tl.int64) * stride_site * UNIT
    o_d = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    b_shift = tl.load(p_shift + i_site.to(tl.int64) * width + o_d, mask=o_d < D, other=0.0)
    b_sum = tl.zeros((BLOCK_D,), dtype=tl.float32)
    b_square = tl.zeros((BLOCK_D,), dtype=tl.float32)
    for step in range(STEPS):
        o_t = (i_t * STEPS + step) * BLOCK_T + tl.arange(0, BLOCK_T)
        b_values = _centred_block(
            p_site, p_mask, b_shift, o_t, o_d, tokens, D, stride_row, stride_col, MASKED
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
    p_out = p_partial + (i_site * tl.num_programs(0) + i_t).to(tl.int64) * 2 * width + o_d
    tl.store(p_out, b_sum, mask=o_d < D)
    tl.store(p_out + width, b_square, mask=o_d < D)


@triton.jit(do_not_specialize=["tokens", "stride_site"], do_not_specialize_on_alignment=["p_shift"])
def split_planes_kernel(
    p_values,  # [sites, tokens, D]
    p_mask,  # uint8 [tokens], read if MASKED
    p_shift,  # float32 [sites, D], rows stride_shift apart
    p_planes,  # bfloat16 [sites, PLANES, tokens, width]
    tokens,
    D,
    width,
    stride_shift,
    stride_site,  # in units of UNIT numbers
    stride_row,
    stride_col,
    MASKED: tl.constexpr,
    UNIT: tl.constexpr,
    PLANES: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """The planes of one block of a site."""
    i_site = tl.program_id(2).to(tl.int64)
    o_t = tl.program_id(0) * BLOCK_T + tl.arange(0, BLOCK_T)
    o_d = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    b_shift = tl.load(p_shift + i_site * stride_shift + o_d, mask=o_d < D, other=0.0)
    p_site = p_values + i_site * stride_site * UNIT
    b_values = _centred_block(
        p_site, p_mask, b_shift, o_t, o_d, tokens, D, stride_row, stride_col, MASKED
    )
    m_out = (o_t < tokens)[:, None] & (o_d < D)[None, :]
    plane = tokens.to(tl.int64) * width
    p_high = p_planes + i_site * PLANES * plane + o_t.to(tl.int64)[:, None] * width + o_d[None, :]
    b_high, b_middle, b_low = _planes(b_values)
    tl.store(p_high, b_high, mask=m_out)
    if PLANES > 1:
        tl.store(p_high + plane, b_middle, mask=m_out)
    if PLANES > 2:
        tl.store(p_high + 2 * plane, b_low, mask=m_out)


def column_sums(
    streams: Sequence[torch.Tensor],
    shift: torch.Tensor,
    mask: torch.Tensor | None = None,
    planes: int | None = None,
) -> torch.Tensor:
    """Sums and sums of squares of ``values - shift`` over the tokens of each site.

    Parameters
    ----------
    streams : sequence of float32, float16 or bfloat16 [S, T, D]
        Of any strides, and each of its own D.
    shift : float32 [S, W], contiguous
        Those of all streams side by side: W is the sum of the D.
    mask : bool [T], contiguous, optional
        True where a token counts; the others may hold anything.
    planes : {1, 2, 3}, optional
        Sum the differences as `split_planes` rounds them, so that the moments are those of the
        numbers that are multiplied. Default: as they are.

    Returns
    -------
    float64 [S, 2, W]
        Sums, then squares. Within 256 tokens summed in float32, beyond in float64. NaN or infinity
        in a counted token shows in the squares.
    """
    sites, width = shift.shape
    tokens = streams[0].shape[1]
    programs = sums_programs(tokens)
    partial = torch.empty((sites, programs, 2, width), dtype=torch.float32, device=shift.device)
    first = 0
    for values in streams if tokens else ():
        d, unit = values.shape[2], stride_unit(values, 0)
        site, *inside = values.stride()
        with launching_on(values.device):
            column_sums_kernel[(programs, triton.cdiv(d, _BLOCK_D), sites)](
                values,
                _bytes(mask),
                shift[:, first:],
                partial[..., first:],
                tokens,
                d,
                width,
                site // unit,
                *inside,
                MASKED=mask is not None,
                UNIT=unit,
                PLANES=planes or 0,
                STEPS=_STEPS,
                BLOCK_T=_BLOCK_T,
                BLOCK_D=_BLOCK_D,
            )
        first += d
    return partial_sums(partial.view(sites, programs, 2 * width)).view(sites, 2, width)


def sums_programs(tokens: int) -> int:
    """How many partial sums of float32 `column_sums` writes for each sum."""
    programs: int = triton.cdiv(tokens, _STEPS * _BLOCK_T)
    return programs


def split_planes(
    values: torch.Tensor,
    shift: torch.Tensor,
    mask: torch.Tensor | None = None,
    planes: int = 2,
) -> torch.Tensor:
    """``values - shift`` as bfloat16 planes whose sum it is, zeros where masked.

    Parameters
    ----------
    values : float32, float16 or bfloat16 [S, T, D]
    shift : float32 [S, D], of any stride between rows
    mask
        As for `column_sums`.
    planes : {1, 2, 3}
        Each keeps 8 significant bits: three hold float32 whole.

    Returns
    -------
    bfloat16 [S, planes, T, D]
        Rows start on 16 bytes.
    """
    sites, tokens, d = values.shape
    width = triton.cdiv(d, 8) * 8
    out = torch.empty((sites, planes, tokens, width), dtype=torch.bfloat16, device=values.device)
    if tokens:
        unit = stride_unit(values, 0)
        site, *inside = values.stride()
        with launching_on(values.device):
            split_planes_kernel[(triton.cdiv(tokens, _BLOCK_T), triton.cdiv(d, _BLOCK_D), sites)](
                values,
                _bytes(mask),
                shift,
                out,
                tokens,
                d,
                width,
                shift.stride(0),
                site // unit,
                *inside,
                MASKED=mask is not None,
                UNIT=unit,
                PLANES=planes,
                BLOCK_T=_BLOCK_T,
                BLOCK_D=_BLOCK_D,
            )
    return out[..., :d]


def _bytes(mask: torch.Tensor | None) -> torch.Tensor | None:
    return None if mask is None else mask.view(torch.uint8)
