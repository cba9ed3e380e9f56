"""Folders of ``torch.distributed.checkpoint``, read and written by one process, safely.

Their index is a pickle, and so is everything in them that is no tensor: of the index, only what
makes up an index is taken, of the rest only what torch loads with ``weights_only``.
"""

from __future__ import annotations

import io
import os
import pickle
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from torch.distributed.checkpoint import filesystem
from torch.distributed.checkpoint import metadata as index
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner, DefaultSavePlanner
from torch.distributed.checkpoint.planner import (
    BytesIOWriteData,
    SavePlan,
    TensorWriteData,
    WriteItem,
    WriteItemType,
)
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from bmatch.files.containers import Container, Transform, leaves
from bmatch.taking import Taken

INDEX = filesystem._metadata_fn

_CLASSES = {
    *(index.Metadata, index.MetadataIndex, index.TensorStorageMetadata, index.TensorProperties),
    *(index.BytesStorageMetadata, index.ChunkStorageMetadata, index.StorageMeta),
    *(index._MEM_FORMAT_ENCODING, filesystem._StorageInfo, filesystem._StoragePrefix, torch.Size),
    *(SavePlan, WriteItem, WriteItemType, TensorWriteData, BytesIOWriteData),  # Megatron-core's
}
_MEGATRON = "megatron.core.dist_checkpointing.strategies.torch"
_KNOWN: dict[tuple[str, str], Any] = {
    **{(kind.__module__, kind.__name__): kind for kind in _CLASSES},
    ("torch", "Size"): torch.Size,
    ("torch.serialization", "_get_layout"): torch.serialization._get_layout,
    ("collections", "OrderedDict"): dict,
    (_MEGATRON, "MCoreMetadata"): index.Metadata,
    (_MEGATRON, "MCoreSavePlan"): SavePlan,
}


class _ForeignError(Exception):
    """Of something that is no part of an index."""


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _KNOWN:
            return _KNOWN[module, name]
        if module.partition(".")[0] == "pathlib":
            return PurePosixPath
        found = getattr(torch, name, None) if module == "torch" else None
        if isinstance(found, torch.dtype):
            return found
        raise _ForeignError(f"{module}.{name}")


class DistributedFiles:
    """What is in a folder of ``torch.distributed.checkpoint``; tensors are whole, of any shards.

    Parameters
    ----------
    path : path
        A folder with a file ``.metadata``.

    Attributes
    ----------
    path : Path
    shapes : dict of str to tuple of int
        Of its tensors. Names are those of the nested dicts that were saved, joined by ``/``.
    files : set of Path
        Its index, and those that hold what is in it.

    Raises
    ------
    FileNotFoundError
        If there is no such folder, or a file of it is missing.
    ValueError
        If its index is damaged, or holds more than an index.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._index = _index(self.path)
        paths = self._index.planner_data or {}
        self._keys = {
            "/".join(map(str, paths.get(key, (key,)))): key
            for key in self._index.state_dict_metadata
        }
        self._paths = {name: tuple(paths.get(key, (key,))) for name, key in self._keys.items()}
        self.shapes = {
            name: tuple(kept.size)
            for name in self._keys
            if isinstance(kept := self._kept(name), index.TensorStorageMetadata)
        }
        files = {self.path / info.relative_path for info in self._index.storage_data.values()}
        self.files = {self.path / INDEX, *files}

    @property
    def others(self) -> list[str]:
        """Names of what is no tensor."""
        return [name for name in self._keys if name not in self.shapes]

    @cached_property
    def values(self) -> dict[str, Any]:
        """What is no tensor, by names of the same kind."""
        return {name: self._value(name) for name in self.others}

    def tensor(self, name: str) -> torch.Tensor:
        """One tensor, whole."""
        kept = self._kept(name)
        made = {self._keys[name]: torch.empty(kept.size, dtype=kept.properties.dtype)}
        try:
            with _alone():
                planner = DefaultLoadPlanner(flatten_state_dict=False)
                load(made, storage_reader=_Reader(self.path, self._index), planner=planner)
        except (CheckpointException, OSError, RuntimeError) as error:
            told = str(error).strip().splitlines()[-1].partition(". ")[0]
            raise ValueError(f"{self.path}: {name} cannot be read: {told}") from None
        return made[self._keys[name]]

    def container(self, opaque: bool = False) -> Container:
        """The folder as a file of tensors; where it is `opaque`, nothing else in it is loaded."""
        values = {} if opaque else self.values
        rest = dict(pair for name, value in values.items() for pair in leaves(value, name))
        return Container(self.path, self.shapes, self.tensor, self.copy, rest)

    def copy(self, out: Path, transform: Transform, notes: Mapping[str, str]) -> None:
        """Write the folder again, as one process would have, with its tensors transformed.

        What is no tensor is not loaded, and the same bytes.

        Raises
        ------
        OSError
            If there is no room for it.
        """
        tree: dict[Any, Any] = {}
        for name, path in self._paths.items():
            value = None
            if name in self.shapes:
                kept = self._kept(name)
                value = torch.empty(kept.size, dtype=kept.properties.dtype, device="meta")
            _put(tree, path, value)
        names = {key: name for name, key in self._keys.items()}

        def moved(key: str) -> torch.Tensor:
            made = transform(names[key], self.tensor(names[key]))
            whole: torch.Tensor = made.made() if isinstance(made, Taken) else made
            return whole.contiguous()

        def same(key: str) -> io.BytesIO:
            return io.BytesIO(self._bytes(names[key]))

        try:
            with _alone():
                save(tree, storage_writer=_Writer(out, self._index), planner=_Lazily(moved, same))
        except CheckpointException as error:  # it tells of what was raised, of ranks and of lines
            raised = next(iter(error.failures.values()))[0]
            raise _of_the_disk(raised) or raised from None

    def _kept(self, name: str) -> Any:
        return self._index.state_dict_metadata[self._keys[name]]

    def _bytes(self, name: str) -> bytes:
        info = self._index.storage_data[index.MetadataIndex(self._keys[name])]
        with open(self.path / info.relative_path, "rb") as file:
            file.seek(info.offset)
            return file.read(info.length)

    def _value(self, name: str) -> Any:
        try:
            return torch.load(io.BytesIO(self._bytes(name)), weights_only=True)
        except pickle.UnpicklingError as error:
            told = str(error).partition("GLOBAL ")[2].partition(" ")[0]
            raise ValueError(
                f"{self.path}: {name} holds {told or 'something'} beside tensors, numbers and "
                "strings, and could run code when it is loaded: it is not loaded"
            ) from None
        except Exception as error:  # torch's reader checks little of what is damaged
            told = str(error).partition(". ")[0] or type(error).__name__
            raise ValueError(f"{self.path}: {name} is damaged ({told})") from None


def _put(tree: Any, path: tuple[Any, ...], value: Any) -> None:
    """Set an entry of nested dicts and lists, which are made on the way."""
    for key, below in zip(path, (*path[1:], None), strict=True):
        made: Any = value if below is None else [] if isinstance(below, int) else {}
        if isinstance(tree, list):
            tree.extend([None] * (key + 1 - len(tree)))
            if below is None or tree[key] is None:
                tree[key] = made
        elif below is None or key not in tree:
            tree[key] = made
        tree = tree[key]


def _index(folder: Path) -> index.Metadata:
    if not (folder / INDEX).is_file():
        raise FileNotFoundError(f"{folder} is no distributed checkpoint: it has no {INDEX}")
    try:
        found = _Unpickler(io.BytesIO((folder / INDEX).read_bytes())).load()
    except _ForeignError as error:
        raise ValueError(
            f"{folder / INDEX} holds {error} beside an index, and could run code when it is "
            "loaded: it is not loaded"
        ) from None
    except Exception as error:  # a damaged pickle may do anything of what is allowed, wrongly
        raise ValueError(f"{folder / INDEX} is damaged ({type(error).__name__})") from None
    if not isinstance(found, index.Metadata) or not isinstance(found.storage_data, dict):
        raise ValueError(f"{folder / INDEX} is damaged: it holds no index")
    files = {info.relative_path for info in found.storage_data.values()}
    for file in files:
        if not isinstance(file, str) or Path(file).name != file:  # it could lead out of the folder
            raise ValueError(f"{folder / INDEX} is damaged: {file!r} is no name of a file")
        if not (folder / file).is_file():
            raise FileNotFoundError(f"{folder} is incomplete: it has no {file}")
    return found


class _Reader(filesystem.FileSystemReader):
    """Reads by an index that was read already."""

    def __init__(self, path: Path, found: index.Metadata) -> None:
        super().__init__(path)
        self._found = found

    def read_metadata(self, *args: Any, **kwargs: Any) -> index.Metadata:
        return self._found


class _Writer(filesystem.FileSystemWriter):
    """Keeps in the index what Megatron-core before 0.14 tells there of tensors that it has cut."""

    def __init__(self, path: Path, found: index.Metadata) -> None:
        super().__init__(path)
        self._told = getattr(found, "mcore_data", None)

    def finish(self, metadata: index.Metadata, results: Any) -> None:
        if self._told is not None:
            metadata.mcore_data = self._told  # type: ignore[attr-defined]
        super().finish(metadata, results)

    def storage_meta(self) -> index.StorageMeta:
        """Without the temporary path and a number at random, so that the same is the same bytes."""
        return index.StorageMeta()


class _Lazily(DefaultSavePlanner):
    """Asks for tensors as they are written, and for the bytes of what is none."""

    def __init__(
        self, read: Callable[[str], torch.Tensor], content: Callable[[str], io.BytesIO]
    ) -> None:
        super().__init__()
        self._read, self._content = read, content

    def lookup_object(self, index: index.MetadataIndex) -> Any:
        found = super().lookup_object(index)
        is_hollow = isinstance(found, torch.Tensor) and found.is_meta
        return self._read(index.fqn) if is_hollow else found

    def transform_object(self, write_item: WriteItem, object: Any) -> Any:
        if write_item.type == WriteItemType.BYTE_IO:
            return self._content(write_item.index.fqn)
        return super().transform_object(write_item, object)


def _of_the_disk(raised: BaseException | None) -> OSError | None:
    """What a write has raised, where a writer that then could not end either hides it."""
    while raised is not None and not isinstance(raised, OSError):
        raised = raised.__context__
    return raised


@contextmanager
def _alone() -> Iterator[None]:
    """Without the warning that there is no process group."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*single process.*")
        yield
