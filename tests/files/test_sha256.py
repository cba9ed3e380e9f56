"""Streams hashed side by side, against hashlib."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bmatch import _core
from bmatch.files.sha256 import Stream, sha256_of


@pytest.fixture(params=_core.instruction_sets())
def instruction_set(request):
    before = _core.instruction_set()
    _core.use(request.param)
    yield request.param
    _core.use(before)


def streams_of(sizes, seed):
    generator = np.random.default_rng(seed)
    for number, size in enumerate(sorted(sizes, reverse=True)):
        content = np.frombuffer(generator.bytes(size + 3), np.uint8)[3:]  # aligned to nothing
        yield Stream(str(number), generator.bytes(number % 70), content)


@pytest.mark.parametrize("count", [0, 1, 7, 8, 17, 40])
def test_as_hashlib(instruction_set, count):
    sizes = np.random.default_rng(count).integers(1 << 16, 1 << 17, count).tolist()
    found = dict(sha256_of(streams_of(sizes, count), sorted(sizes, reverse=True)))
    expected = {
        stream.name: hashlib.sha256(stream.head + stream.content.tobytes()).hexdigest()
        for stream in streams_of(sizes, count)
    }
    assert found == expected


@pytest.mark.parametrize("lanes", [1, 2, 8, 16])
def test_as_hashlib_with_any_number_of_lanes(lanes, monkeypatch):
    """Vectors, too, on a processor with instructions of its own."""
    try:
        _core.sha256_blocks(np.zeros((8, lanes), np.uint32), np.zeros(lanes, np.uint64), 0)
    except ValueError:
        if lanes != 1:
            pytest.skip("this machine has no instruction set for so many")
    monkeypatch.setattr(_core, "sha256_lanes", lambda: lanes)
    sizes = [1 << 17] * 5 + [(1 << 16) + 77] * 12 + [100, 3, 0]
    found = dict(sha256_of(streams_of(sizes, lanes), sizes))
    for stream in streams_of(sizes, lanes):
        whole = stream.head + stream.content.tobytes()
        assert found[stream.name] == hashlib.sha256(whole).hexdigest()


@pytest.mark.parametrize("size", [0, 1, 63, 64, 1 << 16, (1 << 20) + 5])
def test_streams_are_told_how_far_they_were_hashed(size):
    told = []
    content = np.zeros(size, np.uint8)
    streams = [Stream("a", b"head", content, told.append), Stream("b", b"head", content)]
    assert len(dict(sha256_of(streams, [size, size]))) == 2
    assert told == sorted(told)
    assert told[-1:] == ([size] if size else told[-1:])


@given(st.lists(st.integers((1 << 16) - 2, (1 << 16) + 200), min_size=1, max_size=24))
@settings(max_examples=20, deadline=None)
def test_every_length_of_what_is_left_over(sizes):
    found = dict(sha256_of(streams_of(sizes, 0), sorted(sizes, reverse=True)))
    for stream in streams_of(sizes, 0):
        whole = stream.head + stream.content.tobytes()
        assert found[stream.name] == hashlib.sha256(whole).hexdigest()


@pytest.mark.parametrize("sizes", [[1 << 22] + [1 << 16] * 3, [3, 2, 0], [1 << 20] * 30 + [5]])
def test_long_streams_and_short_ones(sizes):
    found = dict(sha256_of(streams_of(sizes, 1), sizes))
    for stream in streams_of(sizes, 1):
        whole = stream.head + stream.content.tobytes()
        assert found[stream.name] == hashlib.sha256(whole).hexdigest()


def test_no_more_streams_are_open_than_are_hashed_at_once():
    open_now = []

    def streams():
        for stream in streams_of([1 << 16] * 50, 2):
            open_now.append(stream.name)
            yield stream

    done = 0
    for _ in sha256_of(streams(), [1] * 50):
        assert len(open_now) - done <= _core.sha256_lanes()
        done += 1
    assert done == 50


def test_a_number_of_streams_that_no_instruction_set_has():
    with pytest.raises(ValueError, match="so many streams"):
        _core.sha256_blocks(np.zeros((8, 3), np.uint32), np.zeros(3, np.uint64), 0)
