"""What `carry` would read, write and take for an object, found out without its numbers."""

from __future__ import annotations

import os
import shutil
from functools import partial
from pathlib import Path

import torch

from bmatch.files.atomic import require_new
from bmatch.files.containers import with_notes
from bmatch.files.mapped import MappedTensors
from bmatch.files.safetensors_copy import framed_header
from bmatch.groups import Gauge
from bmatch.models.plan import Plan, memory_of, seconds_a_byte
from bmatch.models.rewrite import size_of
from bmatch.transport.neuron_lists import NeuronList
from bmatch.transport.objects import (
    StreamObject,
    has_room,
    notes_of,
    require_fit,
    sidecar_text,
)
from bmatch.transport.training import TrainingRun
from bmatch.transport.weights import copies_under, lazily

_SAMPLE = 16 << 20
"""Bytes of zeros that are carried for the time it takes."""


def plan_of(
    found: StreamObject | NeuronList | TrainingRun,
    gauge: Gauge,
    out: str | os.PathLike[str],
    other_model: bool = False,
) -> Plan:
    """The plan of carrying an object; files of other formats than safetensors count as they are.

    Parameters
    ----------
    found, gauge, out, other_model
        As for `carry`.

    Raises
    ------
    ValueError, FileExistsError
        As `carry`, as far as shapes, hashes and headers tell.
    """
    require_new(Path(out))
    path = Path(found.path)
    files = sorted(f for f in path.rglob("*") if f.is_file()) if path.is_dir() else [path]
    read = size_of(path)
    written, sidecars, tensors, largest = read, 0, 0, 0  # largest: bytes of a tensor
    if isinstance(found, StreamObject):
        require_fit(found, gauge, other_model)
        notes = notes_of(gauge)
        for part in found.parts:
            tensors += len(part.moves)
            if not part.container.has_room:
                largest = max(largest, size_of(part.path))  # read whole, or mapped whole
                continue
            with MappedTensors(part.path) as file:
                header = framed_header(file, partial(with_notes, notes=notes))
                written += len(header) - file.begin
                largest = max([largest, *map(file.num_bytes, file.entries)])
        if not has_room(found):
            written += len(sidecar_text(notes).encode())
            sidecars = 1
    else:
        largest = max(map(size_of, files))
    copies = copies_under(gauge) * (1 if isinstance(found, StreamObject) and has_room(found) else 2)
    sample = torch.zeros(_SAMPLE // 4 // gauge.dim, gauge.dim)
    return Plan(
        read_bytes=read,
        written_bytes=written,
        files=len(files) + sidecars,
        tensors=tensors,
        memory_bytes=memory_of(largest, largest, 1, copies),
        free_bytes=shutil.disk_usage(Path(out).absolute().parent).free,
        seconds=written
        * seconds_a_byte(
            [("", sample)], lambda _, tensor: gauge.apply(lazily(tensor, gauge)), hashed=False
        ),
    )
