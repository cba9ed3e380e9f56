"""SHA-256 of many streams of bytes, several at once where the processor gains by it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bmatch import _core

_BLOCK = 64
_SMALL = 1 << 16
"""Bytes below which a stream is not worth a lane."""
_ALONE = {2: 0.8}
_ALONE_OF_MANY = 0.3
"""Time that the library takes for a block of one stream, where so many lanes take one of each."""
_TURN = 1 << 12
"""Blocks of each stream that are taken in by one call."""
_START = np.array(
    (
        *(0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A),
        *(0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19),
    ),
    np.uint32,
)


@dataclass
class Stream:
    """What is hashed: a few bytes, and those of an array behind them.

    Attributes
    ----------
    name : str
    head : bytes
    content : uint8 [n]
    passed : callable
        Is told how many bytes of the content were hashed, now and then, while a cache has them.
    """

    name: str
    head: bytes
    content: npt.NDArray[np.uint8]
    passed: Callable[[int], None] = lambda _: None


def sha256_of(streams: Iterable[Stream], sizes: Sequence[int]) -> Iterator[tuple[str, str]]:
    """Hash streams: of each its name and hexadecimal digest, as they are done.

    Parameters
    ----------
    streams : iterable of Stream
        The longest first. As many are asked for as are hashed at once.
    sizes : sequence of int
        Of each of them, in any unit.
    """
    lanes = _core.sha256_lanes()
    longest = _longest_in_a_lane(sizes, lanes)
    free = [_Lane() for _ in range(lanes)]
    states = np.empty((8, lanes), np.uint32)
    waiting = zip(streams, sizes, strict=True)
    while True:
        for number, lane in enumerate(free):
            while lane.stream is None and (found := next(waiting, None)) is not None:
                stream, size = found
                if size > longest or stream.content.nbytes < _SMALL:
                    yield stream.name, _alone(stream)
                else:
                    lane.take(stream)
                    states[:, number] = _START
        busy = [lane for lane in free if lane.stream is not None]
        if not busy:
            return
        count = min(_TURN, *(lane.blocks for lane in busy))
        # A lane without a stream hashes along with another, for nothing.
        places = [(lane if lane.stream else busy[0]).place for lane in free]
        _core.sha256_blocks(states, np.array(places, np.uint64), count)
        for number, lane in enumerate(free):
            if lane.stream is not None and lane.moved(count):
                yield lane.stream.name, states[:, number].astype(">u4").tobytes().hex()
                lane.stream = None


def _longest_in_a_lane(sizes: Sequence[int], lanes: int) -> int:
    """The size above which streams are hashed alone: one alone in its lane would take longer."""
    if lanes == 1:
        return 0
    before, rest = 0, sum(sizes)
    alone = _ALONE.get(lanes, _ALONE_OF_MANY)
    times = [(alone * rest, 0)]
    for size in sizes:  # those before it alone, it and all after it in lanes
        times.append((alone * before + max(size, rest / lanes), size))
        before += size
        rest -= size
    return min(times)[1]


def _alone(stream: Stream) -> str:
    part = hashlib.sha256(stream.head)
    step = _BLOCK * _TURN
    for begin in range(0, stream.content.nbytes, step):
        piece = stream.content[begin : begin + step]
        part.update(piece.data)
        stream.passed(begin + piece.nbytes)
    return part.hexdigest()


class _Lane:
    """The place of one stream: up to three runs of whole blocks, the ends of it put together."""

    def __init__(self) -> None:
        self.stream: Stream | None = None
        self.place = 0  # an address
        self.blocks = 0  # of this run
        self._runs: list[Any] = []
        self._hashed = 0  # bytes

    def take(self, stream: Stream) -> None:
        content, total = stream.content, len(stream.head) + stream.content.nbytes
        begin = -len(stream.head) % _BLOCK
        end = begin + (content.nbytes - begin) // _BLOCK * _BLOCK
        rest = content[end:].tobytes() + b"\x80"
        rest += bytes(-(len(rest) + 8) % _BLOCK) + (8 * total).to_bytes(8, "big")
        head = stream.head + content[:begin].tobytes()
        runs = (np.frombuffer(head, np.uint8), content[begin:end], np.frombuffer(rest, np.uint8))
        self._runs = [run for run in runs if run.nbytes]
        self.stream = stream
        self._hashed = 0
        self._next()

    def _next(self) -> None:
        self.place, self.blocks = self._runs[0].ctypes.data, self._runs[0].nbytes // _BLOCK

    def moved(self, count: int) -> bool:
        """Takes note of blocks that were taken in; whether they were the last."""
        assert self.stream is not None
        self.place += count * _BLOCK
        self.blocks -= count
        self._hashed += count * _BLOCK
        inside = self._hashed - len(self.stream.head)
        self.stream.passed(min(max(inside, 0), self.stream.content.nbytes))
        if not self.blocks:
            del self._runs[0]
            if self._runs:
                self._next()
        return not self._runs
