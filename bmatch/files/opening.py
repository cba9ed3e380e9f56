"""What of an object holds tensors: its files, and folders of ``torch.distributed.checkpoint``."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from bmatch.files.containers import Container, open_container

_INDEX = ".metadata"


def indexed(folder: Path) -> list[Path]:
    """A folder itself, or those in it, that ``torch.distributed.checkpoint`` has written."""
    return (
        [folder]
        if (folder / _INDEX).is_file()
        else sorted(path.parent for path in folder.glob(f"*/{_INDEX}"))
    )


def holders(path: Path, suffixes: Collection[str]) -> list[Path]:
    """Files whose names end so, and folders that have the index of a distributed checkpoint.

    Of a folder all below it are listed, in order; of a file or such a folder, itself.
    """
    if path.is_file() or (path / _INDEX).is_file():
        found = [path]
    else:
        found = [p for p in path.rglob("*") if p.is_file() or (p / _INDEX).is_file()]
    return sorted(p for p in found if p.is_dir() or p.suffix in suffixes)


def open_holder(path: Path) -> Container:
    """What is in such a file or folder; tensors are not read.

    Raises
    ------
    FileNotFoundError
        If it is incomplete.
    ValueError
        As `open_container`.
    """
    if not path.is_dir():
        return open_container(path)
    from bmatch.files.distributed import DistributedFiles  # imports torch.distributed

    return DistributedFiles(path).container()
