"""Rules of operations that put entries elsewhere: labels go with them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch

from bmatch.architecture.calls import Call, full, rule
from bmatch.architecture.constraints import CHOSEN, NONE, WILD, Ids
from bmatch.architecture.labels import Label, compact, extent
from bmatch.architecture.merging import (
    Operand,
    agree,
    contract_atoms,
    meet,
    never_flips,
    pin,
    total,
)


def _repeat(call: Call, array: Ids, tensor: torch.Tensor, name: str = "self") -> torch.Tensor:
    """The operation itself, on an array of the label of its argument."""
    moved = {**call.arguments, name: full(array, tensor.shape)}
    found: torch.Tensor = call.function(**moved)
    return found


@rule("flip", "roll", "repeat", "tile", "repeat_interleave", "slice_copy", "unfold_copy", "expand_copy")
def moved(call: Call) -> None:
    """All entries keep their labels."""
    tensor = call["self"]
    label = call.label(tensor)

    def run(array: Ids) -> Ids:
        return compact(_repeat(call, array, tensor).numpy())

    call.write([run(a) for a in label.atoms], [run(s) for s in label.signs])


@rule("tril", "triu")
def triangle(call: Call) -> None:
    """Zeros beyond the diagonal agree with all labels: the label stays."""
    label = call.label(call["self"])
    call.write(label.atoms, label.signs)


@rule("constant_pad_nd")
def padded(call: Call) -> None:
    """Entries around the others: zeros agree with all labels."""
    tensor, zero = call["self"], call["value"] in (0, None, False)
    label = call.label(tensor)

    def run(array: Ids, rest: int) -> Ids:
        around = torch.nn.functional.pad(full(array, tensor.shape), call["pad"], value=rest)
        return compact(around.numpy())

    signs = label.signs if zero else (total(call.constraints, label.signs, tensor.ndim),)
    call.write(
        [run(a, WILD) for a in label.atoms], [run(s, WILD if zero else NONE) for s in signs]
    )


@rule("cat", "concatenate", "stack")
def joined(call: Call) -> None:
    """Components of the pieces go together by the axes on which they depend."""
    pieces = [piece for piece in call["tensors"] if piece.numel() or piece.ndim > 1]
    stacked = call.name == "stack"
    dim = (call["dim"] or 0) % call.out.ndim
    rows: list[list[Ids]] = []
    signs: list[Ids] = []
    slots: list[frozenset[int]] = []
    shapes = []
    for k, piece in enumerate(pieces):
        label, numbers = call.label(piece), call.values(piece)
        if stacked:
            place = [axis + (axis >= dim) for axis in range(piece.ndim)]
            shape = (*piece.shape[:dim], 1, *piece.shape[dim:])
            label, numbers = label.reshaped(shape, place), numbers.unsqueeze(dim)
        shapes.append(tuple(numbers.shape))
        left = list(range(len(slots)))
        row: dict[int, Ids] = {}
        for atoms in sorted(label.atoms, key=lambda a: -len(extent(a))):
            axes = extent(atoms) - {dim}
            slot = next((s for s in left if slots[s] == axes), None)
            if slot is None:
                slot = len(slots)
                slots.append(axes)
                rows.append([np.full((1,) * len(shapes[j]), WILD) for j in range(k)])
            else:
                left.remove(slot)
            row[slot] = atoms
        for slot, held in enumerate(rows):
            held.append(row.get(slot, np.full((1,) * numbers.ndim, WILD)))
        zeros = np.where(numbers.numpy() == 0, WILD, NONE) if not label else None
        signs.append(total(call.constraints, label.signs, numbers.ndim) if zeros is None else zeros)

    def along(arrays: Iterable[Ids]) -> Ids:
        spread = [full(a, shape) for a, shape in zip(arrays, shapes, strict=True)]
        return compact(torch.cat(spread, dim).numpy())

    call.write([along(row) for row in rows], [along(signs)])


# Indices


def _chosen(atoms: Ids) -> Ids:
    return np.where(atoms > 0, atoms | CHOSEN, atoms)


def _behind(targets: Ids, index: torch.Tensor) -> Ids:
    """The atoms behind the values of an index; WILD for values that stand for none."""
    values = index.numpy().astype(np.int64)
    known = (values >= 0) & (values < len(targets))
    return np.where(known, targets[np.clip(values, 0, len(targets) - 1)], WILD)


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
    given = {
        axis
        for axis, index in axes.items()
        if not (call.labels.is_derived(index) or index.numel() == 1)
    }
    atoms = []
    for component in label.atoms:
        pin(c, component, given)
        found = compact(run(full(component, tensor.shape)).numpy())
        if extent(component) & given:
            continue
        if extent(component) & set(axes) and extent(found):
            found = _chosen(found)
        atoms.append(found)
    signs = []
    for part in label.signs:
        if extent(part) & given:
            c.equate(part, np.zeros((1,) * part.ndim, np.int64))
        else:
            signs.append(compact(run(full(part, tensor.shape)).numpy()))
    if behind:
        shape = tuple(call.out.shape)
        others = [Operand(Label(shape, (compact(_chosen(b)),)), torch.zeros(())) for b in behind]
        mine = Operand(Label(shape, tuple(atoms)), torch.zeros(()))
        atoms = list(meet(c, [mine, *others]))
    call.write(atoms, signs)


@rule("index", "_unsafe_index")
def indexed(call: Call) -> None:
    """Indices on some axes; masks are taken as the indices that they stand for."""
    tensor = call["self"]
    axes: dict[int, torch.Tensor] = {}
    behind = []
    dim = 0
    tensors = [index for index in call["indices"] if index is not None]
    for index in call["indices"]:
        if index is None:
            dim += 1
        elif index.dtype in (torch.bool, torch.uint8):
            axes.update(dict.fromkeys(range(dim, dim + index.ndim), index))
            if call.label(index):
                call.labels.mark_derived(index)
            dim += index.ndim
        else:
            axes[dim] = index
            targets = call.labels.targets(index)
            if targets is not None and len(tensors) == 1:
                after = call.out.ndim - dim - index.ndim
                found = _behind(targets, index)
                behind.append(found.reshape((1,) * dim + tuple(index.shape) + (1,) * after))
            dim += 1
    _gathered(call, tensor, axes, lambda array: array[_python_index(call)], behind)


def _python_index(call: Call) -> tuple[Any, ...]:
    return tuple(slice(None) if index is None else index for index in call["indices"])


@rule("embedding")
def embedding(call: Call) -> None:
    """Rows at indices."""
    index = call["indices"]
    targets = call.labels.targets(index)
    behind = [] if targets is None else [_behind(targets, index)[..., None]]
    _gathered(call, call["weight"], {0: index}, lambda array: array[index], behind)


@rule("gather", "take_along_dim")
def gathered(call: Call) -> None:
    """Entries at indices along one axis."""
    tensor, index, dim = call["self"], call["index"], call["dim"] % max(call["self"].ndim, 1)
    targets = call.labels.targets(index)
    behind = [] if targets is None else [_behind(targets, index)]
    _gathered(call, tensor, {dim: index}, lambda array: array.gather(dim, index), behind)


@rule("index_select")
def selected(call: Call) -> None:
    """Slices at indices along one axis."""
    tensor, index, dim = call["self"], call["index"], call["dim"] % max(call["self"].ndim, 1)
    _gathered(call, tensor, {dim: index}, lambda array: array.index_select(dim, index))


def _scattered(
    call: Call,
    axes: dict[int, torch.Tensor],
    source: Any,
    run: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    *,
    added: bool,
    behind: Sequence[Ids] = (),
) -> None:
    """Write a source at the places that indices name, onto what is there or in its place.

    Parameters
    ----------
    run : callable
        Puts an array of the source's label into one of the target's shape.
    """
    c, target = call.constraints, call["self"]
    source = source if isinstance(source, torch.Tensor) else torch.as_tensor(source)
    label, shape = call.label(source), tuple(target.shape)
    given = {axis for axis, index in axes.items() if not call.labels.is_derived(index)}
    here = call.operand(target)
    for component in here.label.atoms:
        pin(c, component, given)

    def placed(array: Ids, rest: int) -> Ids:
        there = torch.full(shape, rest, dtype=torch.int64)
        return compact(run(there, full(array, source.shape)).numpy())

    numbers = call.values(source)
    form = total(c, label.signs, source.ndim) if label else np.where(numbers.numpy() == 0, WILD, NONE)
    atoms = [placed(a, WILD) for a in label.atoms if extent(a)]
    there = Operand(Label(shape, tuple(atoms), (placed(form, WILD),)), torch.zeros(()))
    others = [Operand(Label(shape, (compact(b),)), torch.zeros(())) for b in behind]
    met = meet(c, [*others, here, there], points=False)
    if added:
        signs = agree(c, [here, there])
    else:
        old = total(c, here.label.signs, len(shape)) if here.label else np.where(
            here.tensor.numpy() == 0, WILD, NONE
        )
        hit = placed(np.zeros((1,) * source.ndim, np.int64), WILD) == 0
        signs = (compact(np.where(hit, there.label.signs[0], old)),)
    call.write(met, signs)


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

    def run(there: torch.Tensor, array: torch.Tensor) -> torch.Tensor:
        spread = array[cut] if whole is not None else array.expand(index.shape)
        return there.scatter(dim, index, spread)

    added = call.name != "scatter" or call["reduce"] is not None
    behind = _along(call, dim, index)
    _scattered(call, {dim: index}, source, run, added=added, behind=behind)


@rule("index_add", "index_copy")
def rows_at(call: Call) -> None:
    """Slices go to indices along one axis."""
    index, dim = call["index"], call["dim"] % max(call["self"].ndim, 1)

    def run(there: torch.Tensor, array: torch.Tensor) -> torch.Tensor:
        return there.index_copy(dim, index, array)

    added = call.name == "index_add"
    behind = _along(call, dim, index)
    _scattered(call, {dim: index}, call["source"], run, added=added, behind=behind)


@rule("index_put", "_index_put_impl", "_unsafe_index_put")
def put(call: Call) -> None:
    """Entries go to indices along some axes."""
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

    def run(there: torch.Tensor, array: torch.Tensor) -> torch.Tensor:
        there[place] = array
        return there

    _scattered(call, axes, call["values"], run, added=bool(call["accumulate"]))


@rule("copy")
def copied(call: Call) -> None:
    """The label of what is copied, over axes that it may not have."""
    source = call.operand(call["src"], call["self"].ndim).label
    signs = source.signs
    if not source and not call.labels.is_blank(call["self"]):
        signs = ()
    call.write(source.atoms, signs)


@rule("masked_scatter")
def masked_scattered(call: Call) -> None:
    """Entries of the source in their order, where the mask is set."""
    place = call["mask"].expand(call["self"].shape)
    index = place.nonzero()
    axes = dict.fromkeys(range(place.ndim), index)
    if call.label(call["mask"]):
        call.labels.mark_derived(index)

    def run(there: torch.Tensor, array: torch.Tensor) -> torch.Tensor:
        return there.masked_scatter(place, array)

    _scattered(call, axes, call["source"], run, added=False)


# Choices


@rule("topk", "sort", "argsort", "argmax", "argmin", "max", "min", "kthvalue")
def chosen(call: Call) -> None:
    """Some of the entries along an axis, and where they were; none may flip."""
    c, tensor = call.constraints, call["self"]
    label = call.label(tensor)
    never_flips(c, label)
    if call["dim"] is None and call.name in ("max", "min", "argmax", "argmin"):
        contract_atoms(c, label.atoms, range(tensor.ndim))
        return
    dim = (-1 if call["dim"] is None else call["dim"]) % max(tensor.ndim, 1)
    outs = (call.out,) if isinstance(call.out, torch.Tensor) else tuple(call.out)
    indices = outs[-1]
    call.labels.mark_derived(indices)
    for component in label.atoms:
        if extent(component) == {dim}:
            call.labels.set_targets(indices, component.ravel())
    if len(outs) == 1:
        return
    kept = indices.ndim == tensor.ndim
    index = indices if kept else indices.unsqueeze(dim)
    atoms = []
    for component in label.atoms:
        found = component
        if extent(component) & {dim}:
            found = compact(_chosen(full(component, tensor.shape).gather(dim, index).numpy()))
        atoms.append(found if kept else found.squeeze(dim))
    call.write(atoms, (), outs[0])


@rule("nonzero", "unique", "_unique2", "unique_consecutive", "unique_dim", "bincount", "histc")
def places(call: Call) -> None:
    """Integers that the run found."""
    for out in call.out if isinstance(call.out, (tuple, list)) else (call.out,):
        if isinstance(out, torch.Tensor):
            call.labels.mark_derived(out)


@rule("_local_scalar_dense", "is_nonzero", "equal", "item")
def number(call: Call) -> None:
    """A number that the run goes on with: it may not flip."""
    never_flips(call.constraints, call.label(call["self"]))


@rule("fill", "zero", "zeros_like", "ones_like", "full_like", "empty_like", "new_zeros", "new_empty",
      "new_ones", "new_full", "randn_like", "rand_like")
def forgotten(call: Call) -> None:
    """Numbers that no parameter moves."""
    call.write((), ())
