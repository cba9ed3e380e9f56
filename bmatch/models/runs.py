"""Checkpoints of a training run, in the order of their steps.

Steps are numbers: ``checkpoint-1000`` comes after ``checkpoint-500``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from bmatch.models.checkpoint import INDEX, SINGLE

_NUMBERED = re.compile(r"(?P<stem>.*?)(?P<number>\d+)")
_NESTED = "checkpoints"
"""Where accelerate keeps what it numbers by itself."""


class Place(NamedTuple):
    """A checkpoint of a run.

    Attributes
    ----------
    folder : Path
    step : int or None
        The number at the end of its name.
    beside : Path or None
        The run's own folder, where config and tokenizer may lie.
    """

    folder: Path
    step: int | None
    beside: Path | None = None


def find_run(run: str | os.PathLike[str]) -> list[Place]:
    """The checkpoints of a run, in the order of their steps.

    Parameters
    ----------
    run : path
        The folder that transformers' Trainer, accelerate or a loop of one's own writes
        checkpoints to (``checkpoint-100``, ``checkpoints/checkpoint_0``, ``step_100``): subfolders
        whose names end in a number. A model in that folder itself is the end of the run. Or the
        folder of a single checkpoint. Or a text file that names folders line by line, in order.

    Returns
    -------
    list of Place
        At least one; a folder whose name says checkpoint is listed whatever is in it.

    Raises
    ------
    FileNotFoundError
        If there is no such folder or file, or no checkpoint in it.
    ValueError
        If subfolders of several names hold checkpoints, so that their order is not known.
    """
    path = Path(run)
    if path.is_file():
        return _listed(path)
    if not path.is_dir():
        raise FileNotFoundError(f"there is no run {path}: name the folder that checkpoints are in")
    for parent in (path, path / _NESTED):
        found = sorted(_numbered(parent, path), key=lambda place: place.step or 0)
        if found:
            own = [Place(path, None)] if _has_weights(path) else []
            return found + own
    if _has_weights(path) or (path / "config.json").is_file():
        return [Place(path, step_of(path))]
    raise FileNotFoundError(
        f"{path} holds no checkpoints: none of its folders is called like checkpoint-100, and no "
        "model lies in it"
    )


def step_of(folder: Path) -> int | None:
    """The number at the end of a folder's name."""
    match = _NUMBERED.fullmatch(folder.name)
    return int(match["number"]) if match else None


def _listed(file: Path) -> list[Place]:
    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
    except UnicodeDecodeError:
        raise ValueError(f"{file} is no list of folders: it is not UTF-8 text") from None
    folders = [file.parent / line for line in lines if line and not line.startswith("#")]
    if not folders:
        raise FileNotFoundError(f"{file} names no checkpoint: write a folder a line")
    return [Place(folder, step_of(folder)) for folder in folders]


def _numbered(parent: Path, beside: Path) -> Iterator[Place]:
    """Subfolders with a number at the end, of the one name that checkpoints have."""
    stems: dict[str, list[Place]] = {}
    for folder in parent.iterdir() if parent.is_dir() else ():
        match = _NUMBERED.fullmatch(folder.name)
        # A link that leads nowhere stands for a checkpoint that is missing.
        held = folder.is_dir() or (folder.is_symlink() and not folder.exists())
        if match and held and not folder.name.startswith(("tmp-", ".")):
            place = Place(folder, int(match["number"]), beside)
            stems.setdefault(match["stem"], []).append(place)
    kept = {
        stem: places
        for stem, places in stems.items()
        if stem.startswith("checkpoint") or any(_has_weights(place.folder) for place in places)
    }
    if len(kept) > 1:
        names = ", ".join(f"{stem}N" for stem in sorted(kept))
        raise ValueError(
            f"{parent} holds checkpoints of several names ({names}): write those wanted into a "
            "text file, a folder a line, in order"
        )
    for places in kept.values():
        yield from places


def _has_weights(folder: Path) -> bool:
    return any((folder / name).is_file() for name in (SINGLE, INDEX))
