"""Objects in files: what they are, which of their axes lie in the stream, and how they are carried.

Each kind of object finds its own files and says of every tensor along which axes it moves. The rest
is done here: everything else stays as it is, nothing is there before it is whole, and the gauge
that carried the object is noted.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bmatch.files.atomic import new_files, new_folder, require_new
from bmatch.files.containers import Container
from bmatch.groups import Gauge
from bmatch.jobs.progress import Progress, silent
from bmatch.models.checkpoint import read_json
from bmatch.models.digest import differ, shown
from bmatch.transport.weights import lazily, noted

SIDECAR = "bmatch.json"
"""Where the gauge is noted that carried a folder without room for metadata in its files."""


@dataclass(frozen=True)
class Along:
    """The axes of a tensor along which it moves.

    Attributes
    ----------
    axes : tuple of tuple of int and bool
        The axis, and whether signs move along it: of directions they do, of scales and second
        moments never.
    """

    axes: tuple[tuple[int, bool], ...] = ()

    def __call__(self, tensor: Any, gauge: Gauge) -> Any:
        """The tensor in target coordinates; itself where nothing moves."""
        for axis, signed in self.axes:
            move = gauge.apply if signed else gauge.apply_permutation
            tensor = move(tensor, axis)
        return tensor


@dataclass(frozen=True)
class Part:
    """One file of an object, or a distributed checkpoint: how each of its tensors moves."""

    container: Container
    moves: Mapping[str, Along]

    @property
    def path(self) -> Path:
        """The file or folder."""
        return self.container.path


@dataclass(frozen=True)
class StreamObject:
    """Something in a file or a folder that has coordinates of a residual stream.

    Attributes
    ----------
    path : Path
    kind : str
        As people call it: steering vectors, sparse autoencoder, adapter.
    format : str
        Whose files they are, and which variant.
    width : int
        Coordinates of the stream.
    parts : tuple of Part
        The files that hold tensors; in a folder all others are copied.
    where : mapping of str to str
        What the files tell of model, layer and hook.
    keeps_mean : str
        Why only gauges can carry it that keep the mean over coordinates, up to its sign; empty if
        others can.
    """

    path: Path
    kind: str
    format: str
    width: int
    parts: tuple[Part, ...]
    where: Mapping[str, str] = field(default_factory=dict)
    keeps_mean: str = ""


def carry(
    found: StreamObject,
    gauge: Gauge,
    out: str | os.PathLike[str],
    progress: Progress = silent,
    other_model: bool = False,
) -> None:
    """Write an object in the coordinates that a gauge leads to.

    Parameters
    ----------
    found : StreamObject
    gauge : SignedPermutation or OrthogonalGauge
        From the object's coordinates to those wanted.
    out : path
        A file or folder, as the object is, that does not exist yet; it appears when it is complete.
    progress : callable, optional
        How to show how far it has come (see `bmatch.jobs.progress`).
    other_model : bool
        Whether to go on where the object was carried to other weights than the gauge starts at.

    Raises
    ------
    ValueError
        If the gauge acts on another width or starts at other weights, or cannot act on a tensor.
    FileExistsError, OSError
        If `out` exists or cannot be written. Nothing is left behind.
    """
    out = Path(out)
    require_new(out)
    require_fit(found, gauge, other_model)
    notes = notes_of(gauge)
    roomy = has_room(found)
    if found.path.is_file():
        sidecar = out.with_name(f"{out.name}.{SIDECAR}")
        if not roomy:
            require_new(sidecar)
        with new_files() as place:
            _write(found.parts[0], gauge, place(out), notes)
            if not roomy:
                place(sidecar).write_text(sidecar_text(notes))
        return
    parts = {part.path: part for part in found.parts}
    files = sorted(
        path
        for path in (found.path, *found.path.rglob("*"))
        if path in parts or (path.is_file() and parts.keys().isdisjoint(path.parents))
    )
    with new_folder(out) as folder:
        for path in progress(files, "Carrying"):
            place = folder / path.relative_to(found.path)
            place.parent.mkdir(parents=True, exist_ok=True)
            if path in parts:
                _write(parts[path], gauge, place, notes)
            else:
                shutil.copyfile(path, place)
        if not roomy:
            (folder / SIDECAR).write_text(sidecar_text(notes))


def has_room(found: StreamObject) -> bool:
    """Whether all of its files have room for metadata; otherwise they stand in a sidecar."""
    return all(part.container.has_room for part in found.parts)


def sidecar_text(notes: Mapping[str, str]) -> str:
    """What is written into the sidecar."""
    return json.dumps(notes, indent=2) + "\n"


def require_fit(found: StreamObject, gauge: Gauge, other_model: bool = False) -> None:
    """Refuse a gauge that cannot carry an object.

    Raises
    ------
    ValueError
        If the gauge acts on another width, starts at other weights, or moves the mean of what keeps
        it.
    """
    if gauge.dim != found.width:
        raise ValueError(
            f"the gauge acts on {gauge.dim} coordinates, and {found.path} has {found.width}"
        )
    if not other_model:
        require_same_model(found.path, gauge, (part.container.rest for part in found.parts))
    if found.keeps_mean and not _keeps_mean(gauge):
        raise ValueError(
            f"{found.path} cannot be carried by a {gauge.group} gauge: {found.keeps_mean}"
        )


def _write(part: Part, gauge: Gauge, out: Path, notes: Mapping[str, str]) -> None:
    def transform(name: str, tensor: Any) -> Any:
        try:
            return part.moves[name](lazily(tensor, gauge), gauge)
        except (ValueError, TypeError) as error:
            raise ValueError(": ".join(filter(None, (str(part.path), name, str(error))))) from None

    part.container.copy(out, transform, notes)


def _keeps_mean(gauge: Gauge) -> bool:
    moved = np.asarray(gauge.to(None).apply(np.ones(gauge.dim)))
    return bool(min(np.abs(moved - 1).max(), np.abs(moved + 1).max()) <= 1e-7)


def notes_of(gauge: Gauge) -> dict[str, str]:
    """What a carried object tells of the gauge: its group, its hash, where it led from and to."""
    moved = gauge.to(None).apply(np.arange(1.0, gauge.dim + 1))
    notes = noted(gauge.group)({})
    notes["bmatch_gauge_sha256"] = hashlib.sha256(np.asarray(moved).tobytes()).hexdigest()
    for role in ("source", "target"):
        for key in (role, f"{role}_sha256"):
            if key in gauge.metadata:
                notes[f"bmatch_{key}"] = gauge.metadata[key]
    return notes


def require_same_model(path: Path, gauge: Gauge, headers: Iterable[Mapping[str, Any]] = ()) -> None:
    """Refuse an object that was carried to weights at which the gauge does not start.

    Parameters
    ----------
    path : Path
        A sidecar may tell in it, if it is a folder, or beside it.
    gauge : SignedPermutation or OrthogonalGauge
    headers : iterable of mapping
        Of its files, which may tell, too.

    Raises
    ------
    ValueError
        If hashes of the weights are noted in both, and differ.
    """
    sidecar = path / SIDECAR if path.is_dir() else path.with_name(f"{path.name}.{SIDECAR}")
    beside = [read_json(sidecar)] if sidecar.is_file() else []
    start = gauge.metadata.get("source_sha256")
    for notes in (*headers, *beside):
        there = notes.get("bmatch_target_sha256")
        if there and start and differ(there, start):
            raise ValueError(
                f"{path} was carried to {notes.get('bmatch_target', 'a model')} (weights of "
                f"{shown(there)}), and the gauge starts at "
                f"{gauge.metadata.get('source', 'another model')} ({shown(start)}): carry it by a "
                "gauge that starts there, or go on with --other-model (other_model=True)"
            )


def require_known(path: Path, names: Iterable[str], known: Iterable[str]) -> None:
    """Refuse tensors of which no table tells how they move.

    Raises
    ------
    ValueError
        With the first of them.
    """
    unknown = sorted(set(names) - set(known))
    if unknown:
        few = ", ".join(unknown[:6]) + (f" and {len(unknown) - 6} more" if len(unknown) > 6 else "")
        raise ValueError(f"{path}: how these move with the stream is not known: {few}")
