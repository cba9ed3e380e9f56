"""Outputs that are either whole or not there: written in a temporary place, then renamed.

What appears has the permissions that the system gives to any new file or folder there, whichever
library wrote it (safetensors makes files that only their owner can read).
"""

from __future__ import annotations

import errno
import itertools
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bmatch.files.workplace import workplace


@contextmanager
def new_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary file of the same name that takes the place of `path` when the block ends well.

    Whatever ends the block early (an error, a full disk, Ctrl-C) removes the temporary file
    and leaves an earlier file at `path` as it was. A symbolic link is followed.

    Raises
    ------
    FileExistsError
        If `path` is something other than a file.
    OSError
        If it cannot be written.
    """
    final = Path(os.path.realpath(path))
    _require_place(final)
    if final.exists() and not final.is_file():
        raise FileExistsError(f"{final} exists and is no ordinary file: name another output")
    with workplace(final) as partial:
        partial.touch(exist_ok=False)
        mode = _mode(partial)
        yield partial
        _set_mode(partial, mode)
        partial.replace(final)


@contextmanager
def new_files(
    note: Callable[[Mapping[Path, Path]], object] = bool,
) -> Iterator[Callable[[Path], Path]]:
    """Files that appear together when the block ends well, or none of them: a command's outputs.

    Parameters
    ----------
    note : callable, optional
        Is given what was written, temporary paths by those of outputs, just before they appear.

    Yields
    ------
    callable
        Given the path of an output, which `require_new` has found free, a temporary path of the
        same name to write it to. One that nothing is written to does not appear.

    Raises
    ------
    FileExistsError
        If an output has appeared meanwhile, by another job. That stays, and what was written here
        is kept under a free name beside it, which the sentence tells.
    OSError
        If an output cannot be written; the sentence has its own name.
    """
    places: dict[Path, Path] = {}
    modes: dict[Path, int] = {}
    with ExitStack() as opened:

        def place(final: Path) -> Path:
            _require_place(final)
            partial = places[final] = opened.enter_context(workplace(final))
            partial.touch()
            modes[final] = _mode(partial)
            partial.unlink()
            return partial

        yield place
        written = {final: partial for final, partial in places.items() if partial.exists()}
        for final, partial in written.items():
            _set_mode(partial, modes[final])
        note(written)
        _name(written)


@contextmanager
def new_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary folder of the same name that takes the place of `path` when the block ends well.

    Raises
    ------
    FileExistsError
        If `path` exists already. Where it appears meanwhile, by another job, nothing is
        overwritten, and what was written here is kept under a free name beside it.
    OSError
        If it cannot be written.
    """
    final = Path(path)
    require_new(final)
    with workplace(final) as partial:
        partial.mkdir()
        mode = _mode(partial)
        yield partial
        for inside in partial.rglob("*"):
            _set_mode(inside, mode if inside.is_dir() else mode & 0o666)
        _name({final: partial})


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


def _name(written: Mapping[Path, Path]) -> None:
    """Give outputs their names, or free ones like them where those have been taken meanwhile."""
    names: dict[Path, Path] = {}
    try:
        for final, partial in written.items():
            names[final] = _named(partial, final)
    except BaseException:
        for name in names.values():
            name.unlink()
        raise
    taken = [str(final) for final, name in names.items() if name != final]
    if taken:
        raise FileExistsError(
            f"{', '.join(taken)} has appeared meanwhile, by another job, and was left as it is: "
            f"what this job found is in {', '.join(map(str, names.values()))}"
        )


def _named(partial: Path, final: Path) -> Path:
    """The name that was free, and is given.

    A link is refused by the system itself where the name is taken, so that of two jobs that end at
    the same time one has it.
    """
    for number in itertools.count(1):
        name = final if number == 1 else final.with_name(f"{final.stem}-{number}{final.suffix}")
        try:
            if not partial.is_dir():
                os.link(partial, name)
                return name
        except FileExistsError:
            continue
        except OSError:  # a file system without links, where two jobs may still meet here
            pass
        if os.path.lexists(name):
            continue
        try:
            return partial.rename(name)
        except OSError as error:  # as of a folder that has something in it
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise
    raise AssertionError


def _require_place(final: Path) -> None:
    allowed = os.access(final.parent, os.W_OK | os.X_OK)
    if not final.parent.is_dir():  # asked last, as it may go at any time
        raise FileNotFoundError(
            f"{final} cannot be written: the folder {final.parent} does not exist"
        )
    if not allowed:
        raise PermissionError(f"{final} cannot be written: no permission to write {final.parent}")
    try:
        final.lstat()
    except FileNotFoundError:
        pass
    except OSError as error:
        raise OSError(
            f"{final} cannot be written ({error.strerror}): name another output"
        ) from None


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def _set_mode(path: Path, mode: int) -> None:
    # Some file systems have no modes to set, and some links lead elsewhere.
    if not path.is_symlink() and _mode(path) != mode:
        path.chmod(mode)
