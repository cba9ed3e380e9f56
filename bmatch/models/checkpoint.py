"""Checkpoints as transformers writes them: a folder of safetensors shards, config, tokenizer."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path
from threading import Lock
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from bmatch import _core
from bmatch.architecture.axes import ResidualAxes
from bmatch.architecture.premise import Premise, premise
from bmatch.architecture.table import residual_axes
from bmatch.files.mapped import MappedTensors, entries_of
from bmatch.files.names import require_utf8
from bmatch.files.pointers import require_content
from bmatch.files.sha256 import Stream, sha256_of
from bmatch.jobs.in_turn import in_turn
from bmatch.jobs.progress import Progress

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
_AT_ONCE = 8 << 30
"""Bytes of shards that are hashed side by side: the page cache keeps them for who reads next."""
_LET_GO = 1 << 22
"""Bytes that were hashed before they are let go."""
_BITS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


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
            "model.save_pretrained(folder) first"
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


class Digest:
    """SHA-256 of a set of named tensors, whatever their order and their division into shards."""

    def __init__(self) -> None:
        self._parts: dict[str, str] = {}

    def add(self, name: str, tensor: torch.Tensor) -> None:
        """Take in one tensor."""
        self.add_all([stream_of(name, tensor)], [1])

    def add_all(self, streams: Iterable[Stream], sizes: Sequence[int]) -> None:
        """Take in several at once, as `sha256_of` does."""
        self._parts.update(sha256_of(streams, sizes))

    def hexdigest(self) -> str:
        """The digest of what has been taken in."""
        listed = "\n".join(f"{name} {self._parts[name]}" for name in sorted(self._parts))
        return hashlib.sha256(listed.encode()).hexdigest()


def stream_of(
    name: str, tensor: torch.Tensor, passed: Callable[[int], None] = lambda _: None
) -> Stream:
    """What of a tensor is hashed: its dtype and shape, and its bytes."""
    content = tensor.contiguous().reshape(-1).view(torch.uint8).numpy()
    return Stream(name, f"{tensor.dtype} {tuple(tensor.shape)}".encode(), content, passed)


def require_finite(name: str, tensor: torch.Tensor, where: Path | str) -> None:
    """Refuse weights with NaN or infinity in them.

    Raises
    ------
    ValueError
        Naming the tensor and how many of its entries are not finite.
    """
    if not tensor.is_floating_point() or tensor.numel() == 0:
        return
    if tensor.itemsize > 1 and tensor.device.type == "cpu":
        whole = tensor.contiguous()
        finite = _is_finite(whole.data_ptr(), whole.numel(), tensor.dtype)
    else:
        wide = tensor.float() if tensor.itemsize == 1 else tensor  # types of 8 bits have no order
        finite = bool(torch.stack(wide.aminmax()).isfinite().all())
    if not finite:
        bad = int((~tensor.isfinite()).sum())
        if bad:
            raise ValueError(
                f"{name} in {where} holds {bad} NaN or infinite weights: the checkpoint is broken"
            )


def _is_finite(place: int, count: int, dtype: torch.dtype) -> bool:
    """Of so many numbers at an address; of floating types of more than 8 bits."""
    infinity = torch.tensor(torch.inf, dtype=dtype).view(_BITS[dtype.itemsize]).item()
    return _core.largest_magnitude(place, count, dtype.itemsize) < infinity


def checked_digest(checkpoint: Checkpoint, progress: Progress, description: str) -> str:
    """SHA-256 of the weights, which are found finite on the way."""
    digest = Digest()
    steps = iter(progress(checkpoint.names, description))
    turn = Lock()

    def begun(_: str) -> None:
        with turn:
            next(steps)

    groups = hashed_together(checkpoint)
    in_turn(
        [partial(add_checked, digest, checkpoint, files, begun) for files in groups],
        torch.get_num_threads(),
    )
    next(steps, None)  # the bar closes when it is asked for more than there is
    return digest.hexdigest()


def add_checked(
    digest: Digest, checkpoint: Checkpoint, files: Sequence[str], begun: Callable[[str], None]
) -> None:
    """Take the tensors of some shards into a digest, which are found finite on the way.

    Parameters
    ----------
    digest : Digest
        Several threads may add to it.
    checkpoint : Checkpoint
    files : sequence of str
        Names of shards, as `hashed_together` groups them.
    begun : callable
        Is given the name of each tensor before it is read.
    """
    with ExitStack() as opened:
        homes = {
            name: file
            for file in (
                opened.enter_context(MappedTensors(checkpoint.folder / shard)) for shard in files
            )
            for name in file.entries
        }
        sizes = {name: prod(file.entries[name]["shape"]) for name, file in homes.items()}
        names = sorted(sizes, key=sizes.__getitem__, reverse=True)

        def streams() -> Iterator[Stream]:
            for name in names:
                begun(name)
                tensor = homes[name].tensor(name)
                look = _Look(name, tensor, homes[name], checkpoint.folder)
                yield stream_of(name, tensor, look)

        digest.add_all(streams(), [sizes[name] for name in names])


class _Look:
    """Looks for what is not finite as a tensor is hashed, and lets go of what was."""

    def __init__(self, name: str, tensor: torch.Tensor, file: MappedTensors, where: Path) -> None:
        self._name, self._tensor, self._file, self._where = name, tensor, file, where
        self._done, self._gone = 0, 0  # bytes
        self._by_pieces = tensor.is_floating_point() and tensor.itemsize > 1
        if not self._by_pieces:
            require_finite(name, tensor, where)

    def __call__(self, passed: int) -> None:
        size = self._tensor.itemsize
        count = passed // size - self._done // size
        if self._by_pieces and count:
            place = self._tensor.data_ptr() + self._done
            if not _is_finite(place, count, self._tensor.dtype):
                require_finite(self._name, self._tensor, self._where)
            self._done += count * size
        if passed - self._gone >= _LET_GO or passed == self._tensor.nbytes:
            begin = self._file.entries[self._name]["data_offsets"][0]
            self._file.let_go(begin + self._gone, begin + passed)
            self._gone = passed


def hashed_together(checkpoint: Checkpoint) -> list[list[str]]:
    """Shards whose tensors are hashed side by side, as many as fill the lanes of a vector.

    All memory must not be passed between them: who reads them beside finds them in the page cache.
    """
    groups: list[list[str]] = []
    room = 0
    for shard in checkpoint.shards:
        size = (checkpoint.folder / shard).stat().st_size
        if size > room or _core.sha256_lanes() <= 2:
            groups.append([])
            room = _AT_ONCE
        groups[-1].append(shard)
        room -= size
    return groups
