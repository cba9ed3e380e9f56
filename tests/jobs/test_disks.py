"""Disks that are full, read-only or gone under a job: a sentence, and nothing is lost."""

from __future__ import annotations

import resource
import shutil

import numpy as np
import pytest
from disks import disk
from safetensors.numpy import save_file

from bmatch.files import tensor_file
from bmatch.jobs.resume import KeptParts

ONE = {"x": np.arange(50_000)}
TWO = {"x": np.arange(50_000) + 1}


@pytest.fixture
def told():
    return []


@pytest.fixture
def parts(tmp_path, told):
    return KeptParts(tmp_path / "disk", "hop", told.append)


def holds(parts, tensors):
    return np.array_equal(parts.get("k")[0]["x"], tensors["x"])


def test_a_full_disk_keeps_what_it_has(parts, told, tmp_path):
    with disk(tmp_path / "disk", 700_000) as again:
        parts.keep("k", ONE, {})
        parts.keep("k", TWO, {})  # in place of the first, beside which it cannot stand
        parts.keep("l", TWO, {})
        assert holds(parts, ONE)
        assert [path.name for path in parts.folder.iterdir()] == ["k.safetensors"]
        (sentence,) = told
        assert "cannot be kept in" in sentence
        assert "No space left on device" in sentence
        again("size=2000000")
        parts.keep("k", TWO, {})
        assert holds(parts, TWO)
        again("ro")
        parts.keep("k", ONE, {})
        parts.keep("l", ONE, {})
        assert holds(parts, TWO)
        assert "no permission to write" in told[1]
        assert len(told) == 2


def test_a_file_that_may_not_grow(parts, told):
    """The limit of a process, as of a quota: it needs no disk of its own."""
    parts.keep("k", ONE, {})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        parts.keep("k", TWO, {})
        with pytest.raises(OSError, match="File too large"):
            tensor_file.write(parts.folder / "gauge", "gauge", ONE, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert holds(parts, ONE)
    assert [path.name for path in parts.folder.iterdir()] == ["k.safetensors"]
    assert "File too large" in told[0]


def test_a_folder_that_vanished_is_made_anew(parts, told):
    parts.keep("k", ONE, {})
    shutil.rmtree(parts.folder)
    assert parts.get("k") is None
    parts.keep("k", TWO, {})
    assert holds(parts, TWO)
    assert told == []


@pytest.mark.parametrize("times", [1, 4])
def test_a_folder_that_vanishes_in_the_middle(parts, told, times, monkeypatch):
    """Once it is made anew; again and again costs what is kept meanwhile, and one sentence."""
    parts.keep("k", ONE, {})
    left = [*range(times)]

    def save(tensors, path, metadata):
        if left:
            shutil.rmtree(parts.folder)
            left.pop()
        save_file(tensors, path, metadata)

    monkeypatch.setattr("safetensors.numpy.save_file", save)
    parts.keep("k", TWO, {})
    if times > 1:
        assert parts.get("k") is None
        parts.keep("k", TWO, {})
        parts.keep("k", TWO, {})
    assert holds(parts, TWO)
    assert [path.name for path in parts.folder.iterdir()] == ["k.safetensors"]
    assert [sentence.count("(No such file or directory)") for sentence in told] == [1] * (times > 1)


def test_a_folder_that_cannot_be_is_told_once(told, tmp_path, monkeypatch):
    """By its own name, from wherever it is seen."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    for folder in ("file", "file/inside"):
        parts = KeptParts(folder, "hop", told.append)
        parts.keep("k", ONE, {})
        parts.keep("l", ONE, {})
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "k.safetensors").mkdir()
    parts = KeptParts("cache", "hop", told.append)
    parts.keep("k", ONE, {})
    assert [sentence.partition(": ")[0] for sentence in told] == [
        "how far it has come cannot be kept in file (Not a directory)",
        "how far it has come cannot be kept in file/inside (Not a directory)",
        "how far it has come cannot be kept in cache (exists and is no ordinary file",
    ]
