"""TensorBoard's event files, by tensorboard or tensorboardX.

Their `SummaryWriter` hands events to a thread. Where the disk is full that thread dies: that of
tensorboard with a traceback, and tensorboardX waits for it for ever. So events are written at once.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any


class EventFile:
    """One file of events in a folder, which TensorBoard shows beside others there.

    Parameters
    ----------
    folder : path
        Made where it is not there.

    Raises
    ------
    OSError
        If it cannot be written to; so do the methods.
    ValueError
        If neither tensorboard nor tensorboardX is installed.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        for library in (_tensorboard, _tensorboardx):
            with suppress(ImportError):
                self._make, self._summary, opened = library()
                break
        else:
            raise ValueError(
                "TensorBoard's events are written by tensorboard or tensorboardX, and neither is "
                "installed: pip install tensorboard, or take JSON lines (--metrics)"
            )
        os.makedirs(folder, exist_ok=True)
        name = f"events.out.tfevents.{time.time():.6f}.{socket.gethostname()}.{os.getpid()}"
        self._records = opened(Path(folder) / name)
        self._write(file_version="brain.Event:2")

    def add(self, figures: Mapping[str, Any], step: int) -> None:
        """Numbers as scalars, words as text; None is passed over."""
        for name, value in figures.items():
            if isinstance(value, str):
                self._write(step=step, summary=self._summary.text(name, value))
            elif value is not None:
                self._write(step=step, summary=self._summary.scalar(name, value))
        self._records.flush()

    def close(self) -> None:
        """Close the file; nothing is left to be written."""
        self._records.close()

    def _write(self, **fields: Any) -> None:
        self._records.write(self._make(wall_time=time.time(), **fields).SerializeToString())


_Library = tuple[Callable[..., Any], Any, Callable[[Path], Any]]
"""What makes an event, the module that makes summaries, and what opens a file of records."""


def _tensorboard() -> _Library:
    torch_has = import_module("torch.utils.tensorboard")  # first: it asks for the version
    event = import_module("tensorboard.compat.proto.event_pb2").Event
    summary = import_module("torch.utils.tensorboard.summary")
    return event, summary, lambda path: torch_has.RecordWriter(path.open("xb"))


def _tensorboardx() -> _Library:
    records, summary, events = (
        import_module(f"tensorboardX.{name}")
        for name in ("record_writer", "summary", "proto.event_pb2")
    )
    return events.Event, summary, lambda path: records.RecordWriter(os.fspath(path))
