"""What operations do to labels: entries that meet, and axes that are summed over.

All arrays of a call live in one index space: they have one number of axes, and size 1 along those
on which they do not depend.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from functools import reduce as fold

import numpy as np
import numpy.typing as npt
import torch

from bmatch.architecture.constraints import CHOSEN, WILD, Constraints, digest, pairs_of
from bmatch.architecture.forms import Ids
from bmatch.architecture.labels import Label, compact, extent

Values = npt.NDArray[np.float64]
_ENDLESS = 1e8  # what is larger stands for infinity, as in masks
_RESOLUTION = 1e-5  # of the largest number: what differs by less was rounded apart


@dataclass(frozen=True)
class Operand:
    """A tensor as an operation meets it: its label and its numbers, in the index space."""

    label: Label
    tensor: torch.Tensor

    @cached_property
    def values(self) -> Values:
        """The numbers in units of the resolution, with size 1 along axes where they are equal."""
        if self.tensor.is_complex():
            return np.asarray(self.tensor.resolve_conj().numpy())
        found = np.asarray(self.tensor.to(torch.float64).numpy())
        finite = np.where(np.abs(found) < _ENDLESS, found, 0.0)  # NaN is below nothing
        unit = float(np.abs(finite).max(initial=0.0)) * _RESOLUTION or 1.0
        for axis, size in enumerate(found.shape):
            if size > 1:
                first = found[(slice(None),) * axis + (slice(0, 1),)]
                with np.errstate(invalid="ignore"):
                    near = (found == first) | (np.abs(found - first) <= unit)
                if near.all():
                    found = first
        return np.asarray(np.round(found / unit) + 0.0)


def shape_of(operands: Iterable[Operand]) -> tuple[int, ...]:
    """The index space of some operands."""
    return np.broadcast_shapes(*(operand.label.shape for operand in operands))


# Atoms


def meet(c: Constraints, operands: Sequence[Operand], *, points: bool = True) -> tuple[Ids, ...]:
    """The components of what is computed entry by entry.

    Parameters
    ----------
    c : Constraints
    operands : sequence of Operand
    points : bool
        Whether components without extent (the share of one expert) meet too. In a sum they do
        not: it has no order.
    """
    for one in operands:
        for other in operands:
            if one is not other:
                _meet_values(c, one, other)
    found: list[Ids] = []
    for operand in operands:
        atoms = [a for a in operand.label.atoms if extent(a) or (points and not c.are_places(a))]
        # All relations first: a component may go when a finer one has told all that it knew.
        outcomes = [[_relate(c, old, new) for old in found] for new in atoms]
        gone = {
            k
            for k, old in enumerate(found)
            if any(row[k] == "finer" and extent(old) for row in outcomes)
        }
        kept = [
            new
            for new, row in zip(atoms, outcomes, strict=True)
            if not any(outcome in ("same", "coarser") for outcome in row)
        ]
        found = [old for k, old in enumerate(found) if k not in gone] + kept
    return tuple(found)


def meet_terms(c: Constraints, operands: Sequence[Operand]) -> tuple[Ids, ...]:
    """The components of a sum of operands, or of a comparison, entry by entry."""
    labelled = [operand.label for operand in operands if operand.label]
    if len(labelled) == 1:  # beside numbers that move with nothing
        return meet(c, operands)
    return (*meet(c, operands, points=False), *_same_share(c, operands))


def _same_share(c: Constraints, operands: Sequence[Operand]) -> tuple[Ids, ...]:
    """Components without extent that all labelled terms of a sum have: one expert's, and its bias.

    They are told by their place. Shares of several experts have none in common, and lose theirs.
    """
    points = [
        [c.plain(a) for a in operand.label.atoms if not extent(a) and (a > 0).any()]
        for operand in operands
        if operand.label
    ]
    if len(points) < 2 or not all(points):
        return ()
    first, *others = points
    kept = []
    for atom in first:
        found = [next((b for b in more if c.is_beside(atom, b)), None) for more in others]
        if all(b is not None for b in found):
            for b in found:
                c.union(atom.ravel(), b.ravel())  # type: ignore[union-attr]
            kept.append(atom)
    return tuple(kept)


def _relate(c: Constraints, old: Ids, new: Ids) -> str:
    """Tie two components where they meet; whether the new one is the same, finer or coarser."""
    common = extent(old) & extent(new)
    if not common and (extent(old) or extent(new)):
        return "apart"
    a, b = np.broadcast_arrays(c.find(old), c.find(new))
    old, new = c.plain(np.broadcast_to(old, a.shape)), c.plain(np.broadcast_to(new, b.shape))
    chosen = is_chosen(a) or is_chosen(b)
    a, b = c.plain(a), c.plain(b)
    if np.array_equal(a, b):
        return "same"
    firsts, seconds = _met(a, b)
    num_old, num_new = len(np.unique(firsts)), len(np.unique(seconds))
    if len(firsts) == num_old == num_new:
        c.union(firsts, seconds)
        full = ((a > 0) | (b <= 0)).all()
        if extent(old) == extent(new) and full:
            return "same"
        return "finer" if ((b > 0) | (a <= 0)).all() and extent(old) <= extent(new) else "apart"
    if chosen or len(firsts) == num_old * num_new:
        return "apart"
    # One axis beside the same one of every slab, or of the tensors that rows come from: all of
    # these carry its indices.
    if _is_in_each_axis(c, a, new):
        c.union(*_met(a, new))
        return "same" if ((a > 0) | (b <= 0)).all() else "apart"
    if _is_in_each_axis(c, b, old):
        c.union(*_met(b, old))
        return "finer" if ((b > 0) | (a <= 0)).all() else "apart"
    # The atoms themselves: which of a class is met tells its entries apart.
    c.relate(*_met(old, new))
    if len(firsts) == num_old and extent(new) <= extent(old) and (a > 0).all():
        return "coarser" if extent(new) else "apart"
    if len(firsts) == num_new and extent(old) <= extent(new) and (b > 0).all():
        return "finer"
    return "apart"


def _met(one: Ids, other: Ids) -> tuple[Ids, Ids]:
    """The pairs of atoms that meet, each once."""
    firsts, seconds = pairs_of(np.unique(one * (1 << 32) + other))
    valid = (firsts > 0) & (seconds > 0)
    return firsts[valid], seconds[valid]


def _is_in_each_axis(c: Constraints, one: Ids, several: Ids) -> bool:
    """Whether atoms meet those of several axes, one to one in each."""
    firsts, seconds = _met(one, several)
    axes = c.axis_of(seconds)
    if len(np.unique(seconds)) < len(seconds) or (axes < 0).any() or len(np.unique(axes)) < 2:
        return False
    return len(np.unique(axes * (1 << 32) + firsts)) == len(firsts)


def _meet_values(c: Constraints, one: Operand, other: Operand) -> None:
    """Numbers that differ along an axis tell the atoms there apart, unless atoms explain them."""
    varying = extent(other.values)  # type: ignore[arg-type]
    explained = frozenset[int]().union(*map(extent, other.label.atoms))
    for atoms in one.label.atoms:
        axes = sorted((extent(atoms) & varying) - explained)
        if axes:
            colour_by(c, atoms, other.values, axes)
        _meet_repeated(c, atoms, other, sorted(extent(atoms) & varying & explained))


def _meet_repeated(c: Constraints, atoms: Ids, other: Operand, axes: Sequence[int]) -> None:
    """Where an atom is met at several places, by different numbers, the places are told apart."""
    along = [found for found in other.label.atoms if extent(found)]
    if not axes or not all(extent(found) <= set(axes) for found in along):
        return
    values = other.values
    order = [*axes, *(k for k in range(values.ndim) if k not in axes)]
    rows = values.transpose(order).reshape(int(np.prod([values.shape[k] for k in axes])), -1)
    sizes = [size if k in axes else 1 for k, size in enumerate(values.shape)]
    keys = [np.broadcast_to(c.find(found), sizes).ravel() for found in along]
    seen: dict[tuple[int, ...], list[bytes]] = {}
    place = np.zeros(len(rows), np.float64)
    for k, key in enumerate(zip(*(row.tolist() for row in keys), strict=True)):
        met = seen.setdefault(key, [])
        number = rows[k].tobytes()
        if number not in met:
            met.append(number)
        place[k] = met.index(number)
    if place.any():
        colour_by(c, atoms, place.reshape(sizes), axes)


def colour_by(c: Constraints, atoms: Ids, values: Values, axes: Sequence[int]) -> None:
    """Colour atoms by the numbers at their place along some axes."""
    order = [*axes, *(k for k in range(values.ndim) if k not in axes)]
    moved = values.transpose(order)
    rows = moved.reshape(int(np.prod(moved.shape[: len(axes)])), -1)
    classes = np.array([digest(row.tobytes()) for row in rows], np.uint64)
    sizes = [size if k in axes else 1 for k, size in enumerate(values.shape)]
    met, known = np.broadcast_arrays(c.find(atoms), classes.reshape(sizes))
    valid = (met > 0) & (met & CHOSEN == 0)
    pairs = np.unique(np.stack([met[valid].astype(np.uint64), known[valid]]), axis=1)
    c.colour(pairs[0].astype(np.int64), pairs[1])


def pin(c: Constraints, atoms: Ids, axes: Iterable[int]) -> None:
    """Atoms along these axes stay at their places."""
    for axis in sorted(extent(atoms) & set(axes)):
        sizes = [1] * atoms.ndim
        sizes[axis] = atoms.shape[axis]
        colour_by(c, atoms, np.arange(atoms.shape[axis], dtype=np.float64).reshape(sizes), [axis])


# Signs


def plus(c: Constraints, parts: Iterable[Ids]) -> tuple[Ids, ...]:
    """The same sum in few parts: one goes into another that depends on all of its axes."""
    kept: list[Ids] = []
    for part in sorted(parts, key=lambda p: -len(extent(p))):
        place = next((k for k, q in enumerate(kept) if extent(part) <= extent(q)), None)
        if place is None:
            kept.append(part)
        else:
            kept[place] = compact(c.add(kept[place], part))
    return tuple(part for part in kept if part.any())


def total(c: Constraints, parts: Sequence[Ids], ndim: int) -> Ids:
    """The sum of all parts as one array."""
    return fold(c.add, parts) if parts else np.zeros((1,) * ndim, np.int64)


def never_flips(c: Constraints, label: Label) -> None:
    """No entry may flip."""
    if label.signs:
        c.equate(total(c, label.signs, len(label.shape)), np.zeros((1,) * len(label.shape), int))


def agree(c: Constraints, operands: Sequence[Operand]) -> tuple[Ids, ...]:
    """Entries that are added flip together; zeros agree with all."""
    ndim = len(shape_of(operands))
    result: tuple[Ids, ...] = ()
    zeros: npt.NDArray[np.bool_] = np.ones((1,) * ndim, bool)  # where nothing was added yet
    for operand in operands:
        signs = operand.label.signs
        absent = _without_sign(c, operand)
        if not zeros.any() and not absent.any() and _same(result, signs):
            continue
        if zeros.all():
            result, zeros = signs, absent
            continue
        old, new = total(c, result, ndim), total(c, signs, ndim)
        if zeros.any() or absent.any():
            old, new = np.where(zeros, WILD, old), np.where(absent, WILD, new)
        c.equate(old, new)
        if zeros.any():
            result = (compact(np.where(zeros, new, old)),)
        zeros = zeros & absent
    return result


def _without_sign(c: Constraints, operand: Operand) -> npt.NDArray[np.bool_]:
    """Where an operand is zero: all that is known of constants, what is told of others."""
    if not operand.label:
        return compact(operand.values == 0)  # type: ignore[return-value]
    wild = [part < 0 for part in operand.label.signs if (part < 0).any()]
    return fold(np.logical_or, wild, np.zeros((1,) * len(operand.label.shape), bool))


def _same(one: Sequence[Ids], other: Sequence[Ids]) -> bool:
    return len(one) == len(other) and all(map(np.array_equal, one, other))


# Axes that are summed over


def contract_atoms(c: Constraints, atoms: Iterable[Ids], axes: Sequence[int]) -> tuple[Ids, ...]:
    """Components after a sum over some axes: sets of atoms become blocks where they differ."""
    kept: list[Ids] = []
    for component in atoms:
        along = sorted(extent(component) & set(axes))
        if not along:
            kept.append(component)
            continue
        order = [k for k in range(component.ndim) if k not in along] + along
        moved = c.plain(c.find(component)).transpose(order)
        rest = moved.shape[: component.ndim - len(along)]
        rows = moved.reshape(int(np.prod(rest)), -1)
        blocks = _blocks(c, rows, joined=is_chosen(component))
        sizes = [1 if k in along else size for k, size in enumerate(component.shape)]
        reduced = compact(blocks.reshape(sizes))
        if extent(reduced):
            kept.append(reduced)
    return tuple(kept)


def is_chosen(atoms: Ids) -> bool:
    """Whether any of these atoms lie where the run has put them."""
    return bool(((atoms > 0) & (atoms & CHOSEN > 0)).any())


def _blocks(c: Constraints, rows: Ids, *, joined: bool) -> Ids:
    """The block of each row; sets that overlap are one where `joined`, as chosen experts are."""
    if not joined:
        unique, inverse = np.unique(rows, axis=0, return_inverse=True)
        sets = [np.unique(row[row > 0]) for row in unique]
        found = np.array([c.block(atoms) if len(atoms) else 0 for atoms in sets], np.int64)
        return found[inverse.ravel()]
    group: dict[int, int] = {}
    members: list[set[int]] = []
    firsts = np.zeros(len(rows), np.int64)
    unique, inverse = np.unique(rows, axis=0, return_inverse=True)
    for k, row in enumerate(unique):
        ids = {int(atom) for atom in row if atom > 0}
        if not ids:
            continue
        touched = {group[atom] for atom in ids if atom in group}
        home = min(touched, default=len(members))
        if home == len(members):
            members.append(set())
        for other in touched - {home}:
            ids |= members[other]
            members[other] = set()
        members[home] |= ids
        group.update(dict.fromkeys(ids, home))
        firsts[inverse.ravel() == k] = next(iter(ids))
    blocks = [c.block(np.array(sorted(ids))) if ids else 0 for ids in members]
    return np.array([blocks[group[first]] if first else 0 for first in firsts.tolist()], np.int64)


def contract_signs(c: Constraints, signs: Sequence[Ids], axes: Sequence[int]) -> tuple[Ids, ...]:
    """Signs after a sum over some axes, along which all have to be equal."""
    along = [part for part in signs if extent(part) & set(axes)]
    across = [part for part in signs if not extent(part) & set(axes)]
    if not along:
        return tuple(across)
    summed = compact(total(c, along, along[0].ndim))
    first = summed.max(axis=tuple(axes), keepdims=True)  # one that is not WILD
    c.equate(summed, first)
    return plus(c, [*across, compact(first)])
