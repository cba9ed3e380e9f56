"""Operations in place on a part of a tensor: what they change differs from what they leave."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from bmatch.architecture.calls import Call
from bmatch.architecture.constraints import digest
from bmatch.architecture.forms import Ids


def mark_parts(call: Call) -> None:
    """Tell the atoms of a part that was written to apart from those beside it.

    By what was done, so that the same done to each of several parts, as to experts one after
    another, leaves them alike; by the place too where the part is a stretch of an axis.
    """
    c = call.constraints
    for tensor in (call.out,) if isinstance(call.out, torch.Tensor) else tuple(call.out):
        around = call.labels.around(tensor)
        if around is None:
            continue
        atoms = [*call.label(tensor).atoms, *call.labels.read(tensor).atoms]
        met = [c.plain(component[component > 0]) for component in atoms]
        inside = np.unique(np.concatenate([*met, np.zeros(0, np.int64)]))
        done = [call.name.encode(), *_numbers(call)]
        if _is_stretch(c.axis_of(inside), c.axis_of(np.setdiff1d(around, inside))):
            done.append(tensor.storage_offset())
        c.colour(inside, np.full(len(inside), digest(b"part", *done), np.uint64))


def _is_stretch(inside: Ids, beside: Ids) -> bool:
    """Whether there are several indices of an axis of which there are others beside them."""
    axes, counts = np.unique(inside[inside >= 0], return_counts=True)
    return bool(np.isin(axes[counts > 1], beside).any())


def _numbers(call: Call) -> Iterator[bytes]:
    """What an operation was given beside tensors with labels."""
    for name, value in call.arguments.items():
        if not isinstance(value, torch.Tensor):
            yield repr(value).encode()
        elif name not in ("self", "out") and not call.label(value):
            yield call.values(value).contiguous().numpy().tobytes()
