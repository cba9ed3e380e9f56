"""Checkpoints that a path leads through: opened, known by their content, loaded two at a time."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bmatch.architecture.axes import ResidualAxes
from bmatch.jobs.progress import Progress, silent
from bmatch.models.activations import Reader
from bmatch.models.checkpoint import Checkpoint, checked_digest, open_checkpoint
from bmatch.models.digest import Digest
from bmatch.models.loading import load_model
from bmatch.models.runs import Place, step_of
from bmatch.models.weight_evidence import Weights

_SAYS_NOTHING = ("_name_or_path", "transformers_version", "dtype", "torch_dtype", "architectures")
"""Keys of a config that do not change what a model computes in a given precision."""


@dataclass(frozen=True, eq=False)
class Stop:
    """A checkpoint on a path.

    Attributes
    ----------
    name : str
        As results call it: ``run/checkpoint-100``.
    step : int or None
        Of training, where its name tells.
    digest : str
        Of the weights (`bmatch.models.digest`).
    structure : str
        SHA-256 of the config.
    held : Checkpoint or Reader
        A folder, or a model in memory.
    """

    name: str
    step: int | None
    digest: str
    structure: str
    held: Checkpoint | Reader

    @property
    def axes(self) -> ResidualAxes:
        """The table of the model."""
        return self.held.axes

    @classmethod
    def of(cls, given: Any, number: int = 0) -> Stop:
        """Of a folder or `Place`, a model, or a stop.

        Raises
        ------
        FileNotFoundError, ValueError
            If a checkpoint is incomplete or damaged, holds NaN, or the architecture is unknown.
        """
        if isinstance(given, Stop):
            return given
        if isinstance(given, str | os.PathLike):
            folder = Path(given)
            given = Place(folder, step_of(folder))
        if isinstance(given, Place):
            folder = Path(given.folder)
            checkpoint = open_checkpoint(folder, given.beside)
            digest = checked_digest(checkpoint, silent, "")
            return cls(_name(given), given.step, digest, _structure(checkpoint.config), checkpoint)
        reader = Reader.of(given)
        weights, taken = Weights.of(reader), Digest()
        for name in weights.names:
            taken.add(name, weights.read(name).detach().cpu())
        structure = _structure(reader.model.config.to_dict())
        return cls(f"model {number}", None, taken.told(), structure, reader)


def _name(place: Place) -> str:
    folder = place.folder.resolve()
    home = (place.beside or folder).resolve().parent
    return folder.relative_to(home).as_posix() if folder.is_relative_to(home) else folder.name


def _structure(config: dict[str, Any]) -> str:
    kept = {key: value for key, value in config.items() if key not in _SAYS_NOTHING}
    return hashlib.sha256(json.dumps(kept, sort_keys=True, default=str).encode()).hexdigest()


def open_stops(
    places: Sequence[Any],
    *,
    skip_broken: bool = False,
    progress: Progress = silent,
    tell: Callable[[str], None] | None = None,
) -> list[Stop]:
    """Open checkpoints, of which neighbours of the same weights become one.

    Parameters
    ----------
    places : sequence
        As `Stop.of` takes them.
    skip_broken : bool
        Whether a checkpoint that is missing or damaged is told, and left out, not refused.
    progress, tell : callable, optional

    Raises
    ------
    FileNotFoundError, ValueError
        If a checkpoint is missing or damaged, or differs from the first in its architecture; or if
        none is left.
    """
    stops: list[Stop] = []
    for number, place in enumerate(progress(places, "Checking weights")):
        try:
            stop = Stop.of(place, number)
            if stops:
                _require_alike(stop, stops[0])
        except (FileNotFoundError, ValueError) as error:
            if not skip_broken:
                raise
            if tell is not None:
                tell(f"left out: {error}")
            continue
        if not stops or stop.digest != stops[-1].digest:
            stops.append(stop)
    if not stops:
        raise ValueError("no checkpoint is left: all of them are missing or damaged")
    return stops


def _require_alike(stop: Stop, first: Stop) -> None:
    """Refuse a checkpoint that cannot be of the same training."""
    ours, theirs = (
        (axes.model_type, axes.dim, axes.num_layers, axes.vocab_size)
        for axes in (stop.axes, first.axes)
    )
    if ours != theirs:
        kind, dim, layers, vocabulary = ours
        raise ValueError(
            f"{stop.name} is a {kind} of width {dim}, {layers} blocks and {vocabulary} tokens, and "
            f"{first.name} is none: a path leads through checkpoints of one architecture"
        )


class TwoModels:
    """Models of the hop at hand, and no other: the one that it shares with the last is kept.

    Parameters
    ----------
    dtype, device : str
        As for `bmatch.models.loading.load_model`.
    """

    def __init__(self, dtype: str, device: str) -> None:
        self._dtype, self._device = dtype, device
        self._held: dict[str, Reader] = {}

    def readers(self, *stops: Stop) -> Iterator[Reader]:
        """A reader for each of one or two checkpoints; all others are let go first."""
        wanted = {stop.digest for stop in stops}
        self._held = {key: self._held[key] for key in self._held.keys() & wanted}
        for stop in stops:
            if isinstance(stop.held, Reader):
                yield stop.held
                continue
            if stop.digest not in self._held:
                model = load_model(stop.held, self._dtype, self._device)
                self._held[stop.digest] = Reader(model, stop.axes)
            yield self._held[stop.digest]
