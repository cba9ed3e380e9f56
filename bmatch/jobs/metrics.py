"""Figures of a long job as it goes: JSON lines for other programs, and scalars for TensorBoard."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from bmatch.jobs.events import EventFile
from bmatch.jobs.phases import peak_bytes
from bmatch.jobs.progress import Progress

_LONGEST = 2**16  # of a line, bytes


class Metrics:
    """Where the figures of one job go.

    Parameters
    ----------
    tell : callable
        Is given a sentence where a place takes no more figures; the job goes on without it.
    file : path, optional
        To which a JSON object a line is added.
    folder : path, optional
        To which TensorBoard's events are added: numbers as scalars, words as text.

    Raises
    ------
    OSError
        If the file or the folder cannot be written to.
    ValueError
        If the file has something else in it, or if events are wanted, and neither tensorboard nor
        tensorboardX is installed.
    """

    def __init__(
        self,
        tell: Callable[[str], object],
        file: str | os.PathLike[str] | None = None,
        folder: str | os.PathLike[str] | None = None,
    ) -> None:
        self._tell, self._file, self._folder = tell, file, folder
        self._step = 0
        if file is not None:
            _require_metrics(file)
            with open(file, "a"):
                pass
        self._events = None if folder is None else EventFile(folder)

    def add(self, figures: Mapping[str, Any], step: int | None = None) -> None:
        """Add figures, and the process's peak memory, to what there is.

        Parameters
        ----------
        figures : mapping of str to number, str or None
            Of a stage of the job, if ``stage`` is among them.
        step : int, optional
            TensorBoard's. Default: that of the figures before.
        """
        figures = {**figures, "peak_bytes": peak_bytes()}
        self._step = self._step if step is None else step
        if self._file is not None:
            try:
                with open(self._file, "a") as file:
                    file.write(json.dumps(figures) + "\n")
            except OSError as error:
                self._no_more(self._file, error)
                self._file = None
        if self._events is not None and self._folder is not None:
            try:
                self._events.add(_tagged(**figures), self._step)
            except OSError as error:
                self._no_more(self._folder, error)
                self.close()

    def close(self) -> None:
        """Close what is open."""
        if self._events is not None:
            with suppress(OSError):
                self._events.close()
            self._events = None

    def _no_more(self, place: str | os.PathLike[str], error: OSError) -> None:
        reason = error.strerror or error
        self._tell(f"{os.fspath(place)} takes no more metrics ({reason})")


def _require_metrics(path: str | os.PathLike[str]) -> None:
    """Refuse to add to what no metrics are in: a name that was mistaken would spoil an input."""
    if not os.path.isfile(path):  # a new one, a pipe or a terminal
        return
    with open(path, "rb") as file:
        first = file.read(_LONGEST).lstrip().partition(b"\n")[0]
    try:
        mine = not first or "peak_bytes" in json.loads(first)
    except (ValueError, TypeError, RecursionError):
        mine = False
    if not mine:
        raise ValueError(
            f"{os.fspath(path)} has something else than metrics in it: name another file"
        )


def followed(progress: Progress, metrics: Metrics) -> Progress:
    """Progress that is shown as before, with a line of metrics for each item that is done."""

    def follow(items: Sequence[Any], description: str) -> Iterable[Any]:
        begin, total = time.monotonic(), len(items)
        for done, item in enumerate(progress(items, description), 1):
            yield item
            seconds = time.monotonic() - begin
            left = seconds / done * (total - done)
            figures = {"stage": description, "done": done, "total": total}
            times = {"seconds": round(seconds, 3), "seconds_left": round(left, 3)}
            metrics.add({**figures, **times}, done)

    return follow


def _tagged(stage: str | None = None, **figures: Any) -> dict[str, Any]:
    """Figures by what TensorBoard calls them: those of a stage stand together."""
    return figures if stage is None else {f"{stage}/{k}": v for k, v in figures.items()}
