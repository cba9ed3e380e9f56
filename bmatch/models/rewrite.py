"""A checkpoint written anew: its tensors transformed, everything that is not weights copied along.

Written one tensor at a time. Tied weights stay tied, since a tied tensor is stored once and nothing
else is added. What is copied is decided before anything is written, so that every file of the new
folder can be read and fits the new weights.
"""

from __future__ import annotations

import os
import shutil
import threading
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType
from typing import TypeAlias

import torch

from bmatch.files.atomic import new_folder
from bmatch.files.pointers import require_content
from bmatch.files.safetensors_copy import copy_safetensors
from bmatch.jobs.progress import Progress, silent
from bmatch.models.checkpoint import INDEX, SINGLE, Checkpoint, checked_digest

Write: TypeAlias = Callable[[Path], None]
"""Takes the path where something is to be written."""

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
    header: Callable[[dict[str, str]], dict[str, str]] = dict,
    beside: Mapping[str, Write] = MappingProxyType({}),
    last: Callable[[], object] = lambda: None,
) -> None:
    """Write the checkpoint to a new folder with every tensor transformed.

    Files, shards, index, header metadata and dtypes stay as they are; so do config, tokenizer
    and every other small file, links as what they lead to. The folder appears when it is complete.
    One tensor is held in memory at a time.

    Parameters
    ----------
    checkpoint : Checkpoint
    out : path
        A folder that does not exist yet.
    transform : callable
        Takes a name and a tensor, returns a tensor of the same shape and dtype.
    progress, description
        How to show how far the tensors have come.
    tell : callable, optional
        Is given a line about what is not copied, if there is any, before anything is written.
    header : callable, optional
        From a shard's header metadata to those of the new one; by default they stay.
    beside : mapping of str to callable, optional
        Files and folders of the checkpoint, by name, that are written by these in place of being
        copied or left out, in turn, when all else is there. Each is given the new path.
    last : callable, optional
        Called when everything is there; what it raises leaves nothing behind.

    Raises
    ------
    FileExistsError
        If `out` exists.
    ValueError
        If a file to be copied is a Git-LFS pointer.
    OSError
        If a file cannot be read, or `out` cannot be written, for want of room for example; nothing
        is left behind.
    """
    copied, left_out = _companions(checkpoint, beside)
    if left_out and tell is not None:
        tell(
            "not copied along: "
            + "; ".join(f"{', '.join(names)} ({reason})" for reason, names in left_out.items())
        )
    with new_folder(out) as partial:
        free = shutil.disk_usage(partial).free
        needed = checkpoint.num_bytes + sum(size_of(checkpoint.folder / name) for name in beside)
        if free < needed:
            raise OSError(
                f"{out} needs {needed / 1e9:.1f} GB and {free / 1e9:.1f} GB are free "
                "there: nothing was written"
            )
        steps = iter(progress(checkpoint.names, description))  # tensors, shard by shard

        def counted(name: str, tensor: torch.Tensor) -> torch.Tensor:
            next(steps)
            return transform(name, tensor)

        for shard in checkpoint.shards:
            try:
                copy_safetensors(checkpoint.folder / shard, partial / shard, counted, header)
            except OSError as error:
                if error.filename is not None:  # it could not be opened
                    raise
                raise OSError(
                    f"{shard} could not be written to {out} ({error.strerror}): nothing was left "
                    "behind"
                ) from None
        next(steps, None)  # the bar closes when it is asked for more than there is
        for path in copied:
            place = partial / path.relative_to(checkpoint.folder)
            place.parent.mkdir(exist_ok=True)
            shutil.copyfile(path, place)
        for name, write in beside.items():
            write(partial / name)
        last()


def rewrite_checked(
    checkpoint: Checkpoint,
    out: str | os.PathLike[str],
    transform: Callable[[str, torch.Tensor], torch.Tensor],
    progress: Progress = silent,
    description: str = "Writing",
    tell: Callable[[str], None] | None = None,
    header: Callable[[dict[str, str]], dict[str, str]] = dict,
    beside: Mapping[str, Write] = MappingProxyType({}),
) -> str:
    """As `rewrite`, of weights that are found finite on the way; SHA-256 of what was read.

    Raises
    ------
    ValueError
        As `rewrite`, and if a tensor holds NaN or infinity.
    """
    over = threading.Event()

    def until_over(names: Iterable[str], _: str) -> Iterator[str]:
        for name in names:
            if over.is_set():
                raise InterruptedError
            yield name

    with ThreadPoolExecutor(1) as beside_us:
        digest = beside_us.submit(checked_digest, checkpoint, until_over, "")

        def watched(name: str, tensor: torch.Tensor) -> torch.Tensor:
            if digest.done():
                digest.result()  # what is broken is told at once
            return transform(name, tensor)

        try:
            rewrite(
                *(checkpoint, out, watched, progress, description, tell, header, beside),
                last=digest.result,
            )
        finally:
            over.set()
    return digest.result()


def _companions(
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
