"""Rules of operations that put entries elsewhere, or choose among them: labels go with them."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch

from bmatch.architecture.calls import Call, full, rule
from bmatch.architecture.constraints import CHOSEN, NONE, WILD, digest
from bmatch.architecture.forms import Ids
from bmatch.architecture.labels import compact, extent
from bmatch.architecture.merging import (
    contract_atoms,
    never_flips,
    pin,
    total,
)


def _repeat(call: Call, array: Ids, tensor: torch.Tensor, name: str = "self") -> torch.Tensor:
    """The operation itself, on an array of the label of its argument."""
    moved = {**call.arguments, name: full(array, tensor.shape)}
    found: torch.Tensor = call.function(**moved)
    return found


@rule(
    "flip",
    "roll",
    "repeat",
    "tile",
    "repeat_interleave",
    "slice_copy",
    "unfold_copy",
    "expand_copy",
)
def moved(call: Call) -> None:
    """All entries keep their labels."""
    tensor = call["self"]
    label = call.label(tensor)

    def run(array: Ids) -> Ids:
        return compact(_repeat(call, array, tensor).numpy())

    call.write([run(a) for a in label.atoms], [run(s) for s in label.signs])


@rule("tril", "triu")
def triangle(call: Call) -> None:
    """Zeros beyond the diagonal agree with all labels, and tell apart what lies along it."""
    label = call.label(call["self"])
    ndim = len(label.shape)
    for atoms in label.atoms:
        pin(call.constraints, atoms, (ndim - 2, ndim - 1))
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
    call.write([run(a, WILD) for a in label.atoms], [run(s, WILD if zero else NONE) for s in signs])


@rule("cat", "concatenate", "stack")
def joined(call: Call) -> None:
    """Components of the pieces go together by the axes on which they depend."""
    pieces = [piece for piece in call["tensors"] if piece.numel() or piece.ndim > 1]
    stacked = call.name == "stack"
    dim = (call["dim"] or 0) % call.out.ndim
    rows: list[list[Ids]] = []
    signs: list[Ids] = []
    slots: list[tuple[frozenset[int], int]] = []
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
            number = len(np.unique(atoms))
            alike = [s for s in left if slots[s][0] == axes]
            # One of as many atoms first: query heads go with query heads, not with their keys'.
            slot = next((s for s in alike if slots[s][1] == number), next(iter(alike), None))
            if slot is None:
                slot = len(slots)
                slots.append((axes, number))
                rows.append([np.full((1,) * len(shapes[j]), WILD) for j in range(k)])
            else:
                left.remove(slot)
            row[slot] = atoms
            if dim in extent(atoms):  # each piece may have a course of its own
                _colour_piece(call, atoms, k)
        for slot, held in enumerate(rows):
            held.append(row.get(slot, np.full((1,) * numbers.ndim, WILD)))
        zeros = np.where(numbers.numpy() == 0, WILD, NONE) if not label else None
        signs.append(total(call.constraints, label.signs, numbers.ndim) if zeros is None else zeros)

    def along(arrays: Iterable[Ids]) -> Ids:
        spread = [full(a, shape) for a, shape in zip(arrays, shapes, strict=True)]
        return compact(torch.cat(spread, dim).numpy())

    call.write([along(row) for row in rows], [along(signs)])


def _colour_piece(call: Call, atoms: Ids, piece: int) -> None:
    """What comes from different pieces of one axis is told apart."""
    met = np.unique(call.constraints.plain(atoms[atoms > 0]))
    call.constraints.colour(met, np.full(len(met), digest(b"piece", piece), np.uint64))


@rule("copy")
def copied(call: Call) -> None:
    """The label of what is copied, over axes that it may not have."""
    source = call.operand(call["src"], call["self"].ndim).label
    signs = source.signs
    if not source and not call.labels.is_blank(call["self"]):
        signs = ()
    call.write(source.atoms, signs)


def chosen_at(atoms: Ids) -> Ids:
    """Mark atoms as lying where the run has put them."""
    return np.where(atoms > 0, atoms | CHOSEN, atoms)


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
        if call.name in ("max", "min") and extent(component) > {dim}:  # of a set at each place
            blocks = contract_atoms(c, [component], [dim])
            found = blocks[0] if blocks else np.zeros((1,) * tensor.ndim, np.int64)
        elif extent(component) & {dim}:
            found = compact(chosen_at(full(component, tensor.shape).gather(dim, index).numpy()))
        atoms.append(found if kept else found.squeeze(dim))
    if kept and (count := indices.shape[dim]) > 1:  # places in their order, whatever lies there
        sizes = [count if k == dim else 1 for k in range(tensor.ndim)]
        atoms.append(c.new_places(count).reshape(sizes))
    call.write(atoms, (), outs[0])


@rule("nonzero", "unique", "_unique2", "unique_consecutive", "unique_dim", "bincount", "histc")
def places(call: Call) -> None:
    """Integers that the run found: how many there are of what, or where, it may heed."""
    c, label = call.constraints, call.label(call["self"])
    never_flips(c, label)
    for out in call.out if isinstance(call.out, (tuple, list)) else (call.out,):
        if isinstance(out, torch.Tensor):
            call.labels.mark_derived(out)
            if call.name != "nonzero":
                call.stay(out)
    if call.name == "nonzero":
        for atoms in label.atoms:
            c.fix(atoms[atoms & CHOSEN == 0])


@rule("_local_scalar_dense", "is_nonzero", "equal", "item")
def number(call: Call) -> None:
    """A number that the run goes on with: it may not flip, nor come from elsewhere."""
    c, label = call.constraints, call.label(call["self"])
    never_flips(c, label)
    for atoms in label.atoms:
        c.fix(atoms[atoms & CHOSEN == 0])


@rule(
    "fill",
    "zero",
    "zeros_like",
    "ones_like",
    "full_like",
    "empty_like",
    "new_zeros",
    "new_empty",
    "new_ones",
    "new_full",
    "randn_like",
    "rand_like",
)
def forgotten(call: Call) -> None:
    """Numbers that no parameter moves."""
    call.write((), ())
