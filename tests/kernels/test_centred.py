"""Column sums and the split into planes against their twins."""

from __future__ import annotations

import pytest
import torch
from data import CASES, streams, surrounded

from bmatch.kernels import reference
from bmatch.kernels.centred import column_sums, split_planes


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
def test_column_sums(dtype, case):
    y, shift, mask = sited(case, 2, 260, 133, dtype)
    narrow = y[..., 3:40]  # a second stream, of other widths and strides
    shift = torch.cat([shift, shift[:, 3:40]], 1)
    for planes in (None, 1, 2, 3) if case == "random" else (None, 3):
        got = column_sums((y, narrow), shift, mask, planes)
        expected = reference.column_sums((y, narrow), shift, mask, planes)
        assert got.shape == expected.shape == (2, 2, 133 + 37)
        scale = expected[:, 1].clamp_min(1e-30)
        # 256 tokens in float32: Cauchy-Schwarz bounds the sum by the root of its squares.
        assert ((got[:, 0] - expected[:, 0]).abs() / (260 * scale).sqrt()).max() < 1e-6
        assert ((got[:, 1] - expected[:, 1]).abs() / scale).max() < 1e-6
    for s in range(2):
        alone = column_sums((y[s : s + 1],), shift[s : s + 1, :133].contiguous(), mask, planes)
        assert torch.equal(alone[0], got[s, :, :133])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("case", CASES)
def test_planes(dtype, case):
    y, shift, mask = sited(case, 2, 100, 133, dtype)
    beside = torch.cat([torch.full((2, 5), float("nan")), shift], 1)[:, 5:]  # rows of shifts apart
    for planes in (1, 2, 3):
        got = split_planes(y, beside, mask, planes)
        assert got.shape == (2, planes, 100, 133)
        assert got.stride(2) % 8 == 0  # rows start on 16 bytes
        assert torch.equal(got, reference.split_planes(y, shift, mask, planes))
    centred = y.float() - shift[:, None]
    if mask is not None:
        centred = torch.where(mask[:, None], centred, 0.0)
    assert torch.equal(got.float().sum(1), centred)


def test_non_finite_values_show_unless_masked():
    values = torch.ones(2, 300, 4)
    values[1, 280, 2] = float("nan")
    shift = torch.zeros(2, 4)
    assert column_sums((values,), shift)[:, 1].isnan().nonzero().tolist() == [[1, 2]]
    mask = torch.arange(300) != 280
    assert column_sums((values,), shift, mask)[:, 0].tolist() == [[299.0] * 4] * 2


def test_no_tokens():
    assert not column_sums((torch.ones(2, 0, 3),), torch.zeros(2, 3)).any()
    assert split_planes(torch.ones(2, 0, 3), torch.zeros(2, 3)).shape == (2, 2, 0, 3)
