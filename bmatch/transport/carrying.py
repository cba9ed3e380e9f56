"""Any object that `find_object` has found, written in other coordinates."""

from __future__ import annotations

import os

from bmatch.groups import Gauge
from bmatch.jobs.progress import Progress, silent
from bmatch.transport import objects
from bmatch.transport.neuron_lists import NeuronList, carry_list
from bmatch.transport.objects import StreamObject
from bmatch.transport.training import TrainingRun, carry_run


def carry(
    found: StreamObject | NeuronList | TrainingRun,
    gauge: Gauge,
    out: str | os.PathLike[str],
    progress: Progress = silent,
    *,
    signed: bool | None = None,
    other_model: bool = False,
) -> None:
    """Write an object in the coordinates that a gauge leads to: what ``bmatch transport`` does.

    Parameters
    ----------
    found : StreamObject, NeuronList or TrainingRun
        What `find_object` has found.
    gauge : SignedPermutation or OrthogonalGauge
        From the object's coordinates to those wanted.
    out : path
        A file or folder, as the object is, that does not exist yet; it appears when it is complete.
    progress : callable, optional
        How to show how far it has come (see `bmatch.jobs.progress`).
    signed : bool, optional
        Whether the weights of a list have the signs of coordinates, where it does not tell.
    other_model : bool
        Whether to go on where the object was carried to other weights than the gauge starts at.

    Raises
    ------
    ValueError
        If the gauge acts on another width or starts at other weights, or cannot act on a tensor.
    FileExistsError, OSError
        If `out` exists or cannot be written. Nothing is left behind.
    """
    if isinstance(found, NeuronList):
        carry_list(found, gauge, out, signed, other_model)
    elif isinstance(found, TrainingRun):
        carry_run(found, gauge, out, progress)
    else:
        objects.carry(found, gauge, out, progress, other_model)
