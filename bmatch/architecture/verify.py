"""The proof of a table: a model's logits do not change under a random gauge."""

from __future__ import annotations

import copy
from typing import Any

from bmatch.architecture.table import residual_axes
from bmatch.architecture.wrappers import unwrapped
from bmatch.gauge import SignedPermutation


def verify(model: Any, *, num_tokens: int = 64, seed: int = 0) -> float:
    """Prove the table for a model: under a random gauge its logits stay what they were.

    Parameters
    ----------
    model
        A transformers causal language model in float32; left as it is. It may be compiled, or in
        DataParallel or DistributedDataParallel.
    num_tokens : int
        Length of the random input.
    seed : int
        Of the gauge and of the input.

    Returns
    -------
    float
        Largest difference of a logit, relative to the largest logit.

    Raises
    ------
    ValueError
        If the difference exceeds 1e-3, that is, the table is wrong for this model, or the model
        is not in float32 (lower precision moves logits by more), or has tensors that the table
        does not know, such as those of a PEFT adapter.
    """
    import torch

    model = unwrapped(model)
    if model.dtype != torch.float32:
        raise ValueError(f"verify needs the model in float32, got {model.dtype}: use model.float()")
    axes = residual_axes(model)
    axes.require_names(model.state_dict())
    gauge = SignedPermutation.random(axes.dim, axes.group, seed=seed).to(model.device)
    moved = copy.deepcopy(model)
    with torch.no_grad():
        for name, parameter in moved.named_parameters():  # a tied parameter comes once
            parameter.copy_(axes.transform(name, parameter, gauge))
        generator = torch.Generator().manual_seed(seed)
        tokens = torch.randint(axes.vocab_size, (1, num_tokens), generator=generator)
        before = model(tokens.to(model.device)).logits
        after = moved(tokens.to(model.device)).logits
    difference = float((before - after).abs().max() / before.abs().max())
    if not difference <= 1e-3:
        raise ValueError(
            f"the table for {axes.model_type} is wrong for this model: a gauge changes its logits "
            f"by {difference:.1e} of the largest"
        )
    return difference
