"""Column sums and the split into planes against their twins."""

from __future__ import annotations

import pytest
import torch
from data import CASES, streams, surrounded

from bmatch.kernels import centred, reference
from bmatch.kernels.centred import column_sums, split_planes, sum_parts


def sited(case, sites, tokens, d, dtype):
    """A stream at each site, shifts near its medians, and one mask or None: [S, T, D], [S, D]."""
    mask = streams(case, tokens, d, 5, dtype)[2]
    plain = "random" if case == "masked" else case
    drawn = [streams(plain, tokens, d, 5, dtype, seed=s)[0] for s in range(sites)]
    values = surrounded(torch.cat(drawn)).unflatten(0, (sites, tokens))
    shift = values[:, :50].float().median(1).values
    if mask is not None:
        values[:, ~mask] = float("nan")
    return values, shift, mask


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("case", CASES)
def test_column_sums(dtype, case, monkeypatch):
    """Two programs for the tokens of a site, the second of few of them."""
    if (case, dtype) != ("random", torch.float32):
        monkeypatch.setattr(centred, "_STEPS", 4)
    tokens = 16 * centred._STEPS + 4
    y, shift, mask = sited(case, 2, tokens, 133, dtype)
    narrow = y[..., 3:40].float()  # a second stream, of another width, dtype and strides
    shift = torch.cat([shift, shift[:, 3:40]], 1)
    for planes in (None, 1, 2, 3) if case == "random" else (None, 3):
        partial = column_sums(y, narrow, shift, mask, planes)
        assert partial.shape == (2, sum_parts(tokens), 2, 133 + 37)
        assert sum_parts(tokens) == 2
        got = partial.double().sum(1)
        expected = reference.column_sums(y, narrow, shift, mask, planes)[:, 0]
        scale = expected[:, 1].clamp_min(1e-30)
        # So many tokens in float32: Cauchy-Schwarz bounds the sum by the root of its squares.
        assert ((got[:, 0] - expected[:, 0]).abs() / (tokens * scale).sqrt()).max() < 1e-6
        assert ((got[:, 1] - expected[:, 1]).abs() / scale).max() < 1e-6
    for s in range(2):
        site = slice(s, s + 1)
        alone = column_sums(y[site], narrow[site], shift[site], mask, planes)
        assert torch.equal(alone[0], partial[s])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("case", CASES)
def test_planes(dtype, case):
    y, shift, mask = sited(case, 2, 100, 133, dtype)
    narrow = y[..., 3:40].float()
    shift = torch.cat([shift, shift[:, 3:40]], 1)
    for planes in (1, 2, 3):
        got = split_planes(y, narrow, shift, mask, planes)
        expected = reference.split_planes(y, narrow, shift, mask, planes)
        for split, twin, d in zip(got, expected, (133, 37), strict=True):
            assert split.shape == (2, planes, 100, d)
            assert split.stride(2) % 8 == 0  # rows start on 16 bytes
            assert torch.equal(split, twin)
    for split, values, own in zip(got, (y, narrow), shift.split([133, 37], 1), strict=True):
        centred = values.float() - own[:, None]
        if mask is not None:
            centred = torch.where(mask[:, None], centred, 0.0)
        assert torch.equal(split.float().sum(1), centred)


def test_non_finite_values_show_unless_masked():
    values = torch.ones(2, 300, 4)
    values[1, 280, 2] = float("nan")
    shift = torch.zeros(2, 4 + 3)
    squares = column_sums(values, values[..., :2], shift[:, :6].contiguous())[:, :, 1].sum(1)
    assert squares.isnan().nonzero().tolist() == [[1, 2]]
    mask = torch.arange(300) != 280
    sums = column_sums(values, values[..., :3], shift, mask)[:, :, 0].sum(1)
    assert sums.tolist() == [[299.0] * 7] * 2


def test_no_tokens():
    y, x, shift = torch.ones(2, 0, 3), torch.ones(2, 0, 4), torch.zeros(2, 7)
    assert column_sums(y, x, shift).shape == (2, 0, 2, 7)
    assert [split.shape for split in split_planes(y, x, shift)] == [(2, 2, 0, 3), (2, 2, 0, 4)]
