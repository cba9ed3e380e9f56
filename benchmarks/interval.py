"""Means over independent runs, with intervals of 95%: over runs, and within them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
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
    def within_runs(cls, of_route: Mapping[str, Mapping[int, float]]) -> dict[str, Interval]:
        """Of routes that the same runs took, by route: of what routes differ by.

        Runs differ more from one another than routes do within them, so that each figure is taken
        less the mean of its run first. R. D. Morey, "Confidence intervals from normalized data: a
        correction to Cousineau (2005)", Tutorials in Quantitative Methods for Psychology 4 (2008).
        """
        seeds = sorted(set.intersection(*(set(figures) for figures in of_route.values())))
        figures = np.array([[of[seed] for seed in seeds] for of in of_route.values()])  # [R, runs]
        routes = len(figures)
        normalised = figures - figures.mean(0) + figures.mean()
        found = {}
        for route, drawn in zip(of_route, normalised, strict=True):
            mean, low, high, runs = cls.of(drawn)
            reach = (high - low) / 2 * math.sqrt(routes / (routes - 1))
            found[route] = cls(mean, mean - reach, mean + reach, runs)
        return found

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
