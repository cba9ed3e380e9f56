"""How benchmarks measure: calls that take turns in one process, and what their times come to."""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

Key = TypeVar("Key")
Found = TypeVar("Found")


_EVERY = 10.0  # seconds from line to line of a long stage


class Spread(NamedTuple):
    """The 20th, 50th and 80th percentile; NaN where it is not known."""

    p20: float
    p50: float
    p80: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """Percentiles of measurements; of a single one, that one."""
        known = list(values)
        if len(known) == 1:
            return cls(*known * 3)
        cuts = statistics.quantiles(known, n=5, method="inclusive")
        return cls(cuts[0], statistics.median(known), cuts[3])


def in_turns(
    calls: Mapping[Key, Callable[[], Found]],
    rounds: int | Mapping[Key, int],
    seed: int,
    warm_up: bool = False,
) -> dict[Key, list[Found]]:
    """What every call returns, round after round.

    Each round takes the calls in a random order of its own, or the same neighbour would always
    leave each its cache. What disturbs the machine for a while disturbs all of them.

    Parameters
    ----------
    calls : mapping of str to callable
        Usually each runs something and returns its seconds: see `timed`.
    rounds : int or mapping
        How often each is called; those that are called less often take part in the first rounds.
    seed : int
        Of the orders.
    warm_up : bool
        Whether all are called once before, uncounted.
    """
    if warm_up:
        for call in calls.values():
            call()
    wanted = dict.fromkeys(calls, rounds) if isinstance(rounds, int) else rounds
    found: dict[Key, list[Found]] = {key: [] for key in calls}
    order = random.Random(seed)
    for k in range(max(wanted.values(), default=0)):
        turn = [key for key in calls if k < wanted[key]]
        for key in order.sample(turn, len(turn)):
            found[key].append(calls[key]())
    return found


def timed(call: Callable[[], Any], device: Any = None) -> Callable[[], float]:
    """A call that returns its seconds in place of its answer."""
    return lambda: seconds(call, device)


def seconds(call: Callable[[], Any], device: Any = None) -> float:
    """Time of one call, by the clock that `clock` names.

    Where a torch device is named, work that is still on it counts, too.
    """
    if device is not None and device.type == "cuda":
        import torch

        torch.cuda.synchronize(device)
        begin = time.perf_counter()
        call()
        torch.cuda.synchronize(device)
        return time.perf_counter() - begin
    now = time.process_time if clock(device) == "processor" else time.perf_counter
    begin = now()
    call()
    return now() - begin


def clock(device: Any = None) -> str:
    """Whose time is told: the processor's where torch works in one thread, else the wall's.

    Other programs on the machine disturb the processor's time least.
    """
    if device is None or device.type == "cuda":
        return "wall"
    import torch

    return "processor" if torch.get_num_threads() == 1 else "wall"


def telling(items: Sequence[Found], description: str) -> Iterator[Found]:
    """The items of a long stage; a line now and then says how far it has come and what is left."""
    begin = told = time.monotonic()
    print(f"{description}: {len(items)} to do", flush=True)
    for done, item in enumerate(items):
        now = time.monotonic()
        if now - told >= _EVERY:
            left = (now - begin) / done * (len(items) - done)
            print(f"{description}: {done} of {len(items)}, {left:.0f} s left", flush=True)
            told = now
        yield item
    print(f"{description}: done in {time.monotonic() - begin:.0f} s", flush=True)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Options of benchmarks that may run on a device, whose time is limited."""
    parser.add_argument("--quick", action="store_true", help="a minute: few sizes, few repeats")
    parser.add_argument("--seconds", type=float, help="begin nothing more after so many seconds")


def until(limit: float | None) -> Callable[[], bool]:
    """Tells whether there is time left to begin another case."""
    end = float("inf") if limit is None else time.monotonic() + limit

    def left() -> bool:
        return time.monotonic() < end

    return left
