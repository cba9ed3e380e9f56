"""Mapped tensors against safetensors' own, before and after they were let go."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import _TYPES, load_file, save_file

from bmatch.files.mapped import DTYPES, MappedTensors


def test_types_are_those_of_safetensors():
    assert all(getattr(torch, DTYPES[name]) == dtype for name, dtype in _TYPES.items())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float8_e4m3fn, torch.int64])
def test_as_safetensors(tmp_path, dtype):
    weights = {
        "a": (torch.rand(300, 70) * 100).to(dtype),
        "b": torch.zeros(0, 3).to(dtype),
        "scalar": torch.tensor(3.0).to(dtype),
        "large": (torch.rand(700, 5000) * 100).to(dtype),
    }
    save_file(weights, tmp_path / "x", {"format": "pt"})
    with MappedTensors(tmp_path / "x") as file:
        assert file.metadata == {"format": "pt"}
        assert sorted(file.in_order()) == sorted(weights)
        assert sum(map(file.num_bytes, weights)) == file.size
        for _ in range(2):
            for name, expected in load_file(tmp_path / "x").items():
                found = file.tensor(name)
                assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
                assert torch.equal(
                    found.view(torch.uint8) if found.ndim else found,
                    (expected.view(torch.uint8) if found.ndim else expected),
                )
            file.let_go(0, file.size)
        held = file.tensor("large")
    assert torch.equal(held.float(), weights["large"].float())  # the mapping stays


def test_tensors_at_odd_places(tmp_path):
    """Other writers than safetensors do not align them."""
    entries = {
        "a": {"dtype": "U8", "shape": [3], "data_offsets": [0, 3]},
        "b": {"dtype": "F32", "shape": [2], "data_offsets": [3, 11]},
    }
    text = json.dumps(entries).encode()
    content = bytes([1, 2, 3]) + torch.tensor([1.5, -2.0]).numpy().tobytes()
    (tmp_path / "x").write_bytes(len(text).to_bytes(8, "little") + text + content)
    with MappedTensors(tmp_path / "x") as file:
        assert file.tensor("b").tolist() == [1.5, -2.0]


def test_unknown_types_are_refused(tmp_path):
    text = json.dumps({"a": {"dtype": "F4", "shape": [2], "data_offsets": [0, 1]}}).encode()
    (tmp_path / "x").write_bytes(len(text).to_bytes(8, "little") + text + b"1")
    with pytest.raises(ValueError, match="x"):
        MappedTensors(tmp_path / "x")
