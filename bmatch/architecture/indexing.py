"""Rules of reading and writing at indices.

An index that the caller gave pins the atoms that it picks among. One that the run itself chose
among labelled entries, as routers choose experts, names atoms.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from bmatch.architecture.calls import Call, NoRule, full, rule
from bmatch.architecture.constraints import CHOSEN, NONE, WILD
from bmatch.architecture.forms import Ids
from bmatch.architecture.labels import Label, compact, extent
from bmatch.architecture.merging import Operand, agree, meet, never_flips, pin, total
from bmatch.architecture.movement import chosen_at


def _behind(targets: Ids, index: torch.Tensor) -> Ids:
    """The atoms behind the values of an index; WILD for values that stand for none."""
    values = index.numpy().astype(np.int64)
    known = (values >= 0) & (values < len(targets))
    return np.where(known, targets[np.clip(values, 0, len(targets) - 1)], WILD)


def _told(call: Call, index: torch.Tensor) -> list[Ids]:
    """Atoms in the axes of an index: behind its values, and of what it was computed from."""
    label, targets = call.label(index), call.labels.targets(index)
    never_flips(call.constraints, label)
    chosen = [] if targets is None else [chosen_at(_behind(targets, index))]
    return [*chosen, *(np.broadcast_to(atoms, tuple(index.shape)) for atoms in label.atoms)]


def _fixed(call: Call, index: torch.Tensor) -> list[Ids]:
    """What an index was computed from stays where it is, and tells nothing more."""
    label = call.label(index)
    never_flips(call.constraints, label)
    for atoms in label.atoms:
        call.constraints.fix(atoms[atoms & CHOSEN == 0])
    return []


def _gathered(
    call: Call,
    tensor: torch.Tensor,
    axes: dict[int, torch.Tensor],
    run: Callable[[torch.Tensor], torch.Tensor],
    behind: Sequence[Ids] = (),
) -> None:
    """Read entries at the places that indices name.

    Parameters
    ----------
    axes : dict
        The indexed axes and their indices.
    run : callable
        The operation on an array of the label.
    behind : sequence of arrays
        Atoms that the values of indices stand for, in the axes of the result.
    """
    c, label = call.constraints, call.label(tensor)
    for index in axes.values():
        never_flips(c, call.label(index))
    found_by_run = {axis for axis, index in axes.items() if call.labels.is_derived(index)}
    given = {axis for axis in axes.keys() - found_by_run if axes[axis].numel() != 1}
    atoms = []
    for component in label.atoms:
        pin(c, component, given)
        found = compact(run(full(component, tensor.shape)).numpy())
        if extent(component) & given:
            continue
        if extent(component) & found_by_run and extent(found):
            if c.are_places(component):  # which of them came where is the run's choice
                continue
            found = chosen_at(found)
        atoms.append(found)
    signs = [compact(run(full(part, tensor.shape)).numpy()) for part in label.signs]
    if behind:
        shape = tuple(call.out.shape)
        others = [Operand(Label(shape, (compact(b),)), torch.zeros(())) for b in behind]
        mine = Operand(Label(shape, tuple(atoms)), torch.zeros(()))
        atoms = list(meet(c, [mine, *others]))
    call.write(atoms, signs)


@rule("index", "_unsafe_index")
def indexed(call: Call) -> None:
    """Indices on some axes; masks are taken as the indices that they stand for.

    An axis along which a mask is alike is taken whole.
    """
    tensor = call["self"]
    axes: dict[int, torch.Tensor] = {}
    behind = []
    dim = 0
    tensors = [index for index in call["indices"] if index is not None]
    for index in call["indices"]:
        if index is None:
            dim += 1
        elif index.dtype in (torch.bool, torch.uint8):
            picked = [k for k in range(index.ndim) if (index != index.narrow(k, 0, 1)).any()]
            axes.update({dim + k: index for k in picked})
            if call.label(index):
                call.labels.mark_derived(index)
            dim += index.ndim
        else:
            axes[dim] = index
            found = _told(call, index) if len(tensors) == 1 else _fixed(call, index)
            after = call.out.ndim - dim - index.ndim
            behind += [a.reshape((1,) * dim + a.shape + (1,) * after) for a in found]
            dim += 1
    _gathered(call, tensor, axes, lambda array: array[_python_index(call)], behind)


def _python_index(call: Call) -> tuple[Any, ...]:
    return tuple(slice(None) if index is None else index for index in call["indices"])


@rule("embedding")
def embedding(call: Call) -> None:
    """Rows at indices."""
    index = call["indices"]
    behind = [atoms[..., None] for atoms in _told(call, index)]
    _gathered(call, call["weight"], {0: index}, lambda array: array[index], behind)


@rule("_embedding_bag", "_embedding_bag_forward_only")
def bags(call: Call) -> None:
    """Sums of rows at indices: all rows that are taken carry the same along their columns.

    Raises
    ------
    NoRule
        For the largest entries of rows, weights that are computed, and indices that the run chose.
    """
    c, table, index = call.constraints, call["weight"], call["indices"]
    weights = call["per_sample_weights"]
    if call["mode"] == 2 or (weights is not None and call.label(weights)):
        raise NoRule(call.name)
    if call.labels.is_derived(index) or call.label(index):
        raise NoRule(call.name)
    label, rows = call.label(table), index.numpy().ravel()
    atoms = []
    for component in label.atoms:
        pin(c, component, {0})
        if 1 in extent(component):
            taken = c.plain(np.broadcast_to(component, table.shape)[rows])
            one, other = np.broadcast_arrays(taken[:1], taken)
            met = (one > 0) & (other > 0)
            c.union(one[met], other[met])
            atoms.append(taken[:1])
    signs = np.broadcast_to(total(c, label.signs, 2), table.shape)[rows]
    c.equate(signs[:1], signs)
    call.write(atoms, (signs[:1],), call.out[0])


@rule("gather", "take_along_dim")
def gathered(call: Call) -> None:
    """Entries at indices along one axis."""
    tensor, index, dim = call["self"], call["index"], call["dim"] % max(call["self"].ndim, 1)
    behind = _told(call, index)
    _gathered(call, tensor, {dim: index}, lambda array: array.gather(dim, index), behind)


@rule("index_select")
def selected(call: Call) -> None:
    """Slices at indices along one axis."""
    tensor, index, dim = call["self"], call["index"], call["dim"] % max(call["self"].ndim, 1)
    _fixed(call, index)
    _gathered(call, tensor, {dim: index}, lambda array: array.index_select(dim, index))


def _scattered(
    call: Call,
    axes: dict[int, torch.Tensor],
    source: Any,
    runs: Sequence[Callable[[torch.Tensor, torch.Tensor], torch.Tensor]],
    *,
    added: bool,
    behind: Sequence[Ids] = (),
) -> None:
    """Write a source at the places that indices name, onto what is there or in its place.

    Parameters
    ----------
    runs : sequence of callables
        Each puts an array of the source's label into one of the target's shape: one, or of what is
        added several, none of which puts two entries at one place.
    """
    c, target = call.constraints, call["self"]
    for index in axes.values():
        if index.dtype != torch.bool:
            _fixed(call, index)
    source = source if isinstance(source, torch.Tensor) else torch.as_tensor(source)
    label, shape = call.label(source), tuple(target.shape)
    given = {axis for axis, index in axes.items() if not call.labels.is_derived(index)}
    here = call.operand(target)
    for component in here.label.atoms:
        pin(c, component, given)

    def placed(array: Ids, run: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> Ids:
        there = torch.full(shape, WILD, dtype=torch.int64)
        return compact(run(there, full(array, source.shape)).numpy())

    numbers = call.values(source)
    form = (
        total(c, label.signs, source.ndim) if label else np.where(numbers.numpy() == 0, WILD, NONE)
    )
    shares = []
    for run in runs:
        atoms = [placed(a, run) for a in label.atoms if extent(a)]
        share = Label(shape, tuple(atoms), (placed(form, run),))
        shares.append(Operand(share, torch.zeros(())))
    others = [Operand(Label(shape, (compact(b),)), torch.zeros(())) for b in behind]
    met = meet(c, [*others, here, *shares], points=False)
    if added:
        signs = agree(c, [here, *shares])
    else:
        old = (
            total(c, here.label.signs, len(shape))
            if here.label
            else np.where(here.tensor.numpy() == 0, WILD, NONE)
        )
        untouched = torch.zeros(shape, dtype=torch.int64)
        hit = runs[0](untouched, torch.ones(source.shape, dtype=torch.int64)).numpy() == 1
        signs = (compact(np.where(hit, shares[0].label.signs[0], old)),)
    call.write(met, signs)


def _turns(index: torch.Tensor, dim: int) -> Ids:
    """How many entries before each along an axis have the same index."""
    along = np.moveaxis(index.numpy(), dim, -1)
    same = along[..., :, None] == along[..., None, :]
    return np.moveaxis(np.tril(same, -1).sum(-1), -1, dim)


def _along(call: Call, dim: int, index: torch.Tensor) -> list[Ids]:
    """The atoms that an index stands for, along the axis that it indexes."""
    targets = call.labels.targets(index)
    if targets is None:
        return []
    size = call["self"].shape[dim]
    known = np.full(size, WILD)
    known[: min(size, len(targets))] = targets[:size]
    sizes = [size if k == dim else 1 for k in range(call["self"].ndim)]
    return [known.reshape(sizes)]


@rule("scatter", "scatter_add", "scatter_reduce")
def scattered(call: Call) -> None:
    """Entries go to indices along one axis."""
    index, dim = call["index"], call["dim"] % max(call["self"].ndim, 1)
    source = next(call[name] for name in ("src", "value") if call[name] is not None)
    whole = source if isinstance(source, torch.Tensor) and source.ndim else None
    cut = tuple(slice(0, size) for size in index.shape)

    added = call.name != "scatter" or call["reduce"] is not None
    turns = _turns(index, dim) if added else np.zeros(tuple(index.shape), np.int64)
    size = call["self"].shape[dim]

    def run(there: torch.Tensor, array: torch.Tensor, turn: int) -> torch.Tensor:
        spread = array[cut] if whole is not None else array.expand(index.shape)
        beyond = torch.cat([there, there.narrow(dim, 0, 1)], dim)  # for entries of other turns
        place = torch.where(torch.from_numpy(turns == turn), index, size)
        return beyond.scatter(dim, place, spread).narrow(dim, 0, size)

    runs = [partial(run, turn=turn) for turn in range(int(turns.max(initial=0)) + 1)]
    behind = _along(call, dim, index)
    _scattered(call, {dim: index}, source, runs, added=added, behind=behind)


@rule("index_add", "index_copy")
def rows_at(call: Call) -> None:
    """Slices go to indices along one axis."""
    index, dim = call["index"], call["dim"] % max(call["self"].ndim, 1)

    added = call.name == "index_add"
    turns = _turns(index, 0) if added else np.zeros(tuple(index.shape), np.int64)

    def run(there: torch.Tensor, array: torch.Tensor, turn: int) -> torch.Tensor:
        rows = torch.from_numpy(np.flatnonzero(turns == turn))
        return there.index_copy(dim, index[rows], array.index_select(dim, rows))

    runs = [partial(run, turn=turn) for turn in range(int(turns.max(initial=0)) + 1)]
    behind = _along(call, dim, index)
    _scattered(call, {dim: index}, call["source"], runs, added=added, behind=behind)


@rule("index_put", "_index_put_impl", "_unsafe_index_put")
def put(call: Call) -> None:
    """Entries go to indices along some axes.

    Raises
    ------
    NoRule
        For several that are added at one place.
    """
    axes: dict[int, torch.Tensor] = {}
    dim = 0
    for index in call["indices"]:
        width = index.ndim if index is not None and index.dtype == torch.bool else 1
        if index is not None:
            if call.label(index):
                call.labels.mark_derived(index)
            axes.update(dict.fromkeys(range(dim, dim + width), index))
        dim += width
    place = _python_index(call)
    if call["accumulate"]:
        once = torch.zeros(call["self"].shape, dtype=torch.int64)
        ones = torch.ones_like(once[place])
        if int(call.function(once, call["indices"], ones, True).max()) > 1:
            raise NoRule(call.name)

    def run(there: torch.Tensor, array: torch.Tensor) -> torch.Tensor:
        there[place] = array
        return there

    _scattered(call, axes, call["values"], [run], added=bool(call["accumulate"]))


@rule("masked_scatter")
def masked_scattered(call: Call) -> None:
    """Entries of the source in their order, where the mask is set: whole rows keep theirs."""
    place = call["mask"].expand(call["self"].shape)
    index = place.nonzero()
    source, ndim = call["source"], place.ndim
    rows = ndim  # axes from here on are those of the source's rows
    while rows > 1 and source.shape[rows - ndim - 1 :] == place.shape[rows - 1 :]:
        if not (place == place.narrow(rows - 1, 0, 1)).all():
            break
        rows -= 1
    axes = dict.fromkeys(range(rows), index)
    if call.label(call["mask"]):
        call.labels.mark_derived(index)

    def run(there: torch.Tensor, array: torch.Tensor) -> torch.Tensor:
        return there.masked_scatter(place, array)

    _scattered(call, axes, call["source"], [run], added=False)
