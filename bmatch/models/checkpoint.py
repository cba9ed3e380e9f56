"""Checkpoints as transformers writes them: a folder of safetensors shards, config, tokenizer."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from bmatch.architecture.axes import ResidualAxes
from bmatch.architecture.premise import Premise, premise
from bmatch.architecture.table import residual_axes
from bmatch.files.mapped import MappedTensors, entries_of
from bmatch.files.names import require_utf8
from bmatch.files.opening import indexed
from bmatch.files.pointers import require_content
from bmatch.jobs.in_turn import in_turn
from bmatch.jobs.progress import Progress
from bmatch.models.digest import Digest, Look

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
_AT_ONCE = 1 << 24
"""Bytes that are hashed before they are let go."""


@dataclass(frozen=True)
class Checkpoint:
    """A folder with a model in it, checked: every shard is there and whole, and tensors have the
    names and shapes that the table and the config give them.

    Attributes
    ----------
    folder : Path
    config : dict
        Content of ``config.json``.
    axes : ResidualAxes
        The table of the model.
    shards : dict of str to tuple of str
        Names of the tensors in each file, files and names in order.
    beside : Path or None
        A folder whose config and tokenizer stand for those that this one has not.
    """

    folder: Path
    config: dict[str, Any]
    axes: ResidualAxes
    shards: dict[str, tuple[str, ...]]
    beside: Path | None = None

    @property
    def config_folder(self) -> Path:
        """Where the config lies."""
        return _config_folder(self.folder, self.beside)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all tensors."""
        return tuple(name for names in self.shards.values() for name in names)

    @property
    def num_bytes(self) -> int:
        """Size of the weights on disk."""
        return sum((self.folder / shard).stat().st_size for shard in self.shards)

    @property
    def largest(self) -> int:
        """Bytes of the largest tensor."""
        files = (entries_of(self.folder / shard) for shard in self.shards)
        places = (e["data_offsets"] for file in files for e in file.values() if "shape" in e)
        return max((end - begin for begin, end in places), default=0)

    def shapes(self, shards: Iterable[str] | None = None) -> dict[str, tuple[int, ...]]:
        """Of all tensors, or those in some shards, by name; read from the files' headers."""
        names = self.shards if shards is None else shards
        files = (_shapes_in(self.folder / shard) for shard in names)
        return {name: shape for file in files for name, shape in file.items()}

    def tensors(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Every tensor with its name, on the CPU, one in memory at a time."""
        for shard in self.shards:
            with safe_open(self.folder / shard, framework="pt") as file:
                for name in self.shards[shard]:
                    yield name, file.get_tensor(name)

    def tensor(self, name: str) -> torch.Tensor:
        """The tensor of this name, on the CPU; no other is read."""
        shard = next(shard for shard, names in self.shards.items() if name in names)
        with safe_open(self.folder / shard, framework="pt") as file:
            read: torch.Tensor = file.get_tensor(name)
            return read


def open_checkpoint(folder: str | os.PathLike[str], beside: Path | None = None) -> Checkpoint:
    """Open a model's folder and check that it is whole, without loading the weights.

    Parameters
    ----------
    folder : path
    beside : Path, optional
        A folder whose config and tokenizer are taken where this one has none, as those of
        accelerate's ``save_state``.

    Raises
    ------
    FileNotFoundError
        If the folder, its config, its weights or one of its shards is missing.
    ValueError
        If a file is damaged, the index and the shards disagree, the weights are quantised, the
        architecture is unknown, or tensors are not those of the table and the config; if the
        folder's name is not UTF-8.
    """
    folder = Path(folder)
    if folder.is_file():
        raise FileNotFoundError(f"{folder} is a file: a checkpoint is a folder with a config.json")
    if not folder.is_dir():
        raise FileNotFoundError(
            f"there is no folder {folder}: bmatch reads local checkpoints (download one first with "
            "huggingface-cli or save_pretrained)"
        )
    require_utf8(folder)
    config = read_json(_config_folder(folder, beside) / "config.json")
    if config.get("quantization_config"):
        raise ValueError(
            f"{folder} is quantised, and packed weights have no axis to permute: dequantise it"
        )
    if (folder / SINGLE).is_file():  # first, as transformers has it
        shards = {SINGLE: _shapes_in(folder / SINGLE)}
    elif (folder / INDEX).is_file():
        shards = _indexed_shards(folder)
    else:
        raise FileNotFoundError(
            f"{folder} has neither {SINGLE} nor {INDEX}: write safetensors with "
            f"model.save_pretrained(folder) first{_of_shards(folder)}"
        )
    axes = residual_axes(config)
    shapes = {name: shape for file in shards.values() for name, shape in file.items()}
    try:
        axes.require_names(shapes)
        axes.require_shapes(shapes)
    except ValueError as error:
        raise ValueError(f"{folder}: {error}") from None
    listed = {file: tuple(names) for file, names in shards.items()}
    return Checkpoint(folder, config, axes, listed, beside)


def _of_shards(folder: Path) -> str:
    """What to do with what `torch.distributed.checkpoint` has written, if it is there."""
    for place in indexed(folder):
        if not place.name.startswith("optim"):
            return f", or by `accelerate merge-weights {place} OUT`, with the config beside them"
    return ""


def _config_folder(folder: Path, beside: Path | None) -> Path:
    own = folder / "config.json"
    lacks = beside is not None and not own.is_file() and (beside / "config.json").is_file()
    return beside if lacks and beside is not None else folder


def tested_gains(checkpoint: Checkpoint) -> Premise:
    """What a checkpoint's gains say of its gauge, read one tensor at a time."""

    def gains() -> Iterator[tuple[str, torch.Tensor]]:
        for shard, names in checkpoint.shards.items():
            with safe_open(checkpoint.folder / shard, framework="pt") as file:
                for name in names:
                    rule = checkpoint.axes.rule(name)
                    if rule is not None and not all(signed for _, signed in rule.axes):
                        yield name, file.get_tensor(name)

    return premise(checkpoint.axes, gains())


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file of a checkpoint.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is damaged, or holds no object.
    """
    if path.exists() and not path.is_file():  # a pipe would be waited for
        raise ValueError(f"{path} is no ordinary file")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(f"{path.parent} is no checkpoint: it has no {path.name}") from None
    except (ValueError, RecursionError) as error:
        require_content(path)
        raise ValueError(f"{path} is damaged: {error}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} is damaged: it holds no JSON object")
    return content


def _shapes_in(path: Path) -> dict[str, tuple[int, ...]]:
    """Shapes of all tensors by name, from the file's header alone."""
    try:
        with safe_open(path, framework="pt") as file:
            names = file.keys()
            return {name: tuple(file.get_slice(name).get_shape()) for name in names}
    except SafetensorError as error:
        require_content(path)
        raise ValueError(f"{path} is truncated or damaged ({error})") from None


def _indexed_shards(folder: Path) -> dict[str, dict[str, tuple[int, ...]]]:
    weight_map = read_json(folder / INDEX).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise ValueError(f"{folder / INDEX} is damaged: it has no weight_map")
    for file in weight_map.values():  # a path could lead out of the folder
        if not (
            isinstance(file, str) and Path(file).name == file and file.endswith(".safetensors")
        ):
            raise ValueError(f"{folder / INDEX} is damaged: {file!r} is no name of a shard")
    files = sorted(set(weight_map.values()))
    missing = [file for file in files if not (folder / file).is_file()]
    if missing:
        raise FileNotFoundError(
            f"{folder} is incomplete: {len(missing)} of {len(files)} shards named in {INDEX} are "
            f"missing: {', '.join(missing)}"
        )
    shards = {file: _shapes_in(folder / file) for file in files}
    for file, shapes in shards.items():
        listed = {name for name, home in weight_map.items() if home == file}
        if listed != shapes.keys():
            odd = sorted(listed.symmetric_difference(shapes))
            raise ValueError(f"{INDEX} and {file} in {folder} disagree on {', '.join(odd[:5])}")
    return shards


def checked_digest(
    checkpoint: Checkpoint, progress: Progress, description: str, like: str | None = None
) -> str:
    """The digest of the weights, which are found finite on the way.

    Parameters
    ----------
    checkpoint : Checkpoint
    progress, description
        How to show how far it has come.
    like : str, optional
        A digest of the kind that is wanted.
    """
    digest = Digest(like)
    steps = iter(progress(checkpoint.names, description))
    turn = Lock()
    threads = torch.get_num_threads()
    each = max(1, threads // len(checkpoint.shards))

    def add(shard: str) -> None:
        path = checkpoint.folder / shard
        with MappedTensors(path) as file:
            for name in file.in_order():
                with turn:
                    next(steps)
                look = Look(digest, name, file.tensor(name), checkpoint.folder)
                begin, size = file.entries[name]["data_offsets"][0], file.num_bytes(name)
                for done in range(0, max(size, 1), _AT_ONCE):
                    last = min(done + _AT_ONCE, size)
                    look(last, each)
                    file.let_go(begin + done, begin + last)

    in_turn([partial(add, shard) for shard in checkpoint.shards], threads)
    next(steps, None)  # the bar closes when it is asked for more than there is
    return digest.told()
