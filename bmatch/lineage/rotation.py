"""The rotation that takes one model's token embeddings to the other's: orthogonal Procrustes.

A model without gains, or whose gains were folded into the matrices behind them, computes the same
in any rotated basis. Embeddings have no gains, so they are rotated as a whole.

P. H. Schönemann, "A generalized solution of the orthogonal Procrustes problem", Psychometrika 31
(1966).
"""

from __future__ import annotations

import torch

from bmatch.models.weight_evidence import Weights


def residual_of_rotation(target: Weights, source: Weights) -> float | None:
    """What the best rotation leaves of the target's embeddings, relative to their norm.

    Returns
    -------
    float or None
        0 for a rotated copy, 1 at most; None where the embeddings have not the same rows, or so few
        that a rotation could fit anything.
    """
    found = []
    for weights in (target, source):
        size, width = weights.axes.vocab_size, weights.axes.dim
        named = (weights.read(name) for name in weights.names if _is_embedding(weights, name))
        embedding = next((tensor for tensor in named if size in tensor.shape), None)
        if embedding is None:
            return None
        rows = embedding.detach().cpu().double()
        found.append(rows if rows.shape == (size, width) else rows.T)
    y, x = found
    if y.shape != x.shape or len(y) < 2 * y.shape[1]:
        return None
    left, _, right = torch.linalg.svd(x.T @ y)
    return float(torch.linalg.norm(y - x @ (left @ right)) / torch.linalg.norm(y))


def _is_embedding(weights: Weights, name: str) -> bool:
    rule = weights.axes.rule(name)
    return rule is not None and rule.role == "stream" and ("emb" in name or "wte" in name)
