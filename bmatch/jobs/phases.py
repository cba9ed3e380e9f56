"""Wall-clock seconds and peak memory of the phases of a job."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class Phase:
    """What one phase took.

    Attributes
    ----------
    name : str
    seconds : float
    peak_bytes : int
        Largest resident memory of the process while the phase ran. Where the system cannot
        start the count anew (outside Linux), the largest since the process started.
    """

    name: str
    seconds: float
    peak_bytes: int


@contextmanager
def phase(name: str, finished: list[Phase]) -> Iterator[None]:
    """Measure the block and append the result to `finished`."""
    _forget_peak()
    start = time.perf_counter()
    yield
    finished.append(Phase(name, time.perf_counter() - start, peak_bytes()))


def _forget_peak() -> None:
    try:
        _CLEAR.write_text("5")  # resets VmHWM (man 5 proc)
    except OSError:
        return


def peak_bytes() -> int:
    """Largest resident memory of this process since it started, or since a phase began."""
    return _told("VmHWM:")


def peak_bytes_of_processes() -> int:
    """The largest of the peaks of those processes that this one started, and that are over."""
    return _in_bytes(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)


def resident_bytes() -> int:
    """Resident memory of this process now; where the system does not tell, its largest so far."""
    return _told("VmRSS:")


def _told(name: str) -> int:
    try:
        status = _STATUS.read_text()
    except OSError:
        return _in_bytes(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    line = next(line for line in status.splitlines() if line.startswith(name))
    return 1024 * int(line.split()[1])


def _in_bytes(told: int) -> int:
    """Of what getrusage tells: bytes on macOS, KiB elsewhere."""
    return told if sys.platform == "darwin" else 1024 * told
