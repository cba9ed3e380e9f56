"""A checkpoint written anew: its tensors transformed, everything that is not weights copied along.

Several shards are written at once. Tied weights stay tied, since a tied tensor is stored once and
nothing else is added. What is copied is decided before anything is written, so that every file of
the new folder can be read and fits the new weights.
"""

from __future__ import annotations

import os
import shutil
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from threading import Event, Lock
from types import MappingProxyType
from typing import TypeAlias

import torch

from bmatch.files.atomic import new_folder
from bmatch.files.pointers import require_content
from bmatch.files.room import Room
from bmatch.files.safetensors_copy import copy_safetensors
from bmatch.jobs.in_turn import OverError, in_turn
from bmatch.jobs.progress import Progress, silent
from bmatch.models.checkpoint import INDEX, SINGLE, Checkpoint
from bmatch.models.digest import Digest, Look

Write: TypeAlias = Callable[[Path], None]
"""Takes the path where something is to be written."""

Writer: TypeAlias = Callable[..., str]
"""`rewrite_checked`, or what stands in for it."""

Header: TypeAlias = Callable[[dict[str, str]], dict[str, str]]
"""From the metadata in a shard's header to those of the new one."""

LEAST_ROOM = 256 << 20
"""Bytes of tensors that are in memory at once, where the largest of them is smaller."""

OTHER_WEIGHTS = frozenset(
    (
        *(".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".pkl", ".npz", ".distcp"),
        *(".h5", ".msgpack", ".onnx", ".gguf", ".tflite", ".ot"),
    )
)
"""Other forms of the same weights, and training state, all in the old coordinates."""


def rewrite(
    checkpoint: Checkpoint,
    out: str | os.PathLike[str],
    transform: Callable[[str, torch.Tensor], torch.Tensor],
    progress: Progress = silent,
    description: str = "Writing",
    tell: Callable[[str], None] | None = None,
    header: Header = dict,
    beside: Mapping[str, Write] = MappingProxyType({}),
    digest: Digest | None = None,
) -> None:
    """Write the checkpoint to a new folder with every tensor transformed.

    Files, shards, index, header metadata and dtypes stay as they are; so do config, tokenizer
    and every other small file, links as what they lead to. The folder appears when it is complete.
    As many shards are written at once as torch has threads, in memory for the largest tensor.

    Parameters
    ----------
    checkpoint : Checkpoint
    out : path
        A folder that does not exist yet.
    transform : callable
        Takes a name and a tensor, returns a tensor of the same shape and dtype. One call at a time,
        in the order of each file; calls for several files take turns.
    progress, description
        How to show how far the tensors have come.
    tell : callable, optional
        Is given a line about what is not copied, if there is any, before anything is written.
    header : callable, optional
        From a shard's header metadata to those of the new one; by default they stay.
    beside : mapping of str to callable, optional
        Files and folders of the checkpoint, by name, that are written by these in place of being
        copied or left out, in turn, when all else is there. Each is given the new path.
    digest : Digest, optional
        Takes in what is read, which is then found finite on the way.

    Raises
    ------
    FileExistsError
        If `out` exists.
    ValueError
        If a file to be copied is a Git-LFS pointer, or, with a digest, a tensor holds NaN or
        infinity.
    OSError
        If a file cannot be read, or `out` cannot be written, for want of room for example; nothing
        is left behind.
    """
    copied, left_out = companions(checkpoint, beside)
    if left_out and tell is not None:
        tell(told_of(left_out))
    with new_folder(out) as folder:
        free = shutil.disk_usage(folder).free
        needed = checkpoint.num_bytes + sum(size_of(checkpoint.folder / name) for name in beside)
        if free < needed:
            raise OSError(
                f"{out} needs {needed / 1e9:.3g} GB and {free / 1e9:.3g} GB are free "
                "there: nothing was written"
            )
        tensors = progress(checkpoint.names, description)
        try:
            _write_shards(checkpoint, folder, transform, tensors, header, digest)
        except OSError as error:
            if error.filename is not None:  # it could not be opened
                raise
            raise OSError(
                f"the weights could not be written to {out} ({error.strerror}): nothing was left "
                "behind"
            ) from None
        for path in copied:
            place = folder / path.relative_to(checkpoint.folder)
            place.parent.mkdir(exist_ok=True)
            shutil.copyfile(path, place)
        for name, write in beside.items():
            write(folder / name)


def _write_shards(
    checkpoint: Checkpoint,
    out: Path,
    transform: Callable[[str, torch.Tensor], torch.Tensor],
    tensors: Iterable[str],
    header: Header,
    digest: Digest | None,
) -> None:
    """Write shards, several at once; those that are left at the end have all threads."""
    steps = iter(tensors)
    threads = torch.get_num_threads()
    room = room_for(checkpoint.largest)
    turn, over = Lock(), Event()
    left = set(checkpoint.shards)

    def each() -> int:
        return max(1, threads // max(1, len(left)))

    def counted(name: str, tensor: torch.Tensor) -> torch.Tensor:
        with turn:
            if over.is_set():
                raise OverError
            try:
                next(steps)
                return transform(name, tensor)
            except BaseException:
                over.set()  # nobody else begins with another
                raise

    look = None if digest is None else partial(_look, digest, checkpoint.folder)

    def write(shard: str) -> None:
        path = checkpoint.folder / shard
        copy_safetensors(path, out / shard, counted, header, each, room, look)
        left.remove(shard)

    in_turn([partial(write, shard) for shard in checkpoint.shards], threads, over.set)
    next(steps, None)  # the bar closes when it is asked for more than there is


def _look(digest: Digest, folder: Path, name: str, tensor: torch.Tensor) -> Look:
    return Look(digest, name, tensor, folder)


def room_for(largest: int) -> Room:
    """Memory for the tensors that are written at once: for the largest of them, or for a few."""
    return Room(max(largest, LEAST_ROOM))


def rewrite_checked(
    checkpoint: Checkpoint,
    out: str | os.PathLike[str],
    transform: Callable[[str, torch.Tensor], torch.Tensor],
    progress: Progress = silent,
    description: str = "Writing",
    tell: Callable[[str], None] | None = None,
    header: Header = dict,
    beside: Mapping[str, Write] = MappingProxyType({}),
    like: str | None = None,
) -> str:
    """As `rewrite`, of weights that are found finite on the way; the digest of what was read.

    Parameters
    ----------
    checkpoint, out, transform, progress, description, tell, header, beside
        As for `rewrite`.
    like : str, optional
        A digest with which it is to be compared.

    Raises
    ------
    ValueError
        As `rewrite`, and if a tensor holds NaN or infinity.
    """
    digest = Digest(like)
    rewrite(checkpoint, out, transform, progress, description, tell, header, beside, digest)
    return digest.told()


def told_of(left_out: Mapping[str, Sequence[str]]) -> str:
    """A line about files that are not copied along, by the reason why they are not."""
    return "not copied along: " + "; ".join(
        f"{', '.join(names)} ({reason})" for reason, names in left_out.items()
    )


def companions(
    checkpoint: Checkpoint, beside: Collection[str]
) -> tuple[list[Path], dict[str, list[str]]]:
    """The files to be copied along, and the names of all others by the reason why they are not."""
    copied: list[Path] = []
    left_out: dict[str, list[str]] = defaultdict(list)
    for path in _visible(checkpoint.folder):
        if path.name in checkpoint.shards or path.name in beside:
            continue
        files = _visible(path) if path.is_dir() else [path]
        for file in (path, *files):
            if reason := _misfit(file, checkpoint):
                name = str(file.relative_to(checkpoint.folder))
                left_out[reason].append(name if file == path else f"{path.name}/ for {name}")
                break
        else:
            copied += files
    for path in copied:
        require_content(path)
    return copied, left_out


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    files = path.rglob("*") if path.is_dir() else (path,)
    return sum(file.stat().st_size for file in files if file.is_file())


def _visible(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _misfit(path: Path, checkpoint: Checkpoint) -> str | None:
    """Why something cannot be copied or would not fit the new weights; None if it can and does."""
    if path.name.startswith("checkpoint-"):
        return "another checkpoint"
    if path.name == "adapter_config.json":
        return "its adapter is in the old coordinates"
    if not path.exists():
        return "a link that leads nowhere"
    if path.is_dir():
        # Like additional_chat_templates, not like onnx or runs: files, which are judged one by one.
        return "a folder of folders" if any(map(Path.is_dir, _visible(path))) else None
    if not path.is_file():
        return "no ordinary file"
    of_weights = {
        path.suffix,
        path.resolve().suffix,
    } & OTHER_WEIGHTS  # what a link leads to may tell
    is_index = ".index." in path.name and path.suffix == ".json"
    if of_weights or (is_index and (path.name != INDEX or SINGLE in checkpoint.shards)):
        return "other weights, or training state"
    return None
