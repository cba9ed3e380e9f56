"""A hidden folder beside an output, in which it is written; what a killed job left of its own goes.

A job that is killed cannot clean up behind it, and what it leaves may be as large as a model. The
next job with the same output does it. To tell what is left from what is in use, a folder is locked
as long as its job lives, and its name has the running kernel in it: only there a lock says so, on
any file system.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_SHOWN = 64  # bytes of the output's name in that of the folder, which is then short enough anywhere
_KERNEL = Path("/proc/sys/kernel/random/boot_id")
_ENDING = ".partial"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # of a write, which does not say where to


@contextmanager
def workplace(final: Path) -> Iterator[Path]:
    """A path of the same name as an output to write it to, which for the time of the block has a
    folder to itself: with what is in it then, that goes.

    Raises
    ------
    OSError
        If the folder cannot be made. This one, and those of the block, name the output and what is
        in it in place of temporary paths.
    """
    start = _start(final)
    _clear(final.parent, start)
    place = final
    folders: list[Path] = []
    locks: list[int] = []
    try:
        try:
            place = _made(final, start, folders, locks) / final.name
            yield place
        finally:
            for folder in folders:
                _remove(folder)
            for lock in locks:
                os.close(lock)
    except OSError as error:
        _rename(error, str(place), str(final))
        hidden = str(error.filename).startswith(str(final.with_name(start)))
        if hidden or (error.filename is None and error.errno in _FULL):
            error.filename = str(final)
        raise


def _made(final: Path, start: str, folders: list[Path], locks: list[int]) -> Path:
    """A folder of that start beside an output, whose lock is held.

    Folders and locks are noted in the lists, folders before they are made: a signal may end it
    anywhere.
    """
    while True:
        folder = final.with_name(f"{start}{secrets.token_hex(8)}{_ENDING}")
        folders.append(folder)
        folder.mkdir()
        try:
            locks.append(os.open(folder, os.O_RDONLY))
        except FileNotFoundError:
            continue
        with suppress(OSError):  # a file system without locks, where nothing is cleared either
            fcntl.flock(locks[-1], fcntl.LOCK_EX)
        if folder.exists():
            return folder
        # Before it was locked, another job took it for one that was left.


def _remove(folder: Path) -> None:
    """Remove a folder and what is in it, to the end though a signal comes meanwhile."""
    try:
        shutil.rmtree(folder, ignore_errors=True)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _rename(error: OSError, place: str, final: str) -> None:
    """Tell an error of an output in place of the temporary path that it names."""
    error.args = tuple(
        value.replace(place, final) if isinstance(value, str) else value for value in error.args
    )
    if isinstance(error.filename, str):
        error.filename = error.filename.replace(place, final)


def _clear(parent: Path, start: str) -> None:
    """Remove folders that begin so and whose jobs are over."""
    with suppress(OSError), os.scandir(parent) as entries:
        for entry in entries:
            if entry.name.startswith(start) and entry.name.endswith(_ENDING):
                _remove_if_left(entry.path)


def _remove_if_left(folder: str) -> None:
    with suppress(OSError):
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(lock)


def _start(final: Path) -> str:
    """How the names of an output's folders begin on this machine since it was started."""
    shown = os.fsencode(final.name)[:_SHOWN].decode(errors="ignore")
    try:
        kernel = hashlib.sha256(_KERNEL.read_bytes()).hexdigest()[:8]
    except OSError:
        kernel = secrets.token_hex(4)  # nobody's
    return f".{shown}.{kernel}-"
