"""Files that hold tensors under names: what is in them, and the same file with some transformed.

Everything else stays as it is: order, dtypes, other values, metadata. Pickles are read with
``weights_only``: what could run code when it is loaded is refused.
"""

from __future__ import annotations

import json
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from bmatch.files.mapped import entries_of
from bmatch.files.names import require_utf8
from bmatch.files.pointers import require_content
from bmatch.files.safetensors_copy import copy_safetensors
from bmatch.files.torch_copy import copy_torch
from bmatch.taking import Taken

Transform: TypeAlias = Callable[[str, Any], Any]
"""Takes a name and an array or tensor, returns one of its shape and dtype; of a tensor perhaps one
that is `Taken` from it."""


@dataclass(frozen=True)
class Container:
    """A file and what it holds.

    Attributes
    ----------
    path : Path
    shapes : dict of str to tuple of int
        Of its tensors, by name; names inside nested dicts and lists are joined by ``/``.
    rest : dict of str to object
        Numbers, strings and the like beside them, by names of the same kind.
    read : callable
        Takes a name, gives that tensor, as a torch tensor or a NumPy array.
    copy : callable
        Takes where to write, a `Transform` and metadata, to be added where the format has room.
    has_room : bool
        Whether metadata find room.
    """

    path: Path
    shapes: Mapping[str, tuple[int, ...]]
    read: Callable[[str], Any]
    copy: Callable[[Path, Transform, Mapping[str, str]], None]
    rest: Mapping[str, Any] = field(default_factory=dict)
    has_room: bool = False


_NOTE = "bmatch_"
"""How metadata begin that tell of an earlier copy, and not of this one."""

SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".npz", ".npy", ".gguf", ".json", ".svec")


def open_container(path: str | os.PathLike[str]) -> Container:
    """What is in a file, whose kind its name's end tells; tensors are not read.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is of no kind that is known, is damaged, a Git-LFS pointer, or a pickle of more than
        tensors, numbers and strings; if a library cannot read its name.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    require_content(path)
    kinds: dict[str, Callable[[Path], Container]] = {
        ".safetensors": _safetensors,
        **dict.fromkeys((".pt", ".pth", ".bin"), _torch),
        ".npz": _npz,
        ".npy": _npy,
        ".gguf": _gguf,
        **dict.fromkeys((".json", ".svec"), _json),
    }
    if path.suffix not in kinds:
        raise ValueError(
            f"{path} holds no tensors in a format that is known ({', '.join(SUFFIXES)})"
        )
    if path.suffix in (".safetensors", ".pt", ".pth", ".bin"):
        require_utf8(path)
    return kinds[path.suffix](path)


def _safetensors(path: Path) -> Container:
    entries = entries_of(path)
    metadata = entries.pop("__metadata__", {})
    shapes = {name: tuple(entry["shape"]) for name, entry in entries.items()}

    def copy(out: Path, transform: Transform, notes: Mapping[str, str]) -> None:
        copy_safetensors(path, out, transform, partial(with_notes, notes=notes))

    def read(name: str) -> Any:
        from safetensors import safe_open

        with safe_open(path, framework="pt") as file:
            return file.get_tensor(name)

    return Container(path, shapes, read, copy, metadata, has_room=True)


def with_notes(found: Mapping[str, str], notes: Mapping[str, str]) -> dict[str, str]:
    """Metadata of a file that is written again: those of an earlier copy give way to new ones."""
    return {**{key: value for key, value in found.items() if not key.startswith(_NOTE)}, **notes}


def _torch(path: Path) -> Container:
    import torch

    tree = unpickled(path)
    tensors = {key: leaf for key, leaf in leaves(tree) if isinstance(leaf, torch.Tensor)}
    for key, tensor in tensors.items():
        if tensor.layout != torch.strided or tensor.is_quantized:
            raise ValueError(f"{path}: {key or 'the tensor'} is sparse or quantised")

    def copy(out: Path, transform: Transform, notes: Mapping[str, str]) -> None:
        def fill(made: Any) -> None:
            for key, place in leaves(made):
                if isinstance(place, torch.Tensor):
                    moved = transform(key, tensors[key])
                    place.copy_(moved.made() if isinstance(moved, Taken) else moved)

        copy_torch(tree, out, fill)

    rest = {key: leaf for key, leaf in leaves(tree) if key not in tensors}
    shapes = {key: tuple(tensor.shape) for key, tensor in tensors.items()}
    return Container(path, shapes, tensors.__getitem__, copy, rest)


def unpickled(path: Path) -> Any:
    """What a file of `torch.save` holds, its tensors mapped.

    Raises
    ------
    ValueError
        If it is none, is damaged, or holds more than tensors, numbers and strings.
    """
    import torch

    try:
        zipped = zipfile.is_zipfile(path)  # others were written before torch 1.6, and hold no map
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except pickle.UnpicklingError as error:
        told = str(error).partition("GLOBAL ")[2].partition(" ")[0]
        raise ValueError(
            f"{path} holds {told or 'something'} beside tensors, numbers and strings, and could "
            "run code when it is loaded: it is not loaded"
        ) from None
    except MemoryError:
        raise
    except Exception as error:  # torch's readers check little of what is damaged
        told = str(error).partition(". ")[0] or type(error).__name__
        raise ValueError(f"{path} is no file of torch.save, or is damaged ({told})") from None


def leaves(tree: Any, path: str = "", skip: Collection[str] = ()) -> Iterator[tuple[str, Any]]:
    """What is in nested dicts, lists and tuples, with where it is: ``a/b/0``."""
    if path in skip:
        return
    if isinstance(tree, Mapping):
        pairs: Any = tree.items()
    elif isinstance(tree, (list, tuple)):
        pairs = enumerate(tree)
    else:
        yield path, tree
        return
    for key, below in pairs:
        yield from leaves(below, f"{path}/{key}" if path else str(key), skip)


def _npz(path: Path) -> Container:
    try:
        with open(path, "rb") as opened, np.load(opened, allow_pickle=False) as file:
            shapes = {name: file[name].shape for name in file.files}
    except Exception as error:  # NumPy and zipfile check little of what is damaged
        raise ValueError(
            f"{path} is no npz file of plain arrays, or is damaged ({error})"
        ) from None

    def copy(out: Path, transform: Transform, notes: Mapping[str, str]) -> None:
        with zipfile.ZipFile(path) as source, zipfile.ZipFile(out, "w", allowZip64=True) as made:
            for entry in source.infolist():
                with source.open(entry) as member:
                    array = np.lib.format.read_array(member, allow_pickle=False)
                moved = np.asarray(transform(entry.filename.removesuffix(".npy"), array))
                with made.open(entry.filename, "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, moved, allow_pickle=False)

    def read(name: str) -> Any:
        with np.load(path, allow_pickle=False) as file:
            return file[name]

    return Container(path, shapes, read, copy)


def _npy(path: Path) -> Container:
    try:
        mapped = np.lib.format.open_memmap(path, mode="r")
        if mapped.dtype.kind in "SUMm":
            raise ValueError(f"it holds {mapped.dtype}")
        shape = mapped.shape
    except (ValueError, OSError, EOFError) as error:
        raise ValueError(
            f"{path} is no npy file of plain numbers, or is damaged ({error})"
        ) from None

    def copy(out: Path, transform: Transform, notes: Mapping[str, str]) -> None:
        shutil.copyfile(path, out)
        array = np.lib.format.open_memmap(out, mode="r+")
        array[...] = transform("", np.array(array))
        array.flush()

    def read(_name: str) -> Any:
        return np.load(path, mmap_mode="c", allow_pickle=False)

    return Container(path, {"": shape}, read, copy)


def _gguf(path: Path) -> Container:
    try:
        import gguf
    except ImportError:
        raise ValueError(f"{path} is read with the package gguf: pip install gguf") from None

    try:
        reader = gguf.GGUFReader(path)
    except (ValueError, IndexError, KeyError, OSError) as error:
        raise ValueError(f"{path} is no GGUF file, or is damaged ({error})") from None
    plain = {"F32", "F16", "F64"}
    shapes = {tensor.name: tuple(map(int, tensor.data.shape)) for tensor in reader.tensors}
    types = {tensor.name: tensor.tensor_type.name for tensor in reader.tensors}
    rest = {name: found.contents() for name, found in reader.fields.items()}

    def copy(out: Path, transform: Transform, notes: Mapping[str, str]) -> None:
        shutil.copyfile(path, out)
        for tensor in gguf.GGUFReader(out, "r+").tensors:
            moved = transform(tensor.name, np.array(tensor.data))
            if types[tensor.name] in plain:
                tensor.data[...] = moved
            elif not np.array_equal(moved, tensor.data):
                raise ValueError(
                    f"{path}: {tensor.name} is {types[tensor.name]}, of whose blocks coordinates "
                    "cannot be taken out: write it as F32 or F16"
                )

    def read(name: str) -> Any:
        if types[name] not in plain:
            raise ValueError(f"{path}: {name} is {types[name]}, and no plain numbers")
        return next(np.array(t.data) for t in reader.tensors if t.name == name)

    return Container(path, shapes, read, copy, rest)


def _json(path: Path) -> Container:
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no JSON file, or is damaged ({error})") from None
    arrays = dict(_arrays(tree))

    def copy(out: Path, transform: Transform, notes: Mapping[str, str]) -> None:
        def moved(key: str, value: Any) -> Any:
            if key in arrays:
                return np.asarray(transform(key, arrays[key])).tolist()
            if isinstance(value, dict):
                return {k: moved(f"{key}/{k}" if key else k, v) for k, v in value.items()}
            if isinstance(value, list):
                return [moved(f"{key}/{k}" if key else str(k), v) for k, v in enumerate(value)]
            return value

        out.write_text(json.dumps(moved("", tree)), encoding="utf-8")

    rest = dict(leaves(tree, skip=arrays))
    shapes = {key: array.shape for key, array in arrays.items()}
    return Container(path, shapes, arrays.__getitem__, copy, rest)


def _arrays(tree: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Lists of numbers in a tree, and rectangular lists of such, with where they are."""
    if isinstance(tree, list) and tree:
        try:
            array = np.array(tree)
        except ValueError:
            array = np.array(None)
        if array.ndim and array.dtype.kind in "if":
            yield path, array
            return
    pairs: Any = tree.items() if isinstance(tree, dict) else ()
    pairs = enumerate(tree) if isinstance(tree, list) else pairs
    for key, below in pairs:
        yield from _arrays(below, f"{path}/{key}" if path else str(key))
