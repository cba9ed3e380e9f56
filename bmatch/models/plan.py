"""What writing a checkpoint anew would read, write and take, found out by headers and a sample.

A dry run goes the way of the real one, with every refusal on it, up to where a folder would be
made.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from bmatch.files.mapped import MappedTensors
from bmatch.files.safetensors_copy import TURN, framed_header
from bmatch.jobs.progress import Progress, silent
from bmatch.models.checkpoint import Checkpoint
from bmatch.models.digest import Digest
from bmatch.models.rewrite import LEAST_ROOM, Header, Write, companions, size_of, told_of
from bmatch.taking import Taken

A_THREAD = 8 << 20
"""Bytes that a thread takes beside tensors: pieces, and pages that were read and are not let go."""
_SAMPLED = 32 << 20
"""Bytes of tensors that are transformed for the time it takes."""


@dataclass(frozen=True)
class Plan:
    """What a command would do.

    Attributes
    ----------
    read_bytes, written_bytes : int
    files : int
        How many are written.
    tensors : int
        How many lie in them.
    memory_bytes : int
        The most that it takes beside Python and its libraries.
    free_bytes : int
        Where the output is to be.
    seconds : float
        By what a sample takes of the processor, on as many cores as torch has threads: disks that
        are slower, and others on the cores, make it longer.
    """

    read_bytes: int
    written_bytes: int
    files: int
    tensors: int
    memory_bytes: int
    free_bytes: int
    seconds: float


class Planning:
    """Stands in for `rewrite_checked`: takes what it does, writes nothing, and keeps the plan.

    Parameters
    ----------
    copies : int
        How often a tensor is in memory while it is transformed, itself included.

    Attributes
    ----------
    plan : Plan
        Once it was called.
    """

    plan: Plan

    def __init__(self, copies: int = 1) -> None:
        self._copies = copies

    def __call__(
        self,
        checkpoint: Checkpoint,
        out: str | os.PathLike[str],
        transform: Callable[[str, torch.Tensor], Any],
        progress: Progress = silent,
        description: str = "",
        tell: Callable[[str], None] | None = None,
        header: Header = dict,
        beside: Mapping[str, Write] = MappingProxyType({}),
        like: str | None = None,
    ) -> str:
        """As `rewrite_checked`; no digest comes of it."""
        copied, left_out = companions(checkpoint, beside)
        if left_out and tell is not None:
            tell(told_of(left_out))
        states = [size_of(checkpoint.folder / name) for name in beside]
        others = sum(map(size_of, copied)) + sum(states)
        written, largest, held = others, 0, 0
        for shard in checkpoint.shards:
            with MappedTensors(checkpoint.folder / shard) as file:
                written += len(framed_header(file, header)) + file.size
                for name in file.entries:
                    largest = max(largest, file.num_bytes(name))
                    held = max(held, self._held(name, file.tensor(name), transform))
        self.plan = Plan(
            read_bytes=checkpoint.num_bytes + others,
            written_bytes=written,
            files=len(checkpoint.shards) + len(copied) + len(beside),
            tensors=len(checkpoint.names),
            # A state's file and the new one are mapped whole.
            memory_bytes=memory_of(largest, held, len(checkpoint.shards), self._copies)
            + 2 * max(states, default=0),
            free_bytes=shutil.disk_usage(Path(out).absolute().parent).free,
            seconds=written * seconds_a_byte(_sample(checkpoint), transform, hashed=True),
        )
        return ""

    def _held(self, name: str, tensor: torch.Tensor, transform: Callable[..., Any]) -> int:
        """Bytes of a tensor that are held while it is written: few where its rows stay in order."""
        if self._copies > 1:  # it is made whole
            return tensor.nbytes
        moved = transform(name, tensor)
        in_order = isinstance(moved, Taken) and moved.in_order
        return min(tensor.nbytes, TURN) if in_order else tensor.nbytes


def memory_of(largest: int, held: int, files: int, copies: int = 1) -> int:
    """The most memory that writing takes.

    Parameters
    ----------
    largest, held : int
        Bytes of the largest tensor, and of the largest that is held while it is written.
    files : int
    copies : int
        How often a tensor is in memory while it is transformed.
    """
    threads = torch.get_num_threads()
    at_once = min(max(largest, LEAST_ROOM), held * min(threads, files))
    # One is transformed at a time, in so many copies; others wait to be written, read and made.
    return at_once * min(copies, 2) + held * max(0, copies - 2) + (threads + 1) * A_THREAD


def seconds_a_byte(
    tensors: Iterable[tuple[str, torch.Tensor]],
    transform: Callable[[str, torch.Tensor], Any],
    hashed: bool,
) -> float:
    """What a byte of some tensors takes to be transformed, hashed and written to memory.

    Processor time, over as many cores as torch has threads.
    """
    bytes_, begin = 0, time.process_time()
    memory = os.memfd_create("sample")
    try:
        for name, tensor in tensors:
            moved = transform(name, tensor)
            moved = moved if isinstance(moved, Taken) else Taken(moved)
            moved.write(memory, 0, 0, moved.rows)
            if hashed:
                Digest().add(name, tensor)
            bytes_ += tensor.nbytes
    finally:
        os.close(memory)
    taken = time.process_time() - begin
    return taken / max(bytes_, 1) / min(torch.get_num_threads(), len(os.sched_getaffinity(0)))


def _sample(checkpoint: Checkpoint) -> Iterator[tuple[str, torch.Tensor]]:
    """Some tensors of one shard, the larger ones of those that are not too large."""
    shard = next(iter(checkpoint.shards))
    with MappedTensors(checkpoint.folder / shard) as file:
        left = _SAMPLED
        for name in sorted(file.entries, key=lambda name: -file.num_bytes(name)):
            if file.num_bytes(name) <= left:
                left -= file.num_bytes(name)
                yield name, file.tensor(name)
