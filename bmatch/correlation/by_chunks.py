"""A batch added chunk by chunk: the way of the CPU, and of what the kernels cannot sum.

Sites are added one by one: all their tokens are summed first, then each chunk is multiplied, in
float32 where that reaches and otherwise in float64, and its products folded into the statistics.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import torch

from bmatch.correlation.batch import Batch
from bmatch.correlation.chunks import CHUNK_TOKENS, TokenStream, Workspace
from bmatch.correlation.products import (
    fold,
    multiplies_bfloat16,
    multiply,
    product_bytes,
    threads_for,
)
from bmatch.correlation.statistics import Statistics

Pair: TypeAlias = tuple[TokenStream, TokenStream]
"""The counted tokens of target and source at one site."""


def pairs_of_sites(
    batch: Batch,
    shifts: tuple[torch.Tensor, torch.Tensor],
    sites: Sequence[int],
    count: int,
) -> dict[int, Pair]:
    """The pairs of some sites: `count` tokens each, summed, none of them added yet.

    `shifts` are those of all sites, [S, D1] and [S, D2], in the dtypes of products.
    """
    (y, x), rows = (batch.target, batch.source), None
    if batch.kept is not None:
        rows = batch.kept.nonzero()[:, 0]
    threads = threads_for(y.device, count * y.shape[2] * x.shape[2] * len(sites))
    y_workspace, x_workspace = Workspace(), Workspace()
    return {
        s: (
            TokenStream(y[s], rows, shifts[0][s], y_workspace, threads),
            TokenStream(x[s], rows, shifts[1][s], x_workspace, threads),
        )
        for s in sites
    }


def add(statistics: Statistics, s: int, pair: Pair, precision: str) -> None:
    """Fold in the tokens of the s-th site; the statistics' count is left to the caller."""
    target, source = pair
    threads = target.threads
    rounded = precision == "medium" and multiplies_bfloat16(statistics.comoment.device)
    seen = statistics.count
    for chunk in range(target.chunks):
        y, x = target.centred(chunk, rounded), source.centred(chunk, rounded)
        n = len(y.values)
        products = multiply(y.values, x.values, threads)  # [D1, D2]
        left, right = statistics.move(s, seen, n, y.sums, x.sums)
        fold(statistics.comoment[s], products, left, right, threads)
        seen += n


def update_bytes(sites: int, target_dim: int, source_dim: int, tokens: int) -> int:
    """What adding a batch of float32 takes on the CPU, if it is masked and shifted."""
    width = target_dim + source_dim
    sums = 16 * sites * -(-tokens // CHUNK_TOKENS) * width
    chunk = min(tokens, CHUNK_TOKENS)
    copies = 8 * chunk * width
    return sums + copies + product_bytes(chunk, target_dim, source_dim)
