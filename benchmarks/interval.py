"""Means over independent runs, with Student's interval of 95%."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt


class Interval(NamedTuple):
    """A mean over runs, and between which bounds 95% of such intervals hold it."""

    mean: float
    low: float
    high: float
    runs: int

    @classmethod
    def over_runs(cls, values: Iterable[tuple[int, float]]) -> Interval:
        """Of figures with the seeds of their runs: the mean of each run counts once."""
        of_run: dict[int, list[float]] = {}
        for seed, value in values:
            of_run.setdefault(seed, []).append(value)
        return cls.of([float(np.mean(found)) for found in of_run.values()])

    @classmethod
    def of(cls, values: npt.ArrayLike) -> Interval:
        """Student's interval; without bounds of a single run."""
        from scipy.stats import t

        drawn = np.asarray(values, np.float64)
        n, mean = len(drawn), float(drawn.mean())
        if n < 2:
            return cls(mean, math.nan, math.nan, n)
        reach = float(t.ppf(0.975, n - 1) * drawn.std(ddof=1) / math.sqrt(n))
        return cls(mean, mean - reach, mean + reach, n)
