"""Small safetensors files of bmatch's own: a format, a version, tensors, a header of strings."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bmatch.files.atomic import new_file
from bmatch.files.pointers import require_content

_VERSION = "1"


def write(
    path: str | os.PathLike[str],
    kind: str,
    tensors: Mapping[str, npt.NDArray[Any]],
    header: Mapping[str, str],
) -> None:
    """Write ``bmatch.<kind>`` tensors and header to `path`, all or nothing.

    Raises
    ------
    OSError
        If the file cannot be written; one that was there before is kept.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    full_header = {**header, "format": f"bmatch.{kind}", "format_version": _VERSION}
    # Names of files need not be UTF-8, and a header is.
    encodable = {
        key: value.encode(errors="backslashreplace").decode() for key, value in full_header.items()
    }
    contiguous = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    with new_file(path) as partial:
        try:
            save_file(contiguous, partial, metadata=encodable)
            _in_order(partial)
        except SafetensorError as error:
            raise _unwritten(path, str(error)) from None


def _unwritten(path: str | os.PathLike[str], told: str) -> OSError:
    """What the system said, whose number safetensors tells."""
    number = re.search(r"\(os error (\d+)\)", told)
    if number is not None:
        return OSError(int(number[1]), os.strerror(int(number[1])), os.fspath(path))
    return OSError(f"{os.fspath(path)} could not be written ({told}): nothing was left behind")


def _in_order(path: Path) -> None:
    """Brings the entries of a header in order, which safetensors leaves to chance."""
    with path.open("r+b") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        ordered = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
        if len(ordered) <= size:  # it is the same content: data stay where they are
            file.seek(8)
            file.write(ordered.ljust(size))


def read(
    path: str | os.PathLike[str], kind: str, names: Iterable[str] | None = None
) -> tuple[dict[str, npt.NDArray[Any]], dict[str, str]]:
    """Read what `write` wrote: the tensors of these names, all by default, and the header.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is damaged, is a Git-LFS pointer, is of another kind, or of a version that is
        not known.
    """
    wanted = None if names is None else list(names)
    with _opened(path, kind, wanted or ()) as (file, header):
        keys = sorted(file.keys()) if wanted is None else wanted
        tensors = {key: file.get_tensor(key) for key in keys}
    return tensors, header


def names(path: str | os.PathLike[str], kind: str) -> frozenset[str]:
    """Names of the tensors in a file that `write` wrote; raises as `read` does."""
    with _opened(path, kind) as (file, _):
        return frozenset(file.keys())


@contextmanager
def _opened(
    path: str | os.PathLike[str], kind: str, wanted: Iterable[str] = ()
) -> Iterator[tuple[Any, dict[str, str]]]:
    """A file of this kind and version with these tensors, and its header."""
    from safetensors import SafetensorError, safe_open

    name = os.fspath(path)
    if not os.path.isfile(path):
        if os.path.exists(path):
            raise ValueError(f"{name} is no ordinary file, and a {kind} is one")
        raise FileNotFoundError(f"there is no {kind} file {name}")
    require_content(path)
    try:
        with safe_open(path, framework="numpy") as file:
            header = dict(file.metadata() or {})
            if header.get("format") != f"bmatch.{kind}" or not set(wanted) <= set(file.keys()):
                raise ValueError(f"{name} is a safetensors file, but holds no {kind}")
            if header.get("format_version") != _VERSION:
                raise ValueError(
                    f"{name} has format version {header.get('format_version')}, and this bmatch "
                    f"reads version {_VERSION}: upgrade bmatch"
                )
            yield file, {k: v for k, v in header.items() if k not in ("format", "format_version")}
    except (SafetensorError, TypeError) as error:  # TypeError: a dtype that NumPy has not
        raise ValueError(f"{name} is not a safetensors file, or is damaged ({error})") from None
