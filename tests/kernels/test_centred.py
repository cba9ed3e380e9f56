"""Column sums and the split into planes against their twins."""

from __future__ import annotations

import pytest
import torch
from data import CASES, streams

from bmatch.kernels import reference
from bmatch.kernels.centred import column_sums, split_planes


def shift_of(values, mask):
    counted = values if mask is None else values[mask]
    return counted[:50].float().median(0).values


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("case", CASES)
def test_column_sums(dtype, case):
    y, _, mask = streams(case, 260, 133, 5, dtype)
    shift = shift_of(y, mask)
    for planes in (None, 1, 2, 3) if case == "random" else (None, 3):
        got = column_sums(y, shift, mask, planes)
        expected = reference.column_sums(y, shift, mask, planes)
        scale = expected[1].clamp_min(1e-30)
        # 256 tokens in float32: Cauchy-Schwarz bounds the sum by the root of its squares.
        assert ((got[0] - expected[0]).abs() / (260 * scale).sqrt()).max() < 1e-6
        assert ((got[1] - expected[1]).abs() / scale).max() < 1e-6


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("case", CASES)
def test_planes(dtype, case):
    y, _, mask = streams(case, 100, 133, 5, dtype)
    shift = shift_of(y, mask)
    for planes in (1, 2, 3):
        got = split_planes(y, shift, mask, planes)
        assert got.shape == (planes, 128, 133)
        assert torch.equal(got[:, :100], reference.split_planes(y, shift, mask, planes))
        assert not got[:, 100:].any()
    centred = y.float() - shift if mask is None else torch.where(mask[:, None], y - shift, 0.0)
    assert torch.equal(got[:, :100].float().sum(0), centred)


def test_non_finite_values_show_unless_masked():
    values = torch.ones(300, 4)
    values[280, 2] = float("nan")
    shift = torch.zeros(4)
    assert column_sums(values, shift)[1].isnan().tolist() == [False, False, True, False]
    mask = torch.arange(300) != 280
    assert column_sums(values, shift, mask)[0].tolist() == [299.0] * 4


def test_no_tokens():
    total, square = column_sums(torch.ones(0, 3), torch.zeros(3))
    assert not total.any()
    assert not square.any()
    assert split_planes(torch.ones(0, 3), torch.zeros(3)).shape == (2, 0, 3)
