"""How fast a long job passes its tokens: a line now and then, and figures for other programs."""

from __future__ import annotations

import time
from collections.abc import Callable

from bmatch.jobs.metrics import Metrics

_BETWEEN = 60.0  # seconds from line to line


class Pace:
    """Tokens a second and the time left.

    Parameters
    ----------
    total : int
        Tokens of the whole job.
    tell : callable
        Is given a line a minute.
    metrics : Metrics, optional
        Is given figures whenever tokens have passed.
    """

    def __init__(
        self, total: int, tell: Callable[[str], object], metrics: Metrics | None = None
    ) -> None:
        self._total, self._tell, self._metrics = total, tell, metrics
        self._start = self._told = time.monotonic()
        self._before: int | None = None  # tokens that an earlier job has counted

    def __call__(self, tokens: int) -> None:
        """To be called with how many have been counted."""
        now = time.monotonic()
        if self._before is None:
            self._before, self._start = tokens, now
        seconds = now - self._start
        rate = (tokens - self._before) / seconds if seconds else 0.0
        left = (self._total - tokens) / rate if rate else None
        if self._metrics is not None:
            figures = {"tokens": tokens, "tokens_total": self._total, "seconds": round(seconds, 3)}
            rates = {"tokens_per_second": round(rate, 1), "seconds_left": left}
            self._metrics.add({**figures, **rates}, tokens)
        if left is not None and now - self._told >= _BETWEEN:
            self._told = now
            self._tell(
                f"{tokens:,} of {self._total:,} tokens, {rate:,.0f} a second, "
                f"{left / 60:,.0f} min left"
            )
