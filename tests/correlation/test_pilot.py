"""Which tokens a shift is read from, and what it does to a stream."""

from __future__ import annotations

import torch

from bmatch.correlation.batch import Batch
from bmatch.correlation.pilot import pilot_shifts
from bmatch.kernels import reference


def test_the_pilot_is_no_comb():
    """Sequences of 256 tokens with a sink at the start of each: few pilot tokens are sinks."""
    for tokens in (512, 8192, 32_768):
        pilot = reference.pilot_tokens(tokens, None, 32, torch.device("cpu"))
        assert int((pilot % 256 == 0).sum()) <= 1
    mask = torch.arange(8192) % 3 == 1
    pilot = reference.pilot_tokens(8192, mask, 32, torch.device("cpu"))
    assert mask[pilot].all()
    assert len(pilot.unique()) == len(pilot)


def test_a_shift_is_the_median_of_what_lies_far_from_zero():
    """float32 of 16 bits, float64 of float64; massive activations and small means shift nothing."""
    g = torch.Generator().manual_seed(0)
    y = torch.randn(2, 500, 4, generator=g)
    y[0, :, 1] += 50.0
    y[1, ::9, 2] = 25_000.0
    y[:, :, 3] += 0.5
    batch = Batch(y.bfloat16(), y.double(), torch.arange(500) % 3 != 0)
    target, source = pilot_shifts(batch)
    assert (target.dtype, source.dtype) == (torch.float32, torch.float64)
    for shift in (target, source):
        assert shift.shape == (2, 4)
        assert shift.nonzero().tolist() == [[0, 1]]
        assert abs(float(shift[0, 1]) - 50.0) < 1.0


def test_nothing_is_shifted_where_no_token_is():
    empty = torch.ones(1, 0, 3)
    for shift in pilot_shifts(Batch(empty, empty.double(), None)):
        assert torch.equal(shift, torch.zeros_like(shift))
        assert shift.shape == (1, 3)
