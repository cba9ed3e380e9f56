"""Files of tensors come back as they were, but for the tensors that were transformed."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import torch
from disks import disk
from safetensors.torch import load_file, save_file

from bmatch.files.containers import open_container


def negated(name, tensor):
    return -tensor


def same(name, tensor):
    return tensor


def written(container, tmp_path, transform=negated, **notes):
    out = tmp_path / f"new{container.path.suffix}"
    container.copy(out, transform, notes)
    return out


def test_safetensors_keep_order_dtypes_and_metadata(tmp_path):
    path = tmp_path / "a.safetensors"
    tensors = {
        "b": torch.arange(6.0).reshape(2, 3).bfloat16(),
        "a": torch.arange(4.0),
        "none": torch.zeros(0, 3),
        "one": torch.tensor(2.5, dtype=torch.float64),
        "eight": torch.tensor([[1.0, -2.0]]).to(torch.float8_e4m3fn),
    }
    save_file(tensors, path, metadata={"format": "pt"})
    container = open_container(path)
    assert container.shapes["none"] == (0, 3)
    assert container.rest == {"format": "pt"}
    out = written(container, tmp_path, lambda name, t: t if name == "eight" else -t, by="us")
    made = load_file(out)
    assert {name: t.dtype for name, t in made.items()} == {n: t.dtype for n, t in tensors.items()}
    assert torch.equal(made["b"], -tensors["b"])
    assert torch.equal(made["eight"].view(torch.uint8), tensors["eight"].view(torch.uint8))
    again = written(open_container(out), tmp_path / "..", lambda n, t: t if n == "eight" else -t)
    assert open_container(again).rest == {"format": "pt", "by": "us"}
    plain = tmp_path / "plain.safetensors"
    save_file(tensors, plain)
    copied = written(open_container(plain), tmp_path, same)
    assert copied.read_bytes() == plain.read_bytes()


def test_torch_files_keep_structure_and_shared_tensors(tmp_path):
    path = tmp_path / "a.pt"
    tied = torch.randn(4, 8).bfloat16()
    tree = {
        "state": OrderedDict(x=[tied, tied], y=(torch.tensor(3), 1.5)),
        "n": 3,
        "s": "hi",
        "none": None,
        7: torch.randn(2, 3)[:, 1:],
    }
    torch.save(tree, path)
    container = open_container(path)
    assert container.shapes == {
        "state/x/0": (4, 8),
        "state/x/1": (4, 8),
        "state/y/0": (),
        "7": (2, 2),
    }
    assert container.rest == {"state/y/1": 1.5, "n": 3, "s": "hi", "none": None}
    made = torch.load(written(container, tmp_path), weights_only=True)
    assert torch.equal(made["state"]["x"][0], -tied)
    assert made["state"]["x"][0].data_ptr() == made["state"]["x"][1].data_ptr()
    assert isinstance(made["state"], OrderedDict)
    assert torch.equal(made[7], -tree[7])
    assert (made["n"], made["s"], made["none"], made["state"]["y"][1]) == (3, "hi", None, 1.5)
    with zipfile.ZipFile(tmp_path / "new.pt") as archive:
        assert archive.testzip() is None
    torch.save(tied, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    assert torch.equal(torch.load(written(open_container(tmp_path / "old.pt"), tmp_path)), -tied)


def test_numpy_files(tmp_path):
    arrays = {"a": np.arange(6.0).reshape(2, 3), "b": np.arange(3, dtype=np.float16)}
    np.savez(tmp_path / "a.npz", **arrays)
    container = open_container(tmp_path / "a.npz")
    assert container.shapes == {"a": (2, 3), "b": (3,)}
    with np.load(written(container, tmp_path)) as made:
        for name, array in arrays.items():
            np.testing.assert_array_equal(made[name], -array)
            assert made[name].dtype == array.dtype
    np.save(tmp_path / "a.npy", np.asfortranarray(arrays["a"]))
    np.testing.assert_array_equal(
        np.load(written(open_container(tmp_path / "a.npy"), tmp_path)), -arrays["a"]
    )


def test_json_keeps_what_is_no_array(tmp_path):
    tree = {
        "directions": {"3": [0.1, -2e-30], "4": [1, 2]},
        "text": ["a", "b"],
        "n": 1,
        "deep": [{"m": [[1.5, 2.0], [3.0, 4.0]]}, None],
    }
    path = tmp_path / "v.svec"
    path.write_text(json.dumps(tree))
    container = open_container(path)
    assert container.shapes == {"directions/3": (2,), "directions/4": (2,), "deep/0/m": (2, 2)}
    assert container.rest == {"text/0": "a", "text/1": "b", "n": 1, "deep/1": None}
    made = json.loads(written(container, tmp_path).read_text())
    assert made["directions"] == {"3": [-0.1, 2e-30], "4": [-1, -2]}
    assert made["deep"] == [{"m": [[-1.5, -2.0], [-3.0, -4.0]]}, None]
    assert (made["text"], made["n"]) == (tree["text"], 1)


class Malicious:
    def __reduce__(self):
        return os.system, ("touch /tmp/it_ran",)


def test_pickles_that_could_run_code_are_not_loaded(tmp_path):
    torch.save({"a": Malicious()}, tmp_path / "evil.pt")
    with pytest.raises(ValueError, match=r"evil\.pt holds posix\.system beside tensors"):
        open_container(tmp_path / "evil.pt")
    np.savez(tmp_path / "evil.npz", a=np.array([Malicious()], dtype=object))
    with pytest.raises(ValueError, match="no npz file of plain arrays"):
        open_container(tmp_path / "evil.npz")


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".npz", ".npy", ".gguf", ".json"])
@pytest.mark.parametrize("content", [b"", b"\x00\x01 neither", b"PK\x03\x04 cut short"])
def test_damaged_files(suffix, content, tmp_path):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="damaged"):
        open_container(path)


def test_what_is_no_container(tmp_path):
    (tmp_path / "a.txt").write_text("hi")
    with pytest.raises(ValueError, match="no tensors in a format that is known"):
        open_container(tmp_path / "a.txt")
    with pytest.raises(FileNotFoundError):
        open_container(tmp_path / "b.pt")


def test_an_error_on_the_way_leaves_the_input_alone(tmp_path):
    path = tmp_path / "a.pt"
    torch.save({"a": torch.ones(3)}, path)
    before = path.read_bytes()

    def fails(name, tensor):
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        written(open_container(path), tmp_path, fails)
    assert path.read_bytes() == before


def _copied(path, out, told):
    """In a process of its own: one that writes to a map where there is no room is ended."""
    try:
        open_container(path).copy(out, lambda _, tensor: tensor, {})
    except OSError as error:
        told.send(error.errno)
        return
    told.send("done")


@pytest.mark.parametrize("size", [4096, 12288, 200_000])
def test_no_room_for_a_file_of_torch(tmp_path, size):
    torch.save({"rows": torch.ones(300, 300), "more": [torch.ones(9)]}, tmp_path / "a.pt")
    with disk(tmp_path / "full", size):
        ours, theirs = multiprocessing.Pipe(duplex=False)
        out = tmp_path / "full" / "a.pt"
        process = multiprocessing.get_context("fork").Process(
            target=_copied, args=(tmp_path / "a.pt", out, theirs)
        )
        process.start()
        process.join()
        assert process.exitcode == 0
        assert ours.recv() in (None, errno.ENOSPC)
