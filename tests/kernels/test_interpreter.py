"""Canaries: the interpreter multiplies and rounds bfloat16 as a GPU does, and loops."""

from __future__ import annotations

import torch
import triton
import triton.language as tl


@triton.jit
def dot_kernel(p_a, p_b, p_out, N: tl.constexpr):
    o = tl.arange(0, N)
    o_tile = o[:, None] * N + o[None, :]
    tl.store(p_out + o_tile, tl.dot(tl.load(p_a + o_tile), tl.load(p_b + o_tile)))


@triton.jit
def round_kernel(p_in, p_out, N: tl.constexpr):
    o = tl.arange(0, N)
    tl.store(p_out + o, tl.load(p_in + o).to(tl.bfloat16))


@triton.jit
def count_kernel(p_out, N):
    total = 0
    for i in range(0, N, 2):
        total += i
    tl.store(p_out, total)


def test_loops_of_a_length_known_at_run_time():
    out = torch.empty(1, dtype=torch.int32)
    count_kernel[(1,)](out, 7)
    assert out.tolist() == [2 + 4 + 6]


def test_dot_of_bfloat16():
    a, b = torch.randn(2, 16, 16, generator=torch.Generator().manual_seed(0)).bfloat16()
    out = torch.empty(16, 16)
    dot_kernel[(1,)](a, b, out, N=16)
    assert (out - a.double() @ b.double()).abs().max() < 1e-5


def test_cast_to_bfloat16_rounds_to_nearest_even():
    values = torch.randn(1024, generator=torch.Generator().manual_seed(0))
    values[:4] = torch.tensor([1.99999, 1 + 2**-8, 1 + 3 * 2**-8, -0.0])  # a carry and two ties
    out = torch.empty(1024, dtype=torch.bfloat16)
    round_kernel[(1,)](values, out, N=1024)
    assert torch.equal(out, values.bfloat16())
