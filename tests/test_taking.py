"""Pieces of tensors with entries taken along axes, against torch's own indexing."""

from __future__ import annotations

import tempfile

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import bmatch.taking
from bmatch.taking import Taken, can_be_taken

DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16]
DTYPES += [torch.float8_e4m3fn, torch.float8_e5m2]
BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


@st.composite
def tensors(draw):
    """Any bits, NaN among them, and up to three moves along axes."""
    shape = draw(st.lists(st.sampled_from([1, 2, 3, 9, 33]), min_size=1, max_size=3))
    dtype = draw(st.sampled_from(DTYPES))
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    count = int(np.prod(shape)) * dtype.itemsize
    bits = torch.from_numpy(generator.integers(0, 256, count, np.uint8))
    moves = []
    for axis in draw(st.lists(st.integers(0, len(shape) - 1), max_size=3)):
        signs = generator.random(shape[axis]) < 0.5 if draw(st.booleans()) else None
        moves.append((axis, generator.permutation(shape[axis]), signs))
    return bits.view(dtype).reshape(shape), moves


def bits_of(tensor):
    return tensor.contiguous().view(BITS[tensor.itemsize])


def taken_by_torch(tensor, moves):
    moved = bits_of(tensor)
    for axis, order, signs in moves:
        moved = moved.index_select(axis, torch.from_numpy(order))
        if signs is not None:
            shape = [-1 if k == axis else 1 for k in range(moved.ndim)]
            size = 8 * moved.itemsize
            sign = 128 if size == 8 else -(2 ** (size - 1))
            flips = torch.where(torch.from_numpy(signs).reshape(shape), sign, 0).to(moved.dtype)
            moved = moved ^ flips
    return moved


@given(
    tensors(), st.sampled_from([64, 500, 1 << 18]), st.integers(20, 200), st.sampled_from([1, 3])
)
@settings(max_examples=100, deadline=None)
def test_every_bit_is_where_torch_would_have_it(found, piece, step, threads):
    tensor, moves = found
    taken = Taken(tensor)
    for axis, order, signs in moves:
        taken = taken.along(axis, order, signs)
    expected = taken_by_torch(tensor, moves)
    assert torch.equal(bits_of(taken.made()), expected)
    with pytest.MonkeyPatch.context() as patched, tempfile.TemporaryFile() as file:
        patched.setattr(bmatch.taking, "PIECE", piece)
        row = taken.cols * tensor.itemsize
        for first in reversed(range(0, taken.rows, step)):
            last = min(first + step, taken.rows)
            taken.write(file.fileno(), 5 + first * row, first, last, threads)
        assert file.read() == bytes(5) + bits_of(expected).numpy().tobytes()


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("order", [None, np.arange(1 << 16)[::-1].copy()])
def test_who_cannot_write_is_told(order, threads):
    taken = Taken(torch.ones(1 << 16))
    taken = taken if order is None else taken.along(0, order)
    with open("/dev/full", "wb") as full, pytest.raises(OSError, match="No space left"):
        taken.write(full.fileno(), 0, 0, taken.rows, threads)


def test_a_tensor_with_strides_is_taken_from_as_it_reads():
    tensor = torch.arange(12.0).reshape(3, 4).T
    order = np.array([3, 1, 0, 2])
    assert torch.equal(Taken(tensor).along(0, order).made(), tensor[order])


def test_columns_beyond_16_bits():
    width = (1 << 16) + 5
    tensor, order = torch.arange(2.0 * width).reshape(2, width), np.arange(width)[::-1].copy()
    assert torch.equal(Taken(tensor).along(1, order).made(), tensor.flip(1))


def test_what_nothing_is_taken_from_is_not_copied():
    tensor = torch.ones(3, 4)
    assert Taken(tensor).made() is tensor


@pytest.mark.parametrize(
    ("tensor", "answer"),
    [
        (torch.ones(3, dtype=torch.bfloat16), True),
        (torch.ones(3, dtype=torch.complex64), False),  # two signs an entry
        (torch.ones(3, dtype=torch.int32), False),  # a sign is not a bit
        (torch.ones(3, requires_grad=True), False),
        (torch.ones(0, 3), False),
        (torch.ones(3).to_sparse(), False),
        (torch.ones(3, dtype=torch.complex64).conj().imag, False),  # its sign is not stored yet
    ],
)
def test_what_can_be_taken_from(tensor, answer):
    assert can_be_taken(tensor) is answer
