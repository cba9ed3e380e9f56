"""How fast a long job passes its tokens: a line now and then, and JSON lines for other programs."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from typing import Any

from bmatch.jobs.phases import peak_bytes

_BETWEEN = 60.0  # seconds from line to line


class Pace:
    """Tokens a second and the time left.

    Parameters
    ----------
    total : int
        Tokens of the whole job.
    tell : callable
        Is given a line a minute.
    metrics : path, optional
        File to which a JSON object a line is added whenever tokens have passed.

    Raises
    ------
    OSError
        If that file cannot be written to.
    """

    def __init__(
        self,
        total: int,
        tell: Callable[[str], None],
        metrics: str | os.PathLike[str] | None = None,
    ) -> None:
        self._total, self._tell, self._metrics = total, tell, metrics
        self._start = self._told = time.monotonic()
        self._before: int | None = None  # tokens that an earlier job has counted
        if metrics is not None:
            with open(metrics, "a"):
                pass

    def __call__(self, tokens: int) -> None:
        """To be called with how many have been counted."""
        now = time.monotonic()
        if self._before is None:
            self._before, self._start = tokens, now
        seconds = now - self._start
        rate = (tokens - self._before) / seconds if seconds else 0.0
        left = (self._total - tokens) / rate if rate else None
        figures = {"tokens": tokens, "tokens_total": self._total, "seconds": round(seconds, 3)}
        self.add({**figures, "tokens_per_second": round(rate, 1), "seconds_left": left})
        if left is not None and now - self._told >= _BETWEEN:
            self._told = now
            self._tell(
                f"{tokens:,} of {self._total:,} tokens, {rate:,.0f} a second, "
                f"{left / 60:,.0f} min left"
            )

    def add(self, figures: Mapping[str, Any]) -> None:
        """Add a line to the metrics; where they cannot be written, that is told and the end."""
        if self._metrics is None:
            return
        try:
            with open(self._metrics, "a") as file:
                file.write(json.dumps({**figures, "peak_bytes": peak_bytes()}) + "\n")
        except OSError as error:
            self._tell(f"{os.fspath(self._metrics)} takes no more metrics ({error.strerror})")
            self._metrics = None
