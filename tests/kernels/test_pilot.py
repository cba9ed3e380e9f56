"""The centres of channels against those of NumPy, to the bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import twins
from data import CASES, streams, surrounded

from bmatch.kernels import reference
from bmatch.kernels.pilot import pilot_shifts

MOST = 64


def counted_up_to(mask):
    """As the kernel is told of a mask."""
    return None if mask is None else mask.cumsum(0)


def by_numpy(values, mask):
    """Lower medians of the pilot tokens, where they are worth a shift: float32 [S, D]."""
    tokens = reference.pilot_tokens(values.shape[1], mask, MOST, torch.device("cpu"))
    sample = np.sort(values[:, tokens].float().numpy(), axis=1)
    middle = (len(tokens) - 1) // 2
    median = sample[:, middle]
    spread = np.sort(np.abs(sample - median[:, None]), axis=1)[:, middle]
    return np.where(np.abs(median) > np.float32(3.0) * spread, median, np.float32(0.0))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("case", CASES)
def test_medians_to_the_bit(case, dtype):
    for tokens in (300, 64, 7, 1):
        drawn = [streams(case, tokens, 5, 33, dtype, seed=s) for s in range(2)]
        mask = drawn[0][2]
        if mask is not None:
            mask[-1] = True  # one token counts at least
        y, x = (surrounded(torch.cat([d[k] for d in drawn])) for k in (0, 1))
        y, x = (values.unflatten(0, (2, tokens)) for values in (y, x))
        if mask is not None:
            y, x = (torch.where(mask[:, None], values, float("nan")) for values in (y, x))
            y[:, mask], x[:, mask] = 3.0, torch.randn(33).to(dtype)
        seen = counted_up_to(mask)
        got = pilot_shifts(y, x, seen, MOST)
        expected = np.concatenate([by_numpy(y, mask), by_numpy(x, mask)], 1)
        assert got.shape == (2, 5 + 33)
        assert np.array_equal(got.numpy().view(np.uint32), expected.view(np.uint32))
        assert torch.equal(got, twins.pilot_shifts(y, x, seen, MOST))


def test_every_length_and_mask_asks_the_tokens_of_the_twin():
    """Each token is its own number, and its median tells which were asked."""
    g = torch.Generator().manual_seed(0)
    for tokens in (1, 2, 3, 63, 64, 65, 200, 1023, 1024, 1025):
        for share in (None, 0.02, 0.5, 1.0):
            mask = None if share is None else torch.rand(tokens, generator=g) < share
            if mask is not None and not mask.any():
                mask[tokens // 2] = True
            # Column k: the numbers of tokens, of which those above its threshold are far away.
            number = torch.arange(tokens).float()[None, :, None]
            edge = tokens * torch.arange(8) / 8
            values = torch.where(number >= edge, 1e6 + number, 5e5 + number)
            got = pilot_shifts(values, values[..., :1], counted_up_to(mask), MOST)[:, :8]
            assert torch.equal(got, torch.from_numpy(by_numpy(values, mask)))


@pytest.mark.filterwarnings("ignore:overflow")
def test_ordered_as_floats_are():
    """Negative numbers, zeros of both signs, denormal and huge ones."""
    odd = torch.tensor([-3e38, -1.0, -1e-45, -0.0, 0.0, 1e-45, 1.0, 3e38])
    mixed = torch.stack([odd.roll(k) for k in range(8)])  # all of them in a column, in any order
    same = odd.expand(8, 8)  # one of them in a column
    values = torch.cat([mixed, same, 1.0 + mixed.clamp(-1e-6, 1e-6)], 1)[None]  # [1, 8, 24]
    got = pilot_shifts(values, values, None, MOST)
    expected = by_numpy(values, None)
    assert torch.equal(got, torch.from_numpy(np.concatenate([expected] * 2, 1)))
    assert torch.equal(got[0, 8:16], odd)
    assert got[0, 16:24].all()


@pytest.mark.filterwarnings("ignore:invalid value")
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("count", [1, 32, 33, 64])
def test_what_is_not_finite_shifts_nothing_by_it(value, dtype, count):
    """As `torch.median` has it on a device: NaN among numbers, or infinity amid them: no shift."""
    values = torch.full((1, 64, 3), 10.0, dtype=dtype)
    values[0, :count, 1] = value
    got = pilot_shifts(values, values, None, MOST)
    tokens = reference.pilot_tokens(64, None, MOST, torch.device("cpu"))
    sample = values[:, tokens].float()
    median = sample.median(1).values
    spread = (sample - median[:, None]).abs().median(1).values
    expected = torch.where(median.abs() > 3.0 * spread, median, 0.0)
    assert torch.equal(got, torch.cat([expected, expected], 1))
    assert got.isfinite().all()


def test_no_token_counts():
    values = torch.full((1, 9, 2), 4.0)
    assert pilot_shifts(values, values, torch.zeros(9, dtype=torch.int64), MOST).shape == (1, 4)
