"""The element of every space that carries one network closest to another.

First the spaces that reach over layers, from tensors that carry nothing else: embeddings, gains.
Then part after part, with both networks' tensors of one part in memory: its neurons, heads and
experts, until nothing moves; and what the part then says about the wide spaces is added up. They
are chosen anew when all parts are through, and so on until they do not move.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bmatch.architecture.nesting import Nesting
from bmatch.architecture.spaces import Axes, Space
from bmatch.gauge import SignedPermutation
from bmatch.groups import Group
from bmatch.jobs.progress import Progress, silent
from bmatch.matching import GaugeMatch
from bmatch.network.gains import Gains
from bmatch.network.pair import Read, Tensors
from bmatch.network.parts import parts_of
from bmatch.network.selection import Kind, kinds_of
from bmatch.network.settle import LEAST, Search
from bmatch.network_gauge import NetworkGauge

PASSES = 20
"""More than any search has taken by far; each goes once through both networks."""


@dataclass(frozen=True, eq=False)
class SpaceMatch:
    """How sure the element of one space is. Per-unit arrays are indexed by target unit.

    Attributes
    ----------
    kind : str
        residual, neurons, heads or experts.
    group : str
    margin : float64 [size]
        What the gains would lose if a unit took its next best partner, in units of the mean unit's
        share of them: tensors that are the same have gains of 1. 0 is a tie.
    margin_exact : bool [size]
        False where `margin` is a lower bound.
    score : float
        Mean gain of matched units: 1 where the tensors are the same.
    gap : float
        No assignment has gains larger in sum than this one's by more, with duals as proof.
    """

    kind: Kind
    group: Group
    margin: npt.NDArray[np.float64]
    margin_exact: npt.NDArray[np.bool_]
    score: float
    gap: float


@dataclass(frozen=True, eq=False)
class NetworkMatch:
    """What `match_networks` found.

    Attributes
    ----------
    gauge : NetworkGauge
        From source to target.
    spaces : mapping of str to SpaceMatch
    objective : tuple of float
        In each pass, when all parts have settled: the mean over all entries of the products of
        both networks' tensors, each scaled to mean square 1. Never falls; 1 if source and target
        are the same but for the gauge.
    moves : tuple of (str, float)
        Spaces that moved after their first guess, and by how much each raised the objective.
    passes : int
        How often both networks were read after the start.
    settled : bool
        Whether nothing moved in the last pass.
    """

    gauge: NetworkGauge
    spaces: Mapping[str, SpaceMatch]
    objective: tuple[float, ...]
    moves: tuple[tuple[str, float], ...]
    passes: int
    settled: bool


def match_networks(
    target: Read, source: Read, axes: Axes, progress: Progress = silent
) -> NetworkMatch:
    """Find the gauge of a whole network that carries the source closest to the target.

    Parameters
    ----------
    target, source : callable
        From the name of a tensor to the tensor; read part by part, more than once.
    axes : Axes
        The spaces to align, as `bmatch.architecture.derive` gives them; others are taken to be
        aligned.
    progress : callable, optional
        How to show how far a pass has come (see `bmatch.jobs.progress`).

    Raises
    ------
    ValueError
        If tensors differ in shape or are not finite, or there are no spaces.
    """
    if not axes.spaces:
        raise ValueError("there are no spaces to align")
    nesting = Nesting.of(axes)
    wide, parts = parts_of(axes, nesting)
    search = Search(axes, nesting)
    _start(search, wide, target, source)
    # What is inside the units of others was matched unit for unit: these stay where they are.
    movable = [space for space in wide if not search.inner(space)]
    entries = 0
    objective: list[float] = []
    passes, still = 0, 0
    while still < max(len(movable), 1) and passes < PASSES:
        wide_step = _WideStep(movable[passes % len(movable)]) if movable else None
        passes += 1
        total, entries = 0.0, 0
        for part in progress(parts, f"Pass {passes}"):
            tensors = Tensors.read(part.tensors, target, source)
            search.settle(part, tensors)
            total += search.objective(part.tensors, tensors)
            entries += sum(t.numel() for t in tensors.target.values())
            if wide_step is not None:
                wide_step.add(search, part.tensors, tensors)
        objective.append(total / entries)
        moved = wide_step is not None and wide_step.move(search, target, source)
        still = 0 if moved else still + 1
    elements = {space.name: search.elements[space.name] for space in axes.spaces}
    kinds = kinds_of(axes)
    return NetworkMatch(
        gauge=NetworkGauge(elements, nesting),
        spaces={
            space.name: _of(space, kinds[space.name], search.found.get(space.name))
            for space in axes.spaces
        },
        objective=tuple(objective),
        moves=tuple((name, rise / entries) for name, rise in search.moves),
        passes=passes,
        settled=still >= max(len(movable), 1),
    )


def _start(search: Search, wide: Sequence[Space], target: Read, source: Read) -> None:
    """First guesses of the spaces that reach over parts, that with most evidence first."""
    pending = list(wide)
    while pending:
        clear = {
            space.name: [
                name
                for name in search.clear(space)
                if sum(m.tensor == name for m in space.members) == 1
            ]
            for space in pending
        }
        space = max(pending, key=lambda space: len(clear[space.name]))
        pending.remove(space)
        gains = Gains(space.size)
        for name in clear[space.name]:
            search.add_gains(gains, space, [name], Tensors.read((name,), target, source))
        if clear[space.name]:
            search.elements[space.name], search.found[space.name] = gains.best(space.group)
        else:
            search.elements[space.name] = SignedPermutation.identity(space.size)


class _WideStep:
    """A pass's evidence for a space that reaches over parts, and the move that follows from it.

    What tensors gain that carry the space along two axes is known when it has moved, since each
    axis is counted with the other held.
    """

    def __init__(self, space: Space) -> None:
        self.space = space
        self._gains, self._twofold = Gains(space.size), Gains(space.size)
        self._twice: list[str] = []

    def add(self, search: Search, names: Sequence[str], tensors: Tensors) -> None:
        """Count what tensors of a part say."""
        for name in names:
            if sum(member.tensor == name for member in self.space.members) > 1:
                self._twice.append(name)
                search.add_gains(self._twofold, self.space, [name], tensors)
            else:
                search.add_gains(self._gains, self.space, [name], tensors)

    def move(self, search: Search, target: Read, source: Read) -> bool:
        """Choose the space's element anew, if the objective rises with it."""
        gains = self._gains.plus(self._twofold) if self._twice else self._gains
        name = self.space.name
        choice, known = gains.best(self.space.group), search.elements[name]
        search.found[name] = choice.match
        rise = self._gains.value(choice.element) - self._gains.value(known)
        for tensor in self._twice:
            tensors = Tensors.read((tensor,), target, source)
            rise -= search.objective((tensor,), tensors)
            search.elements[name] = choice.element
            rise += search.objective((tensor,), tensors)
            search.elements[name] = known
        if rise <= LEAST * gains.entries:
            return False
        search.elements[name] = choice.element
        search.moves.append((name, rise))
        return True


def _of(space: Space, kind: Kind, found: GaugeMatch | None) -> SpaceMatch:
    if found is None:  # nothing told anything
        nothing = np.zeros(space.size)
        return SpaceMatch(kind, space.group, nothing, nothing == 0, 0.0, 0.0)
    gap = found.assignment.gap
    return SpaceMatch(kind, space.group, found.margin, found.margin_exact, found.score, gap)
