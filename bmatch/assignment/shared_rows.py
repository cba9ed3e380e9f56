"""Rows of factors that several processes make together, while one of them solves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt

from bmatch.assignment.factors import CACHE_BYTES, Factors
from bmatch.jobs.ranks import Ranks


@contextmanager
def shared_rows(
    factors: Factors, ranks: Ranks, *, cache_bytes: int = CACHE_BYTES
) -> Iterator[Factors | None]:
    """Factors whose rows all ranks make, each a part of every block that the first asks for.

    Parameters
    ----------
    factors : Factors [n, m]
        With ``n <= m`` (otherwise give ``factors.T``), the same at all ranks.
    ranks : Ranks
        See `bmatch.jobs.ranks.joined`.
    cache_bytes : int
        Most memory for blocks that the first rank keeps.

    Yields
    ------
    Factors or None
        At the first rank the same entries, to the bit, to be solved and certified in the block.
        Elsewhere None, once that is over: meanwhile such a rank makes rows.

    Raises
    ------
    ValueError
        If there are more rows than columns.
    ConnectionError
        If a rank was lost.

    Examples
    --------
    >>> import bmatch
    >>> from bmatch.assignment.shared_rows import shared_rows
    >>> from bmatch.jobs.ranks import joined
    >>> factors = bmatch.Factors([[0.0], [5.0]], [[4.0], [1.0]], "euclidean")
    >>> with joined() as ranks, shared_rows(factors, ranks) as shared:
    ...     if shared is not None:
    ...         print(bmatch.solve(shared).objective)
    2.0
    """

    def part(first: int, count: int) -> npt.NDArray[np.float64]:
        low, high = (first + count * k // ranks.world for k in (ranks.rank, ranks.rank + 1))
        return factors[low:high]

    def block(first: int, count: int) -> npt.NDArray[np.float64]:
        ranks.told((first, count))
        return np.concatenate(ranks.gathered(part(first, count)))

    if ranks.first:
        shared = Factors.from_blocks(block, factors.shape, cache_bytes=cache_bytes)
        try:
            yield shared
        finally:
            ranks.told(None)
        return
    while (asked := ranks.told()) is not None:
        ranks.gathered(part(*asked))
    yield None
