"""Which matches stay when the tokens are drawn anew: a bootstrap over blocks of the stream.

Of every block of tokens stays what it adds to the correlation, ``n_b C_b - n_a C_a`` of the
correlations ``C`` of all tokens up to its ends: one matrix a block whatever the number of sites,
and all of them add up to the correlation that is matched. Neighbours join when there are too many,
so that neither the length of the stream nor that of its batches need be known.

It measures sampling error alone: of two models that nothing relates, and that read the same tokens,
most matches stay.

B. Efron, "Bootstrap methods: another look at the jackknife", Annals of Statistics 7 (1979).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch

from bmatch.gauge import SignedPermutation
from bmatch.groups import Group
from bmatch.matching import gauge_of

BLOCKS = 16
"""From so many blocks on, up to twice as many less one, are kept."""
LEAST_TOKENS = 8
"""Of a block: of fewer, what it adds to a correlation is hardly defined."""
RESAMPLES = 16


class TokenBlocks:
    """The correlation so far at the ends of the blocks of a stream.

    Attributes
    ----------
    tokens : list of int
        Tokens counted up to the end of each block.
    correlations : list of float32 tensor [D, D]
        Of all tokens up to there, on the CPU.
    passed : int
        Tokens counted so far.
    """

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.correlations: list[torch.Tensor] = []
        self._size = 0
        self.passed = 0

    def parts(self, counted: torch.Tensor) -> Iterator[slice]:
        """Divide a batch so that blocks can end in it.

        Parameters
        ----------
        counted : bool [...]
            Which of its tokens count, on the CPU.

        Yields
        ------
        slice
            Of the tokens in a row, from the end of the last part on. Afterwards `full` says whether
            a block ends here.
        """
        passed = counted.flatten().cumsum(0)
        total = int(passed[-1]) if len(passed) else 0
        self._size = self._size or max(LEAST_TOKENS, total // BLOCKS)
        start = before = 0
        while start < len(passed):
            wanted = before + self._ends_at - self.passed
            end = len(passed)
            if wanted < total:
                end = int(torch.searchsorted(passed, wanted)) + 1
            count = int(passed[end - 1]) - before
            self.passed += count
            yield slice(start, end)
            start, before = end, before + count

    @property
    def _ends_at(self) -> int:
        """How many tokens are to be counted when the next block ends."""
        return (self.tokens[-1] if self.tokens else 0) + self._size

    @property
    def full(self) -> bool:
        """Whether a block ends here."""
        return self.passed >= self._ends_at

    def pass_over(self, tokens: int) -> None:
        """Count tokens of a stretch that is added as a whole; `parts` is not asked."""
        self.passed += tokens

    def end(self, correlation: torch.Tensor) -> None:
        """End a block, with the correlation of all tokens so far."""
        if self.tokens and self.passed == self.tokens[-1]:
            return
        self.tokens.append(self.passed)
        self.correlations.append(correlation.float().cpu())
        if len(self.tokens) == 2 * BLOCKS:  # every other end goes
            self.tokens, self.correlations = self.tokens[1::2], self.correlations[1::2]
            self._size *= 2

    def resampled(self, generator: np.random.Generator) -> npt.NDArray[np.float32]:
        """The correlation of as many blocks drawn with replacement, float32 [D, D]."""
        count = len(self.tokens)
        drawn = np.bincount(generator.integers(0, count, count), minlength=count)
        weight = drawn - np.append(drawn[1:], 0)  # of the correlations up to the ends of blocks
        total = torch.zeros_like(self.correlations[0])
        for w, tokens, correlation in zip(weight, self.tokens, self.correlations, strict=True):
            total.add_(correlation, alpha=float(w) * tokens)
        result: npt.NDArray[np.float32] = (total / self.tokens[-1]).numpy()
        return result


def agreement(
    blocks: TokenBlocks, gauge: SignedPermutation, group: Group, seed: int = 0
) -> npt.NDArray[np.float64] | None:
    """How often each coordinate keeps its partner and sign when blocks are drawn anew.

    Parameters
    ----------
    blocks : TokenBlocks
    gauge : SignedPermutation
        What the correlation of all tokens was matched to.
    group : str
        The group that is searched.
    seed : int
        Of the draws.

    Returns
    -------
    float64 [D]
        Shares of `RESAMPLES` draws; None where there are fewer than two blocks.
    """
    if len(blocks.tokens) < 2:
        return None
    generator = np.random.default_rng(seed)
    perm, sign = (np.asarray(part) for part in (gauge.to(None).perm, gauge.to(None).sign))
    kept = np.zeros(gauge.dim)
    for _ in range(RESAMPLES):
        drawn = gauge_of(blocks.resampled(generator), group)
        kept += (drawn.perm == perm) & (drawn.sign == sign)
    return kept / RESAMPLES
