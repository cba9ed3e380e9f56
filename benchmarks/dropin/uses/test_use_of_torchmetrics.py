"""torchmetrics: which of twelve speakers is which; its solver is given tensors."""

from __future__ import annotations

import torch
from torchmetrics.audio import PermutationInvariantTraining
from torchmetrics.functional.audio import (
    permutation_invariant_training,
    pit_permutate,
    scale_invariant_signal_distortion_ratio,
)


def test_speakers_are_told_apart() -> None:
    generator = torch.Generator().manual_seed(0)
    target = torch.randn(4, 12, 2000, generator=generator)
    order = torch.randperm(12, generator=generator)
    heard = target[:, order] + 0.1 * torch.randn(4, 12, 2000, generator=generator)
    metric = scale_invariant_signal_distortion_ratio
    best, permutation = permutation_invariant_training(heard, target, metric, eval_func="max")
    assert (permutation == order.argsort()).all()
    assert torch.equal(pit_permutate(heard, permutation), heard[:, order.argsort()])
    whole = PermutationInvariantTraining(metric, eval_func="max")(heard, target)
    torch.testing.assert_close(whole, best.mean())
    assert 19 < whole < 21  # noise of a tenth is 20 dB below
