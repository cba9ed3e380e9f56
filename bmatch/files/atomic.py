"""Outputs that are either whole or not there: written to a temporary name, then renamed."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def new_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary file beside `path` that takes its place when the block ends well.

    Whatever ends the block early (an error, a full disk, Ctrl-C) removes the temporary file
    and leaves an earlier file at `path` as it was. A symbolic link is followed.

    Raises
    ------
    FileExistsError
        If `path` is something other than a file.
    """
    final = Path(os.path.realpath(path))
    if final.exists() and not final.is_file():
        raise FileExistsError(f"{final} exists and is no ordinary file: name another output")
    _require_writable_parent(final)
    handle, name = tempfile.mkstemp(prefix=f".{final.name}.", suffix=".partial", dir=final.parent)
    os.close(handle)
    partial = Path(name)
    try:
        yield partial
        partial.chmod(0o666 & ~_umask())
        partial.replace(final)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


@contextmanager
def new_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary folder beside `path` that takes its name when the block ends well.

    Raises
    ------
    FileExistsError
        If `path` exists already: nothing is overwritten.
    """
    final = Path(path)
    require_new(final)
    partial = Path(tempfile.mkdtemp(prefix=f".{final.name}.", suffix=".partial", dir=final.parent))
    try:
        yield partial
        partial.chmod(0o777 & ~_umask())
        partial.rename(final)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def require_new(final: Path) -> None:
    """Refuse an output that exists, or that could not be written: before a long job, not after.

    Raises
    ------
    FileExistsError, FileNotFoundError, PermissionError
    """
    if os.path.lexists(final):
        raise FileExistsError(f"{final} exists already: name another output, or remove it first")
    _require_writable_parent(final)


def _require_writable_parent(final: Path) -> None:
    if not final.parent.is_dir():
        raise FileNotFoundError(
            f"{final} cannot be written: the folder {final.parent} does not exist"
        )
    if not os.access(final.parent, os.W_OK):
        raise PermissionError(f"{final} cannot be written: no permission to write {final.parent}")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
