"""How many units a space has, and how long pieces of axes are, as expressions of a config's fields.

Told by models with fields that are doubled: where there are twice as many units, or longer pieces.
"""

from __future__ import annotations

import itertools
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from bmatch.architecture.describing import Carried, Split, carried_by, stretches_of
from bmatch.architecture.expressions import evaluate, fields_of
from bmatch.architecture.measuring import Measured
from bmatch.architecture.proof import Proof
from bmatch.architecture.spaces import Axes, Space

Derived: TypeAlias = Callable[[Mapping[str, Any]], tuple[Any, Axes, Proof]]
"""From changed fields of a small config to its model, the spaces, and their proof."""


class Counted:
    """Counts of a small model with changed fields.

    Parameters
    ----------
    derived : callable
    measured : Measured
        Of the model.
    split : callable
        From names to templates.
    changes : mapping
        That lead to the model.
    known : dict
        What was found, by kind of space: kept from call to call.
    """

    def __init__(
        self,
        derived: Derived,
        measured: Measured,
        split: Split,
        changes: Mapping[str, Any],
        known: dict[Any, str | None],
    ) -> None:
        self._derived, self._measured, self._split = derived, measured, split
        self._changes, self._known = changes, known

    def units(self, space: Space, members: Sequence[Carried]) -> str | None:
        """How the number of a space's units is written; None if no field tells it."""
        measured = self._measured
        shapes = measured.shapes({}) or {}
        for template, place, _, odd in members:
            found = measured.length(template, place)
            shape = next(s for n, s in shapes.items() if self._split(n)[0] == template)
            if found and len(odd) == 1 and shape[place] == space.size:
                return None if found.isdigit() else found
        key = space.group, tuple(members)  # a count in one small config is one in all
        if key not in self._known:
            self._known[key] = self._counting(space, members)
        return self._known[key]

    def _counting(self, space: Space, members: Sequence[Carried]) -> str | None:
        """The field that counts blocks: where it is doubled there are twice as many.

        Alone, or with another of its value that has to be equal: heads with a key for each query.
        """
        fields = [
            field
            for field, value in self._measured.fields.items()
            if value == space.size and field not in self._measured.lists.values()
        ]
        alone = [field for field in fields if self._doubles((field,), space, members)]
        if alone:
            return alone[0] if len(alone) == 1 else None
        for pair in itertools.combinations(fields, 2):
            if self._doubles(pair, space, members):
                return pair[0]
        return None

    def _doubles(self, fields: Sequence[str], space: Space, members: Sequence[Carried]) -> bool:
        """Whether a space has twice as many units where some fields are doubled."""
        more = {**self._changes, **dict.fromkeys(fields, 2 * space.size)}
        try:
            model, axes, _ = self._derived(more)
        except Exception:  # of whatever kind a class raises
            return False
        shapes = _shapes(model)
        for other in axes.spaces:
            carried = carried_by(other, shapes, self._split)
            if other.group == space.group and carried == tuple(members):
                return other.size == 2 * space.size
        return False

    def pieces(self, template: str, axis: int, numbers: Sequence[int]) -> list[str] | None:
        """The terms of an axis' length that its pieces are, where each field of them is doubled.

        Parameters
        ----------
        template : str
        axis : int
        numbers : sequence of int
            The pieces' lengths in this model.
        """
        expression = self._measured.length(template, axis)
        if expression is None or "-" in expression:
            return None
        base = self._stretches(self._changes, template, axis)
        ends = list(itertools.accumulate(numbers))
        homes = [bisect_left(ends, end) for end in itertools.accumulate(base)]
        orders = itertools.permutations(expression.split("+"))
        found = [list(terms) for terms in orders if len(terms) == len(numbers)]
        for field in (None, *sorted(fields_of(expression))):
            more = {} if field is None else {field: 2 * self._measured.fields[field]}
            try:
                stretches = self._stretches({**self._changes, **more}, template, axis)
            except Exception:  # of whatever kind a class raises
                continue
            if len(stretches) != len(base):
                continue
            lengths = [0] * len(numbers)
            for home, length in zip(homes, stretches, strict=True):
                lengths[home] += length
            fields = {**self._measured.fields, **more}
            found = [terms for terms in found if [evaluate(t, fields) for t in terms] == lengths]
        return found[0] if len(found) == 1 else None

    def _stretches(self, changes: Mapping[str, Any], template: str, axis: int) -> list[int]:
        """Lengths of the stretches of an axis that a space fills, and of those beside them."""
        model, axes, _ = self._derived(changes)
        shapes = _shapes(model)
        for space in axes.spaces:
            for member in space.members:
                if (self._split(member.tensor)[0], member.axis) == (template, axis):
                    length = shapes[member.tensor][axis]
                    return [n for n, _ in stretches_of(member, space.size, length) or ()]
        return []


def _shapes(model: Any) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
