"""Objects that were carried to other weights than those at which a gauge starts."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from bmatch import SignedPermutation
from bmatch.transport import carry, find_object

D = 6


def gauge(source, target, seed):
    made = SignedPermutation.random(D, seed=seed)
    told = {"source": f"{source}/", "target": f"{target}/"}
    made.metadata = {**told, "source_sha256": source * 64, "target_sha256": target * 64}
    return made


A_TO_B, B_TO_C, C_TO_A = gauge("a", "b", 1), gauge("b", "c", 2), gauge("c", "a", 3)


def direction(path):
    save_file({"v": torch.arange(1.0, D + 1)}, path)


def pickled(path):
    torch.save(torch.arange(1.0, D + 1), path)


def folder(path):
    path.mkdir()
    pickled(path / "v.pt")


def numbers(path):
    path.write_text(json.dumps([{"index": 1, "weight": 0.5, "signed": True}]))


@pytest.mark.parametrize(
    ("write", "name"),
    [(direction, "v.safetensors"), (pickled, "v.pt"), (folder, "v"), (numbers, "v.json")],
)
def test_an_object_goes_on_only_from_where_it_was_carried_to(write, name, tmp_path):
    write(tmp_path / name)
    signed = True if write is numbers else None
    out = tmp_path / f"b_{name}"
    carry(find_object(tmp_path / name), A_TO_B, out, signed=signed)  # nothing is noted in it yet
    found = find_object(out)
    with pytest.raises(ValueError, match=r"carried to b/ .*bbb.*starts at c/ .*--other-model"):
        carry(found, C_TO_A, tmp_path / f"x_{name}", signed=signed)
    assert not (tmp_path / f"x_{name}").exists()
    carry(found, C_TO_A, tmp_path / f"y_{name}", signed=signed, other_model=True)
    carry(found, B_TO_C, tmp_path / f"c_{name}", signed=signed)
    carry(found, A_TO_B.inverse(), tmp_path / f"a_{name}", signed=signed)


def test_digests_of_two_kinds_are_not_compared(tmp_path):
    direction(tmp_path / "v.safetensors")
    carry(find_object(tmp_path / "v.safetensors"), A_TO_B, tmp_path / "b.safetensors")
    newer = gauge("c", "a", 3)
    newer.metadata["source_sha256"] = "xxh3:" + "c" * 64
    carry(find_object(tmp_path / "b.safetensors"), newer, tmp_path / "c.safetensors")


def test_gauges_and_objects_that_tell_nothing_go_anywhere(tmp_path):
    direction(tmp_path / "v.safetensors")
    silent = SignedPermutation.random(D, seed=4)
    carry(find_object(tmp_path / "v.safetensors"), A_TO_B, tmp_path / "b.safetensors")
    carry(find_object(tmp_path / "b.safetensors"), silent, tmp_path / "c.safetensors")
    moved = silent.apply(A_TO_B.apply(torch.arange(1.0, D + 1)))
    assert torch.equal(load_file(tmp_path / "c.safetensors")["v"], moved)
    with safe_open(tmp_path / "c.safetensors", "pt") as file:
        assert "bmatch_target_sha256" not in file.metadata()  # b is where it lies no longer
