"""The proof of gauge spaces: outputs stay what they are under every space, and not under more."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch

from bmatch.architecture.changed import first_changed
from bmatch.architecture.forward_runs import Run
from bmatch.architecture.spaces import Axes, Space
from bmatch.architecture.tiny import inputs_for
from bmatch.gauge import SignedPermutation

TOLERANCE = 1e-4
"""Largest difference of an output that rounding explains, in units of the largest output."""

LARGER = 1e-2
"""Least change of an output, as the largest, by which the next larger group shows."""


@dataclass(frozen=True)
class Proof:
    """What random gauges did to a model's outputs, each time the largest difference of one.

    Attributes
    ----------
    alone : dict of str to float
        Under one space at a time.
    together : float
        Under all spaces that were kept, one after another.
    larger : dict of str to float
        Under the next larger group: signs where there are none, signs apart where there is one
        for all, signed gains. Spaces of which no larger group is known are left out.
    """

    alone: Mapping[str, float]
    together: float
    larger: Mapping[str, float]


def prove(
    model: Any, axes: Axes, inputs: Mapping[str, Any] | None = None, *, seed: int = 0
) -> tuple[Axes, Proof]:
    """Prove the gauge spaces of a model on its outputs, and drop those that are refuted.

    Parameters
    ----------
    model : torch.nn.Module
        In float32 and in eval mode; left as it is.
    axes : Axes
    inputs : mapping, optional
        Arguments of the model. Default: random tokens.
    seed : int
        Of the gauges and of the tokens.

    Returns
    -------
    axes : Axes
        With the spaces that hold; `Axes.refuted` tells of the others.
    proof : Proof
    """
    run = Run(inputs_for(model, seed + 1) if inputs is None else inputs)
    return proved_in(model, axes, [run], seed)


def proved_in(
    model: Any,
    axes: Axes,
    runs: Sequence[Callable[[Any], list[torch.Tensor]]],
    seed: int = 0,
    *,
    known: Set[str] = frozenset(),
    tell: bool = False,
) -> tuple[Axes, Proof]:
    """As `prove`, on what several runs of a model give: each has to stay as it is.

    Of spaces that are `known` to have no larger group none is tried. Where asked to `tell`, a
    refuted space comes with the first operation that gives other numbers under it.
    """
    before = _outputs(model, runs)
    alone, kept, refuted = {}, [], list(axes.refuted)
    copied = copy.deepcopy(model)
    for k, space in enumerate(axes.spaces):
        moved = _outputs_under(copied, [(space, space.random(seed + k))], runs)
        alone[space.name] = _difference(before, moved)
        if alone[space.name] <= TOLERANCE:
            kept.append(space)
        else:
            cause = f"{space.name}: changes an output by {alone[space.name]:.1e} of the largest"
            move = partial(_moved, copied, [(space, space.random(seed + k))])
            if tell and (operation := first_changed(copied, runs, move)) is not None:
                cause += f"; the first operation that gives other numbers is {operation}"
            refuted.append(cause)
    elements = [(space, space.random(seed + 100 + k)) for k, space in enumerate(kept)]
    together = _difference(before, _outputs_under(copied, elements, runs))
    larger = {}
    for space in kept:
        more = _larger(space)
        if more is not None and space.name not in known:
            element = SignedPermutation.random(space.size, "signed_permutation", seed=seed)
            signs = SignedPermutation(np.arange(space.size), element.sign)
            larger[space.name] = _difference(before, _outputs_under(copied, [(more, signs)], runs))
    held = replace(axes, spaces=tuple(kept), refuted=tuple(refuted))
    return held, Proof(alone, together, larger)


def confirmed(
    model: Any,
    axes: Axes,
    runs: Sequence[Callable[[Any], list[torch.Tensor]]],
    seed: int,
    *,
    tell: bool = False,
) -> Axes:
    """Spaces that were proved, tried all at once where a model has other weights by now.

    One by one only where they change what it gives.
    """
    elements = [(space, space.random(seed + k)) for k, space in enumerate(axes.spaces)]
    before = _outputs(model, runs)
    if _difference(before, _outputs_under(model, elements, runs)) <= TOLERANCE:
        return axes
    return proved_in(model, axes, runs, seed, tell=tell)[0]


def require_repeatable(
    model: Any, runs: Sequence[Callable[[Any], list[torch.Tensor]]], drawn: Sequence[str]
) -> None:
    """Refuse a model that gives something else each time it is run.

    Raises
    ------
    ValueError
        With the operations that have `drawn` numbers at random.
    """
    change = _difference(_outputs(model, runs), _outputs(model, runs))
    if change > TOLERANCE:
        cause = f"draws numbers at random ({', '.join(drawn)})" if drawn else "changes as it runs"
        raise ValueError(
            f"this {type(model).__name__} {cause}: run twice on the same inputs it gives outputs "
            f"that differ by {change:.1e} of the largest, and nothing can be proved on them"
        )


def carried(model: Any, elements: Sequence[tuple[Space, SignedPermutation]]) -> Any:
    """A copy of a model under elements of some of its spaces, one after another."""
    moved = copy.deepcopy(model)
    _carry(_tensors(moved), elements)
    return moved


def _carry(
    tensors: Mapping[str, torch.Tensor], elements: Sequence[tuple[Space, SignedPermutation]]
) -> None:
    with torch.no_grad():
        for space, gauge in elements:
            for member in space.members:
                member.carry(tensors[member.tensor], gauge)


def _tensors(model: Any) -> dict[str, torch.Tensor]:
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def _outputs_under(
    model: Any,
    elements: Sequence[tuple[Space, SignedPermutation]],
    runs: Sequence[Callable[[Any], list[torch.Tensor]]],
) -> list[torch.Tensor]:
    """What a model gives under elements of some of its spaces; its tensors are put back.

    A copy of a model for each space takes longer than the runs do.
    """
    put_back = _moved(model, elements)
    after = _outputs(model, runs)
    put_back()
    return after


def _moved(model: Any, elements: Sequence[tuple[Space, SignedPermutation]]) -> Callable[[], None]:
    """Moves a model's tensors, and returns what puts them back."""
    tensors = _tensors(model)
    names = {member.tensor for space, _ in elements for member in space.members}
    before = {name: tensors[name].detach().clone() for name in names}
    _carry(tensors, elements)

    def put_back() -> None:
        with torch.no_grad():
            for name, kept in before.items():
                tensors[name].copy_(kept)

    return put_back


def _larger(space: Space) -> Space | None:
    """The space with more signs than it claims; None where every axis has them."""
    if space.group == "permutation_global_sign":
        return replace(space, group="signed_permutation")
    if all(all(member.odd) for member in space.members):
        return None
    every = space.group == "signed_permutation"
    signed = tuple(
        replace(m, odd=(every or k == 0,) * len(m.odd)) for k, m in enumerate(space.members)
    )
    return replace(space, group="signed_permutation", members=signed)


def _outputs(model: Any, runs: Sequence[Callable[[Any], list[torch.Tensor]]]) -> list[torch.Tensor]:
    return [out.double() for run in runs for out in run(model)]


def _difference(before: Sequence[torch.Tensor], after: Sequence[torch.Tensor]) -> float:
    worst = 0.0
    for one, other in zip(before, after, strict=True):
        finite = torch.isfinite(one)
        scale = float(one[finite].abs().max()) if finite.any() else 0.0
        if scale == 0.0 or not torch.isfinite(other[finite]).all():
            return float("inf")
        worst = max(worst, float((one - other)[finite].abs().max()) / scale)
    return worst
