"""Batches as they come: what is read of them, and what is refused."""

from __future__ import annotations

import pytest
import torch

from bmatch.correlation.batch import checked_batch

SHAPE, CPU = torch.Size((2, 4, 3)), torch.device("cpu")


def test_tokens_of_any_leading_shape_stand_in_a_row():
    y, x = torch.randn(2, 5, 6, 4), torch.randn(2, 5, 6, 3)
    mask = torch.arange(30).reshape(5, 6) % 4 == 0
    batch = checked_batch(y, x, mask, SHAPE, CPU)
    assert torch.equal(batch.target, y.flatten(1, 2))
    assert torch.equal(batch.source, x.flatten(1, 2))
    assert torch.equal(batch.kept, mask.flatten())
    assert (batch.tokens, batch.counted()) == (30, 8)
    assert checked_batch(y, x, None, SHAPE, CPU).counted() == 30


def test_memory_holds_what_is_read():
    """Views whose memory holds the numbers with the other sign, masks of strides."""
    x = torch.randn(2, 5, 3)
    negated = torch.complex(torch.zeros_like(x), -x).conj().imag
    assert negated.is_neg()
    wide = torch.rand(5, 2) < 0.5
    batch = checked_batch(torch.ones(2, 5, 4), negated, wide[:, 1], SHAPE, CPU)
    assert not batch.source.is_neg()
    assert torch.equal(batch.source, x)
    assert batch.kept.is_contiguous()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"target": torch.ones(3, 5, 4)}, r"target must have 2 sites .* shape \(3, 5, 4\)"),
        ({"source": torch.ones(2, 5, 4)}, r"source must have 3 coordinates .* shape \(5, 4\)"),
        ({"source": torch.ones(3)}, r"source must have 3 coordinates .* shape \(\)"),
        (
            {"source": torch.ones(2, 6, 3)},
            r"pair the same tokens.* \(5, 4\) and \(6, 3\)",
        ),
        (
            {"source": torch.ones(2, 5, 3, device="meta")},
            "source is on meta and the moments",
        ),
        (
            {"mask": torch.ones(4, dtype=torch.bool)},
            r"leading shape \(5,\) .* got \(4,\)",
        ),
    ],
)
def test_what_does_not_fit_is_refused(change, message):
    given = {"target": torch.ones(2, 5, 4), "source": torch.ones(2, 5, 3), "mask": None} | change
    with pytest.raises(ValueError, match=message):
        checked_batch(**given, shape=SHAPE, device=CPU)


def test_other_types_are_refused():
    y, x = torch.ones(2, 5, 4), torch.ones(2, 5, 3)
    with pytest.raises(TypeError, match=r"target must be floating point, got torch\.int32"):
        checked_batch(y.int(), x, None, SHAPE, CPU)
    with pytest.raises(TypeError, match=r"mask must be boolean.* got torch\.float32"):
        checked_batch(y, x, torch.ones(5), SHAPE, CPU)
