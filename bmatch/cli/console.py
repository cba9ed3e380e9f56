"""How the command line talks: progress on standard error, results on standard output."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
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

out = Console()
err = Console(stderr=True)

_bars: list[Progress] = []  # those that are up


def track(items: Sequence[Any], description: str) -> Iterator[Any]:
    """The items, under a bar with the time left; the bar goes when it is done."""
    with Progress(
        SpinnerColumn(),
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
    with err.status(description):
        yield


def say(message: str) -> None:
    """A line of plain text on standard output."""
    out.print(message, highlight=False, markup=False, soft_wrap=True)


def print_json(values: Mapping[str, Any]) -> None:
    """One JSON object on standard output, and nothing else."""
    json.dump(values, sys.stdout, indent=2, allow_nan=False)
    sys.stdout.write("\n")


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
