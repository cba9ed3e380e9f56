"""Distributed checkpoints: written again, and those that would run code or lead elsewhere."""

from __future__ import annotations

import os
import pickle
import shutil

import pytest
import torch
import torch.distributed.checkpoint as dcp
from disks import disk
from torch.distributed.checkpoint import metadata as storage
from torch.distributed.checkpoint import planner

from bmatch.files.distributed import INDEX, DistributedFiles

pytestmark = pytest.mark.filterwarnings("ignore:.*single process.*:UserWarning")


@pytest.fixture
def folder(tmp_path):
    state = {
        "model": {"a.b": torch.arange(6.0).view(2, 3), "half": torch.ones(4, dtype=torch.bfloat16)},
        "more": [{"lr": 0.1, "params": ["a.b"], "scale": torch.tensor(2.0)}],
    }
    dcp.save(state, storage_writer=dcp.FileSystemWriter(tmp_path / "a"))
    return tmp_path / "a"


def test_it_is_written_again_with_its_tensors_transformed(folder, tmp_path):
    found = DistributedFiles(folder)
    assert found.shapes == {"model/a.b": (2, 3), "model/half": (4,), "more/0/scale": ()}
    assert found.container().rest == {"more/0/lr": 0.1, "more/0/params/0": "a.b"}
    found.copy(
        tmp_path / "b", lambda name, tensor: 2 * tensor if name[:5] == "model" else tensor, {}
    )
    again = DistributedFiles(tmp_path / "b")
    assert (again.shapes, again.values) == (found.shapes, found.values)
    assert torch.equal(again.tensor("model/a.b"), 2 * torch.arange(6.0).view(2, 3))
    assert again.tensor("model/half").dtype == torch.bfloat16
    state = {"model": {"a.b": torch.zeros(2, 3)}, "more": [{"scale": torch.tensor(0.0)}]}
    dcp.load(state, storage_reader=dcp.FileSystemReader(tmp_path / "b"))
    assert torch.equal(state["model"]["a.b"], 2 * torch.arange(6.0).view(2, 3))
    assert state["more"][0]["scale"] == 2


class Malicious:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_no_code_is_run(folder, tmp_path):
    planted = tmp_path / "planted"
    index = pickle.loads((folder / ".metadata").read_bytes())
    index.planner_data = Malicious(planted)
    (folder / ".metadata").write_bytes(pickle.dumps(index))
    with pytest.raises(ValueError, match=r"holds posix\.mkdir beside an index"):
        DistributedFiles(folder)
    dcp.save({"x": Malicious(planted)}, storage_writer=dcp.FileSystemWriter(tmp_path / "c"))
    with pytest.raises(ValueError, match=r"x holds posix\.mkdir beside tensors"):
        DistributedFiles(tmp_path / "c").container()
    assert not planted.exists()


def test_damage_is_one_sentence(folder, tmp_path):
    content = (folder / ".metadata").read_bytes()
    index = pickle.loads(content)
    for info in index.storage_data.values():
        info.relative_path = "../secret"
    (folder / ".metadata").write_bytes(pickle.dumps(index))
    with pytest.raises(ValueError, match=r"'\.\./secret' is no name of a file"):
        DistributedFiles(folder)
    (folder / ".metadata").write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match="is damaged"):
        DistributedFiles(folder)
    (folder / ".metadata").write_bytes(pickle.dumps(3))
    with pytest.raises(ValueError, match="it holds no index"):
        DistributedFiles(folder)
    (folder / ".metadata").write_bytes(content)
    with open(folder / "__0_0.distcp", "r+b") as file:
        file.truncate(900)
    with pytest.raises(ValueError, match=r"damaged|cannot be read"):
        DistributedFiles(folder).tensor("model/a.b")
    (folder / "__0_0.distcp").unlink()
    with pytest.raises(FileNotFoundError, match=r"it has no __0_0\.distcp"):
        DistributedFiles(folder)
    shutil.rmtree(folder)
    with pytest.raises(FileNotFoundError, match="is no distributed checkpoint"):
        DistributedFiles(folder)


def test_what_is_opaque_keeps_its_bytes_and_is_not_loaded(tmp_path):
    """Megatron-core's objects are pickles of anything; its index holds the plans of its ranks."""
    planted = tmp_path / "planted"
    state = {"w": torch.arange(3.0), "rng/shard_0_1": Malicious(planted)}
    dcp.save(state, storage_writer=dcp.FileSystemWriter(tmp_path / "a"))
    index = pickle.loads((tmp_path / "a" / INDEX).read_bytes())
    tensor = planner.TensorWriteData(
        chunk=storage.ChunkStorageMetadata(torch.Size([0]), torch.Size([3])),
        properties=storage.TensorProperties(),
        size=torch.Size([3]),
    )
    written = planner.WriteItem(
        storage.MetadataIndex("w"), planner.WriteItemType.TENSOR, None, tensor
    )
    index.all_local_plans = [planner.SavePlan([written])]
    (tmp_path / "a" / INDEX).write_bytes(pickle.dumps(index))
    found = DistributedFiles(tmp_path / "a")
    with pytest.raises(ValueError, match=r"rng/shard_0_1 holds posix\.mkdir"):
        found.container()
    container = found.container(opaque=True)
    assert (container.shapes, container.rest, found.others) == ({"w": (3,)}, {}, ["rng/shard_0_1"])
    container.copy(tmp_path / "b", lambda name, tensor: -tensor, {})
    again = DistributedFiles(tmp_path / "b")
    assert torch.equal(again.tensor("w"), -state["w"])
    assert again._bytes("rng/shard_0_1") == found._bytes("rng/shard_0_1")
    assert not planted.exists()
    assert found.files == set((tmp_path / "a").iterdir())


@pytest.mark.parametrize("size", [4096, 100_000])
def test_no_room_for_it(tmp_path, size):
    state = {"model": {str(number): torch.ones(100, 100) for number in range(5)}}
    dcp.save(state, storage_writer=dcp.FileSystemWriter(tmp_path / "a"))
    with (
        disk(tmp_path / "full", size),
        pytest.raises(OSError, match="No space left on device"),
    ):
        DistributedFiles(tmp_path / "a").container().copy(
            tmp_path / "full" / "b", lambda _, tensor: tensor, {}
        )


def test_it_is_the_same_bytes_wherever_it_is_written(folder, tmp_path):
    for place in ("one", "other"):
        DistributedFiles(folder).container().copy(tmp_path / place, lambda _, tensor: tensor, {})
    one, other = (tmp_path / place / INDEX for place in ("one", "other"))
    assert one.read_bytes() == other.read_bytes()
