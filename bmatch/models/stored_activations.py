"""Activations that lie on disk, read a few tokens at a time: npy, safetensors and zarr, in pieces.

A file is a stream of one site (npy) or of several (safetensors: a tensor each). In a folder npy
files are pieces of one stream, in the order of the numbers in their names; in subfolders, of one
stream each. Safetensors files of a folder are pieces of those streams that they name. An array of
zarr is as an npy file, and a group of arrays as a safetensors file.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from bmatch.jobs.progress import Progress, silent
from bmatch.models.activations import SitePair, Sites
from bmatch.models.checkpoint import INDEX, SINGLE
from bmatch.models.stored_pieces import Piece, pieces_of_file
from bmatch.models.zarr_pieces import is_zarr, pieces_of_zarr

_HASHED = 1 << 24  # bytes that are read at a time
_KINDS = ("*.npy", "*/*.npy", "*.safetensors", "*.zarr")
"""What a folder holds, of one kind."""


@dataclass(frozen=True, eq=False)
class StoredActivations:
    """Streams of a model at some sites, on disk: row t of each is the same token.

    Attributes
    ----------
    path : Path
        The file or folder.
    sites : tuple of str
        Names of the streams, numbers in them in their order; of a single one it may be empty.
    tokens : int
        Rows of each.
    dim : int
        D.
    """

    path: Path
    sites: tuple[str, ...]
    tokens: int
    dim: int
    _pieces: dict[str, tuple[Piece, ...]]
    _last: dict[int, Piece] = field(default_factory=dict)
    """Of a site: the one that was read last, which may hold memory."""

    @property
    def held_bytes(self) -> int:
        """What stays in memory between reads, at most: chunks of zarr, one range a site."""
        return sum(max(p.held_bytes for p in pieces) for pieces in self._pieces.values())

    def read(self, site: int, rows: range) -> torch.Tensor:
        """Rows of the stream of a site, float32 [N, D]; no others are read."""
        found = torch.empty(len(rows), self.dim)
        for piece, first, count, at in self._parts(site, rows):
            values = self._values(site, piece, first, count)
            if piece.bfloat16:
                block = torch.from_numpy(np.array(values)).view(torch.bfloat16)
            else:
                with np.errstate(over="ignore"):  # infinity is refused where it is counted
                    block = torch.from_numpy(np.array(values, np.float32))
            found[at : at + count] = block
        return found

    def counted(self, rows: range, skip_positions: int) -> torch.Tensor:
        """Which rows count, bool [N]: not the first of a sequence, where it is known which are."""
        found = torch.ones(len(rows), dtype=torch.bool)
        for piece, first, count, at in self._parts(0, rows):
            if piece.sequence:
                position = torch.arange(first, first + count) % piece.sequence
                found[at : at + count] = position >= skip_positions
        return found

    def first_rows(self, tokens: int | None) -> range:
        """So many of them, or all.

        Raises
        ------
        ValueError
            If there are fewer, or a correlation needs more.
        """
        if tokens is not None and not 2 <= tokens <= self.tokens:
            raise ValueError(
                f"tokens must be from 2 to {self.tokens:,}, which {self.path} holds; got {tokens:,}"
            )
        return range(self.tokens if tokens is None else tokens)

    def sha256(self, progress: Progress = silent, description: str = "") -> str:
        """Of names, types and all numbers."""
        taken = hashlib.sha256()
        for number, name in enumerate(progress(self.sites, description)):
            kinds = sorted({(piece.dtype, piece.bfloat16) for piece in self._pieces[name]})
            taken.update(repr((name, self.dim, self.tokens, kinds)).encode())
            step = max(1, _HASHED // (8 * self.dim))
            for start in range(0, self.tokens, step):
                rows = range(start, min(start + step, self.tokens))
                for piece, first, count, _ in self._parts(number, rows):
                    taken.update(self._values(number, piece, first, count).data)
            if (last := self._last.pop(number, None)) is not None:
                last.let_go()
        return taken.hexdigest()

    def _values(self, site: int, piece: Piece, first: int, count: int) -> npt.NDArray[Any]:
        if (last := self._last.get(site, piece)) is not piece:
            last.let_go()
        self._last[site] = piece
        return piece.values(first, count)

    def _parts(self, site: int, rows: range) -> Iterator[tuple[Piece, int, int, int]]:
        """Pieces that hold some rows: from where in it, how many, and where among them these go."""
        begin = 0
        for piece in self._pieces[self.sites[site]]:
            first, last = max(rows.start, begin), min(rows.stop, begin + piece.rows)
            if first < last:
                yield piece, first - begin, last - first, first - rows.start
            begin += piece.rows


def are_activations(path: str | os.PathLike[str]) -> bool:
    """Whether something at a path looks like activations, and not like a checkpoint."""
    path = Path(path)
    if path.is_file():
        return path.suffix in (".npy", ".safetensors")
    if not path.is_dir() or any((path / n).exists() for n in ("config.json", INDEX, SINGLE)):
        return False
    return is_zarr(path) or any(next(path.glob(kind), None) for kind in _KINDS)


def open_activations(path: str | os.PathLike[str]) -> StoredActivations:
    """Find the streams in a file or folder, whose numbers are not read yet.

    Parameters
    ----------
    path : path
        Streams are float64, float32, float16 or bfloat16 (safetensors) of shape [T, D], or
        [sequences, L, D], whose first tokens are then known. Tensors of whole numbers, and of one
        axis, are passed over. Arrays and groups of zarr (formats 2 and 3) need the package zarr.

    Raises
    ------
    FileNotFoundError
        If there is nothing, or no such file in it.
    ValueError
        If a file is damaged, of a type or order that is not read, or streams differ in their width
        or number of tokens.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"there are no activations {path}")
    pieces: dict[str, list[Piece]] = {}
    widths: dict[int, str] = {}
    for site, file in _files(path):
        for name, piece in (pieces_of_zarr if file.is_dir() else pieces_of_file)(site, file):
            pieces.setdefault(name, []).append(piece)
            widths.setdefault(piece.dim, name or str(file))
    if not pieces:
        raise FileNotFoundError(
            f"{path} holds no activations: npy, safetensors or zarr files of floats [T, D] or "
            "[sequences, L, D]"
        )
    counts = {sum(piece.rows for piece in found): name for name, found in pieces.items()}
    for what, found in (("widths", widths), ("numbers of tokens", counts)):
        if len(found) > 1:
            told = ", ".join(f"{number} ({name})" for number, name in sorted(found.items())[:3])
            raise ValueError(
                f"streams in {path} are of several {what}, {told}: they have to be of one (a "
                "checkpoint's folder has its config.json)"
            )
    names = sorted(pieces, key=_natural)
    (tokens,), (dim,) = counts, widths
    return StoredActivations(
        path, tuple(names), tokens, dim, {name: tuple(pieces[name]) for name in names}
    )


def pair_stored(
    target: StoredActivations, source: StoredActivations, sites: Sites
) -> tuple[SitePair, ...]:
    """Sites that are held against each other, by their places among all.

    Parameters
    ----------
    target, source : StoredActivations
    sites : "all" or sequence of int
        Places in the order of names, from the end where negative.

    Raises
    ------
    ValueError
        If widths, numbers of tokens or names differ (names of single streams may), or a place is
        out of range.
    """
    for what, ours, theirs in (
        ("coordinates", target.dim, source.dim),
        ("tokens", target.tokens, source.tokens),
    ):
        if ours != theirs:
            raise ValueError(
                f"{source.path} has {theirs} {what} and {target.path} {ours}: row t of both has to "
                "be the same token, in streams of one width"
            )
    count = len(target.sites)
    if (count > 1 and target.sites != source.sites) or count != len(source.sites):
        apart = sorted({*target.sites} ^ {*source.sites}, key=_natural)[:3]
        raise ValueError(
            f"{source.path} and {target.path} hold streams of different sites ({', '.join(apart)})"
        )
    numbers = range(count) if isinstance(sites, str) else list(sites)
    if sites != "all" and not (numbers and all(-count <= k < count for k in numbers)):
        raise ValueError(f"sites must be 'all' or numbers from 0 to {count - 1}, got {sites!r}")
    return tuple(SitePair(k, k) for k in sorted({k % count for k in numbers}))


def _files(path: Path) -> Iterator[tuple[str, Path]]:
    """Files of a folder in their order, with the site that a folder says; or the file itself."""
    if path.is_file() or is_zarr(path):
        yield "", path
        return
    kinds = {
        kind: sorted(path.glob(kind), key=lambda file: _natural(str(file.relative_to(path))))
        for kind in _KINDS
    }
    there = [kind for kind, files in kinds.items() if files]
    if len(there) > 1:
        raise ValueError(f"{path} holds {' and '.join(there)}: activations are of one of these")
    for kind in there:
        for file in kinds[kind]:
            yield file.parent.name if kind == "*/*.npy" else "", file


def _natural(name: str) -> list[tuple[int, str]]:
    """Numbers in a name by their size."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]
