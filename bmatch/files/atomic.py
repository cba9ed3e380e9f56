"""Outputs that are either whole or not there: written to a temporary name, then renamed.

What appears has the permissions that the system gives to any new file or folder there, whichever
library wrote it (safetensors makes files that only their owner can read).
"""

from __future__ import annotations

import errno
import itertools
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_promised: set[Path] = set()  # outputs that `require_new` found free, until they are written
_SHOWN = 64  # bytes of the final name in the temporary one, which is then short enough anywhere


@contextmanager
def new_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary file beside `path` that takes its place when the block ends well.

    Whatever ends the block early (an error, a full disk, Ctrl-C) removes the temporary file
    and leaves an earlier file at `path` as it was. A symbolic link is followed.

    Where `require_new` has found `path` free before, and another job has written it meanwhile, that
    stays, and what was written here is kept under a free name beside it.

    Raises
    ------
    FileExistsError
        If `path` is something other than a file; or has appeared meanwhile: the sentence names the
        file that has what was written here.
    OSError
        If it cannot be written.
    """
    final = Path(os.path.realpath(path))
    _require_place(final)
    if final.exists() and not final.is_file():
        raise FileExistsError(f"{final} exists and is no ordinary file: name another output")
    partial = _beside(final)
    partial.touch(exist_ok=False)
    mode = _mode(partial)
    try:
        yield partial
        _set_mode(partial, mode)
        if final in _promised:
            _promised.discard(final)
            _take_free_name(partial, final)
        else:
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
        If `path` exists already, or appears meanwhile: nothing is overwritten.
    OSError
        If it cannot be written.
    """
    final = Path(path)
    require_new(final)
    partial = _beside(final)
    partial.mkdir()
    mode = _mode(partial)
    try:
        yield partial
        for inside in partial.rglob("*"):
            _set_mode(inside, mode if inside.is_dir() else mode & 0o666)
        try:
            partial.rename(final)
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise FileExistsError(
                    f"{final} has appeared meanwhile, by another job: name another output"
                ) from None
            raise
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def require_new(final: Path) -> None:
    """Refuse an output that exists, or that could not be written: before a long job, not after.

    Raises
    ------
    FileExistsError, FileNotFoundError, PermissionError
    OSError
        If the file system does not take the name: it is too long, for example.
    """
    _require_place(final)
    if os.path.lexists(final):
        raise FileExistsError(f"{final} exists already: name another output, or remove it first")
    _promised.add(Path(os.path.realpath(final)))


def _take_free_name(partial: Path, final: Path) -> None:
    """Give a finished file its name, or a free one like it where that has been taken meanwhile.

    A link is refused by the system itself where the name is taken, so that of two jobs that end at
    the same time one has it.
    """
    for number in itertools.count(1):
        name = final if number == 1 else final.with_name(f"{final.stem}-{number}{final.suffix}")
        try:
            os.link(partial, name)
        except FileExistsError:
            continue
        except OSError:  # a file system without links, where two jobs may still meet here
            if os.path.lexists(name):
                continue
            partial.replace(name)
        partial.unlink(missing_ok=True)
        if name != final:
            raise FileExistsError(
                f"{final} has appeared meanwhile, by another job, and was left as it is: what this "
                f"job found is in {name}"
            )
        return


def _require_place(final: Path) -> None:
    if not final.parent.is_dir():
        raise FileNotFoundError(
            f"{final} cannot be written: the folder {final.parent} does not exist"
        )
    if not os.access(final.parent, os.W_OK | os.X_OK):
        raise PermissionError(f"{final} cannot be written: no permission to write {final.parent}")
    try:
        final.lstat()
    except FileNotFoundError:
        pass
    except OSError as error:
        raise OSError(
            f"{final} cannot be written ({error.strerror}): name another output"
        ) from None


def _beside(final: Path) -> Path:
    """A name in the same folder that nothing has."""
    shown = os.fsencode(final.name)[:_SHOWN].decode(errors="ignore")
    return final.with_name(f".{shown}.{secrets.token_hex(8)}.partial")


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def _set_mode(path: Path, mode: int) -> None:
    # Some file systems have no modes to set, and some links lead elsewhere.
    if not path.is_symlink() and _mode(path) != mode:
        path.chmod(mode)
