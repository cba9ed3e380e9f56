"""A centre for every channel of both streams, from a few of their tokens, in one launch.

A program holds the pilot tokens of some channels in registers, and reads each number once, where
it lies. Nothing is sorted: floats have the order of the integers that their bits make, so the
median is found bit by bit, by counting how many numbers lie below each trial; and whether the
median of the distances from it is small enough is a count of those that are.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from bmatch.kernels.dispatch import cdiv, launching_on, strides

_BLOCK_D = 32  # 128 bytes of float32 side by side


@triton.jit
def _pilot_tokens(p_seen, o_p, tokens, stride, MASKED: tl.constexpr):
    # Float64, and no fused multiply-add: the tokens of the twin, one by one.
    GOLDEN: tl.constexpr = 0.6180339887498949  # (sqrt(5) - 1) / 2
    b_place = o_p.to(tl.float64) * GOLDEN
    b_place = b_place - tl.floor(b_place)
    if MASKED:
        # The token with which as many are counted: the first that has seen so many.
        count = tl.load(p_seen + tokens - 1)
        b_rank = (b_place * count.to(tl.float64)).to(tl.int64) + 1
        b_token = tl.zeros_like(b_rank)
        while stride > 0:
            b_trial = b_token + stride
            m_inside = b_trial <= tokens
            b_seen = tl.load(p_seen + b_trial - 1, mask=m_inside, other=0)
            b_token = tl.where(m_inside & (b_seen < b_rank), b_trial, b_token)
            stride = stride // 2
        b_token = tl.minimum(b_token, tokens - 1)
    else:
        b_token = (b_place * tokens.to(tl.float64)).to(tl.int64)
    return b_token


@triton.jit
def _write_shift(
    p_values, p_out, b_token, m_p, sampled, i_d, D, stride_row, stride_col, BLOCK_D: tl.constexpr
):
    LARGEST: tl.constexpr = 0xFFFFFFFF
    SIGN: tl.constexpr = 0x80000000
    # Bits of float32 that are 0 in all numbers of the stream.
    stored: tl.constexpr = p_values.dtype.element_ty
    LOW: tl.constexpr = 16 if stored == tl.bfloat16 else 13 if stored == tl.float16 else 0
    rank = (sampled - 1) // 2
    o_d = i_d * BLOCK_D + tl.arange(0, BLOCK_D)
    m_block = m_p[:, None] & (o_d < D)[None, :]
    p_block = p_values + (b_token[:, None] * stride_row + o_d.to(tl.int64)[None, :] * stride_col)
    b_values = tl.load(p_block, mask=m_block, other=0.0).to(tl.float32)  # [PILOT, BLOCK_D]
    b_bits = b_values.to(tl.uint32, bitcast=True)
    b_keys = tl.where(b_bits >= SIGN, b_bits ^ LARGEST, b_bits | SIGN)
    b_keys = tl.where(m_block, b_keys, LARGEST) >> LOW

    # The lower median is the greatest number below which no more than `rank` others lie.
    b_found = tl.zeros((BLOCK_D,), dtype=tl.uint32)
    b_bit = tl.full((BLOCK_D,), SIGN >> LOW, dtype=tl.uint32)
    for _ in range(32 - LOW):
        b_trial = b_found | b_bit
        b_below = tl.sum((b_keys < b_trial[None, :]).to(tl.int32), 0)
        b_found = tl.where(b_below <= rank, b_trial, b_found)
        b_bit = b_bit >> 1
    b_found = b_found << LOW
    b_bits = tl.where(b_found >= SIGN, b_found ^ SIGN, b_found ^ LARGEST)
    b_median = ((b_bits >> LOW) << LOW).to(tl.float32, bitcast=True)

    # Three times the median of distances is less than the median if so many of them are. That of
    # numbers of which one is NaN is none, nor is there a distance between infinities.
    b_distance = tl.abs(b_values - b_median[None, :])
    b_near = (3.0 * b_distance < tl.abs(b_median)[None, :]).to(tl.int32)
    b_near = tl.where(b_distance == b_distance, b_near, -sampled)
    b_count = tl.sum(tl.where(m_block, b_near, 0), 0)
    tl.store(p_out + o_d, tl.where(b_count > rank, b_median, 0.0), mask=o_d < D)


@triton.jit(do_not_specialize=["tokens", "stride", "stride_y_site", "stride_x_site"])
def pilot_kernel(
    p_y,  # [sites, tokens, D1]
    p_x,  # [sites, tokens, D2]
    p_seen,  # int64 [tokens], how many count up to each token, read if MASKED
    p_shift,  # float32 [sites, D1 + D2]
    tokens,
    stride,  # the largest power of two that is not above `tokens`: of the first trial
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
    PILOT: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """BLOCK_D channels of a site: first those of Y, then those of X."""
    i_site = tl.program_id(1).to(tl.int64)
    i_d = tl.program_id(0)
    n_y = tl.cdiv(D1, BLOCK_D)
    o_p = tl.arange(0, PILOT)
    sampled = tl.minimum(tokens, PILOT)
    m_p = o_p < sampled
    b_token = _pilot_tokens(p_seen, o_p, tokens, stride, MASKED)
    p_out = p_shift + i_site * (D1 + D2)
    if i_d < n_y:
        p_y_site = p_y + i_site * stride_y_site * UNIT
        _write_shift(
            p_y_site, p_out, b_token, m_p, sampled, i_d, D1, stride_y_row, stride_y_col, BLOCK_D
        )
    else:
        p_x_site = p_x + i_site * stride_x_site * UNIT
        _write_shift(
            p_x_site, p_out + D1, b_token, m_p, sampled,
            i_d - n_y, D2, stride_x_row, stride_x_col, BLOCK_D,
        )  # fmt: skip


def pilot_shifts(
    target: torch.Tensor, source: torch.Tensor, seen: torch.Tensor | None, most: int
) -> torch.Tensor:
    """The centre of every channel: its median over pilot tokens, 0 where it is not worth a shift.

    Parameters
    ----------
    target, source : float32, float16 or bfloat16 [S, T, D1] and [S, T, D2], T > 0
        Of any strides.
    seen : int64 [T], contiguous, or None
        How many tokens count up to each; None: all do.
    most : int
        How many tokens are asked, a power of two.

    Returns
    -------
    float32 [S, D1 + D2]
        Those of the target, then those of the source.
    """
    sites, tokens, d1 = target.shape
    d2 = source.shape[2]
    shift = torch.empty((sites, d1 + d2), dtype=torch.float32, device=target.device)
    unit, walked = strides(target, source)
    with launching_on(target.device):
        pilot_kernel[(cdiv(d1, _BLOCK_D) + cdiv(d2, _BLOCK_D), sites)](
            target,
            source,
            seen,
            shift,
            tokens,
            1 << (tokens.bit_length() - 1),
            d1,
            d2,
            *walked,
            MASKED=seen is not None,
            UNIT=unit,
            PILOT=most,
            BLOCK_D=_BLOCK_D,
            num_warps=8,
            enable_fp_fusion=False,
        )
    return shift
