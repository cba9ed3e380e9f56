"""Pointers of Git LFS: what lies in a clone in place of a large file that was not fetched."""

from __future__ import annotations

import os

_FIRST_LINE = b"version https://git-lfs.github.com/spec/v1"


def require_content(path: str | os.PathLike[str]) -> None:
    """Refuse a file that only points to what should be there.

    Raises
    ------
    ValueError
        If it is a Git-LFS pointer.
    OSError
        If it cannot be read.
    """
    with open(path, "rb") as file:
        pointer = file.read(len(_FIRST_LINE)) == _FIRST_LINE
    if pointer:
        raise ValueError(
            f"{os.fspath(path)} is a Git-LFS pointer and not the file itself: fetch it with "
            "`git lfs pull`"
        )
