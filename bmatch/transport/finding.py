"""What an object in a file or folder is: the kinds are asked one after the other."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from bmatch.transport import adapters, neuron_lists, optimizer, sae, vectors
from bmatch.transport.neuron_lists import NeuronList
from bmatch.transport.objects import StreamObject
from bmatch.transport.training import TrainingRun, find_run

Found: TypeAlias = StreamObject | NeuronList | TrainingRun
Finder: TypeAlias = Callable[[Path, Mapping[str, Any] | None], Found | None]

KINDS: dict[str, Finder] = {
    # Those come first that tell by a config or by names, beside which other tensors may lie.
    "run": find_run,
    "adapter": adapters.find,
    "optimizer": optimizer.find,
    "sae": sae.find,
    "vector": vectors.find,
    "list": neuron_lists.find_list,
}
"""By the names that ``--kind`` takes."""


class UnknownObjectError(ValueError):
    """Of none of the kinds."""


def find_object(
    path: str | os.PathLike[str],
    kind: str | None = None,
    model: Mapping[str, Any] | None = None,
) -> Found:
    """What lies in a file or folder, by its content.

    Parameters
    ----------
    path : path
    kind : str, optional
        One of `KINDS`, to ask that one alone.
    model : mapping, optional
        Content of ``config.json`` of the model that it belongs to.

    Raises
    ------
    FileNotFoundError
        If there is none.
    UnknownObjectError
        If it is of no kind that is known.
    ValueError
        If it cannot be carried, or is damaged.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"there is no file or folder {path}")
    if kind is not None and kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}; got {kind!r}")
    for finder in [KINDS[kind]] if kind else KINDS.values():
        found = finder(path, model)
        if found is not None:
            return found
    raise UnknownObjectError(
        f"{path} holds nothing that is known to have coordinates of a residual stream"
        + (f" as one of the kind {kind}" if kind else _nearest(path))
    )


def _nearest(path: Path) -> str:
    """What it might have been, as the end of a sentence; empty where nothing is near."""
    if path.suffix in (".csv", ".json"):
        return ": a list of coordinates has a column named index"
    return sae.nearest(path)
