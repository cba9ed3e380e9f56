"""bmatch's own files: what is refused when they are read, and headers of any text."""

from __future__ import annotations

import os

import numpy as np
import pytest
from lfs import POINTER

from bmatch.files import tensor_file


def test_a_header_may_hold_names_that_are_not_utf_8(tmp_path):
    tensor_file.write(tmp_path / "f", "thing", {"a": np.arange(3)}, {"text": os.fsdecode(b"\xe9")})
    tensors, header = tensor_file.read(tmp_path / "f", "thing", ["a"])
    assert np.array_equal(tensors["a"], np.arange(3))
    assert header == {"text": r"\udce9"}


def test_the_same_content_is_the_same_file(tmp_path):
    """Whatever the order of its header, and with any letters in it."""
    header = {f"key {k}": 'Ünï\n"\\\x01\x7f' for k in range(20)}
    tensors = {"b": np.arange(3), "a": np.ones(5, np.int8)}
    tensor_file.write(tmp_path / "f", "thing", tensors, header)
    for number in range(5):
        turned = dict(sorted(header.items(), reverse=number % 2 == 0))
        tensor_file.write(tmp_path / "g", "thing", tensors, turned)
        assert (tmp_path / "f").read_bytes() == (tmp_path / "g").read_bytes()
    found, told = tensor_file.read(tmp_path / "g", "thing")
    assert told == header
    assert {name: array.tolist() for name, array in found.items()} == {
        name: array.tolist() for name, array in tensors.items()
    }


def test_what_is_no_file_of_ours(tmp_path):
    (tmp_path / "pointer").write_text(POINTER)
    (tmp_path / "text").write_text("x")
    tensor_file.write(tmp_path / "other", "other", {"a": np.arange(3)}, {})
    os.mkfifo(tmp_path / "pipe")
    for name, sentence in (
        ("pointer", "is a Git-LFS pointer"),
        ("text", "is not a safetensors file, or is damaged"),
        ("other", "is a safetensors file, but holds no thing"),
        ("pipe", "is no ordinary file, and a thing is one"),
        (".", "is no ordinary file, and a thing is one"),
    ):
        with pytest.raises(ValueError, match=sentence):
            tensor_file.read(tmp_path / name, "thing", ["a"])
    with pytest.raises(FileNotFoundError, match="there is no thing file"):
        tensor_file.read(tmp_path / "nowhere", "thing", ["a"])
