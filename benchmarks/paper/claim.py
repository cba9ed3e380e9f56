"""A claim of the paper: what it says, its figure, and how ours is measured.

Every claim is measured in independent runs, each from a seed of its own, which draws gauges, noise,
tokens and, where something is trained, the training. What a table shows is the mean over runs with
Student's interval of 95%.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy.stats

RUNS = 4
"""The fewest that a mean is taken over."""


class Figure(NamedTuple):
    """One figure of one run.

    Attributes
    ----------
    case : str
        Under which conditions.
    route : str
        How the object was carried, or the gauge found.
    metric, unit : str
    value : float
    """

    case: str
    route: str
    metric: str
    unit: str
    value: float


class Size(NamedTuple):
    """How much is measured: ``quick`` takes minutes on two cores, ``full`` hours or a GPU."""

    name: str
    device: str

    @property
    def full(self) -> bool:
        """Whether this is the full size."""
        return self.name == "full"


class Claim(NamedTuple):
    """What is measured.

    Attributes
    ----------
    says : str
        The claim, in a line.
    paper : str
        The paper's figure.
    settings : mapping
        Hyper-parameters, for the head of the table.
    measure : callable
        The figures of the run of a seed.
    needs : tuple of str
        Packages, to be imported, that are not among the project's own.
    """

    says: str
    paper: str
    settings: Mapping[str, Any]
    measure: Callable[[int, Size], Iterator[Figure]]
    needs: tuple[str, ...] = ()


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
    def of(cls, values: Sequence[float]) -> Interval:
        """Student's interval; without bounds of a single run."""
        n, mean = len(values), float(np.mean(values))
        if n < 2:
            return cls(mean, math.nan, math.nan, n)
        half = float(scipy.stats.t.ppf(0.975, n - 1) * np.std(values, ddof=1) / math.sqrt(n))
        return cls(mean, mean - half, mean + half, n)
