"""The optimizer's state beside a sparse dictionary, which numbers tensors and names none.

A moment has the shape of its tensor. Where all of the dictionary's tensors of that shape move
alike, it is known how the moment moves, first ones with signs and second ones without; where not,
as with as many features as coordinates, it is refused. Whose: ``trainer_state.pt`` of SAELens 6.54,
``optimizer_0.pt`` of sparsify 1.3, and in one file with the dictionary what dictionary_learning
writes to go on from.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from bmatch.files.containers import Container
from bmatch.transport.objects import Along, Part

_GROUPS = re.compile(r"(?:.+/)?param_groups/\d+/")
_STATE = re.compile(r"(?:.+/)?state/\d+/(\w+)")
_MOMENTS = {
    "exp_avg": True,
    "momentum_buffer": True,
    "exp_avg_sq": False,
    "max_exp_avg_sq": False,
}
"""Whether signs move along."""


def is_optimizer(container: Container) -> bool:
    """Whether a file holds what ``state_dict()`` of an optimizer gives."""
    return any(_GROUPS.match(name) for name in (*container.rest, *container.shapes))


def part_of(container: Container, dictionaries: Iterable[Part]) -> Part:
    """How the tensors of such a file move, by those of the dictionaries beside it.

    Raises
    ------
    ValueError
        If it cannot be told of one of them.
    """
    by_shape: dict[tuple[int, ...], set[Along]] = {}
    for part in dictionaries:
        for name, shape in part.container.shapes.items():
            by_shape.setdefault(shape, set()).add(part.moves[name])
    return Part(
        container,
        {name: _move(container, name, by_shape) for name in container.shapes},
    )


def moment_moves(
    container: Container, names: Iterable[str], moves: Mapping[str, Along]
) -> dict[str, Along]:
    """How those of a file's tensors move that are beside its dictionary's, whose moves are given.

    Raises
    ------
    ValueError
        If it cannot be told of one of them.
    """
    by_shape: dict[tuple[int, ...], set[Along]] = {}
    for name, move in moves.items():
        by_shape.setdefault(container.shapes[name], set()).add(move)
    return {name: _move(container, name, by_shape) for name in names}


def _move(container: Container, name: str, by_shape: Mapping[tuple[int, ...], set[Along]]) -> Along:
    shape = container.shapes[name]
    if shape in ((), (1,)):  # steps, counts
        return Along()
    state = _STATE.fullmatch(name)
    moves = by_shape.get(shape, set())
    if len(moves) != 1:
        raise ValueError(
            f"{container.path} is the state of an optimizer beside a sparse dictionary, which "
            f"numbers tensors and names none, and {name} {list(shape)} has the shape of "
            + ("tensors that move differently" if moves else "none of them")
            + _OUT
        )
    (alike,) = moves
    if state is None:
        if alike.axes:
            raise ValueError(
                f"{container.path}: how {name} {list(shape)} moves with the stream is not known"
                + _OUT
            )
        return alike  # counts of features
    if state[1] not in _MOMENTS:
        raise ValueError(
            f"{container.path}: {name} is no moment of Adam or SGD, and how it moves is not known"
            + _OUT
        )
    signed = _MOMENTS[state[1]]
    return Along(tuple((axis, signs and signed) for axis, signs in alike.axes))


_OUT = ": take it out of the folder to carry the dictionary alone"
