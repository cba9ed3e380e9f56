"""How the command line talks: progress on standard error, results on standard output.

Nobody need be listening: where a reader goes away, the job still runs to its end.
"""

from __future__ import annotations

import ctypes
import io
import json
import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from typing import Any, TextIO

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text


class _Console(Console):
    def on_broken_pipe(self) -> None:
        _discard(sys.stderr if self.stderr else sys.stdout)


out = _Console()
err = _Console(stderr=True)

_bars: list[Progress] = []  # those that are up
_json: list[str] = []  # what is to be printed when all is over
_when_told: list[Callable[[int], object]] = []  # what is to be done then


def prepare() -> None:
    """Make sure of the standard streams, before any file is opened."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:  # closed: the next file would take its place, and what is printed with it
            os.open(os.devnull, os.O_RDWR)
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # names may have letters that a terminal has not
            stream.reconfigure(errors="backslashreplace")


def finish(code: int) -> int:
    """Write out what is left for standard output; the exit code, in view of how that went."""
    try:
        if code in (0, 3):  # 3 is an answer, too
            sys.stdout.writelines(_json)
        sys.stdout.flush()
        for call in _when_told if code in (0, 3) else ():
            call(code)
    except BrokenPipeError:
        _discard(sys.stdout)
    except OSError as error:
        _discard(sys.stdout)
        if code == 0:
            fail(str(_unwritten(error)))
            return 1
    finally:
        _json.clear()
        _when_told.clear()
    return code


def when_told(call: Callable[[int], object]) -> None:
    """Have it called with the exit code once an answer has been printed to its end."""
    _when_told.append(call)


def _unwritten(error: OSError) -> OSError:
    return OSError(f"standard output cannot be written: {error.strerror}")


def _discard(stream: TextIO) -> None:
    """From now on, let what is written to the stream go nowhere."""
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), stream.fileno())


def track(items: Sequence[Any], description: str) -> Iterator[Any]:
    """The items, under a bar with the time left; the bar goes when it is done."""
    with Progress(
        SpinnerColumn(_spinner()),
        TextColumn("{task.description:<18}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TextColumn("elapsed"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=err,
        transient=True,
        disable=not err.is_terminal,
    ) as progress:
        _bars.append(progress)
        yield from progress.track(items, description=description)
        _bars.clear()


@contextmanager
def working(description: str) -> Iterator[None]:
    """A spinner while something takes its time that cannot be divided."""
    with err.status(description, spinner=_spinner()):
        yield


def _spinner() -> str:
    return "dots" if err.encoding.startswith("utf") else "line"


def show(content: RenderableType, **options: Any) -> None:
    """A table, for example, on standard output."""
    try:
        out.print(content, **options)
    except OSError as error:
        raise _unwritten(error) from None


def say(message: str) -> None:
    """A line of plain text on standard output."""
    show(message, highlight=False, markup=False, soft_wrap=True)


def say_peaks(peaks: Sequence[int], foreseen: int = 0) -> None:
    """The largest memory of each rank in bytes, and what was foreseen, if it was."""
    told = ", ".join(f"{peak / 1e6:,.0f}" for peak in peaks)
    whose = " of the ranks" if len(peaks) > 1 else ""
    say(f"largest memory{whose}: {told} MB{f' ({foreseen / 1e6:,.0f} foreseen)' * bool(foreseen)}")


def print_json(values: Mapping[str, Any]) -> None:
    """One JSON object on standard output when all is over, with null for what is not finite."""
    _json.append(json.dumps(_finite(values), indent=2, allow_nan=False) + "\n")


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@contextmanager
def unheard() -> Iterator[None]:
    """While it lasts, what Python writes to standard output goes nowhere."""
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
        yield


@contextmanager
def only_json() -> Iterator[None]:
    """While it lasts, what anything writes to standard output goes to standard error.

    That holds for libraries in Python and in C, and for processes that they start.
    """
    sys.stdout.flush()
    stdout = os.dup(1)
    os.dup2(2, 1)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        ctypes.CDLL(None).fflush(None)  # what C code has in hand goes the same way
        os.dup2(stdout, 1)
        os.close(stdout)


def note(message: str) -> None:
    """Something worth knowing that is no error."""
    err.print(Text.assemble(("note: ", "yellow"), message), soft_wrap=True)


def fail(message: str) -> None:
    """The one sentence that says what went wrong."""
    while _bars:  # a bar still up would overwrite the sentence
        _bars.pop().stop()
    err.print(Text.assemble(("error: ", "bold red"), message), soft_wrap=True)


def quiet_transformers() -> None:
    """Its bars and advice would run through ours. To be called before it is imported."""
    os.environ["TQDM_DISABLE"] = "1"  # read once, when tqdm is imported
    from transformers.utils import logging

    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
