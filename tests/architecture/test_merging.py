"""Where labels of two operands meet."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bmatch.architecture.constraints import Axis, Constraints
from bmatch.architecture.labels import Label
from bmatch.architecture.merging import Operand, meet

WIDTH = 4


def operand(atoms):
    return Operand(Label(atoms.shape, (atoms,)), torch.zeros(()))


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_coordinates_of_rows_from_several_tensors_are_one(order):
    """Pictures end each line with a parameter, among rows that a projection has written."""
    c = Constraints()
    stream, written, line = (c.new_axis(Axis(n, 0), WIDTH) for n in ("stream", "written", "line"))
    both = operand(stream[None]), operand(np.stack([written, line, written]))
    (atoms,) = meet(c, [both[k] for k in order])
    assert np.array_equal(c.find(atoms), stream[None])
    assert np.array_equal(c.find(written), stream)
    assert np.array_equal(c.find(line), stream)
    assert not c.edges


def test_coordinates_of_heads_of_one_tensor_are_several():
    """Heads may be exchanged, which they could not be if their coordinates were one."""
    c = Constraints()
    gain, heads = c.new_axis(Axis("gain", 0), WIDTH), c.new_axis(Axis("heads", 0), 2 * WIDTH)
    meet(c, [operand(gain[None]), operand(heads.reshape(2, WIDTH))])
    assert len(np.unique(c.find(heads))) == 2 * WIDTH
    assert c.edges
