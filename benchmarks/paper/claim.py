"""A claim of the paper: what it says, its figure, and how ours is measured.

Every claim is measured in independent runs, each from a seed of its own, which draws gauges, noise,
tokens and, where something is trained, the training.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

RUNS = 4
"""The fewest that a mean is taken over."""
RECOVERED = "recovered"
"""The metric by which routes are compared."""
FINE_TUNED = 1500
"""Steps of SmolLM2's fine-tunes."""


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
    """How much is measured: ``quick`` takes minutes on two cores, ``full`` hours or a GPU.

    Attributes
    ----------
    name, device : str
    steps : int
        Of SmolLM2's fine-tunes, at the full size.
    work : Path or None
        Where these are kept while they are trained. None: in the user's cache.
    """

    name: str
    device: str
    steps: int = FINE_TUNED
    work: Path | None = None

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
        Hyper-parameters, for the head of the table; a mapping by size where they depend on it, or
        are of one size alone.
    measure : callable
        The figures of the run of a seed.
    needs : tuple of str
        Packages, to be imported, that are not among the project's own.
    sizes : tuple of str
        At which it is measured.
    compared : tuple of str
        Routes that every run takes: what each recovered has an interval within runs, too.
    """

    says: str
    paper: str
    settings: Mapping[str, Any]
    measure: Callable[[int, Size], Iterator[Figure]]
    needs: tuple[str, ...] = ()
    sizes: tuple[str, ...] = ("quick", "full")
    compared: tuple[str, ...] = ()
