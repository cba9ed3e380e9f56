"""Damaged files of every kind: one sentence that names the file, and nothing is written."""

from __future__ import annotations

import json
import random
import shutil

import gguf
import numpy as np
import pytest
import torch
import torch.distributed.checkpoint as dcp
from safetensors.torch import save_file
from steps import trained
from tiny_models import WIDTH, tiny_model

from bmatch import SignedPermutation, transport
from bmatch.transport import carry, find_object

GAUGE = SignedPermutation.random(WIDTH, seed=1)
V = torch.randn(4, WIDTH, generator=torch.Generator().manual_seed(0))
pytestmark = pytest.mark.filterwarnings("ignore:.*single process.*:UserWarning")


def control_vector(path):
    writer = gguf.GGUFWriter(str(path), "controlvector")
    writer.add_uint32("controlvector.layer_count", 2)
    for layer in (1, 2):
        writer.add_tensor(f"direction.{layer}", V[layer].numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def dictionary(path, write=save_file, names=("W_enc", "W_dec", "b_enc", "b_dec")):
    shapes = ((WIDTH, 5), (5, WIDTH), (5,), (WIDTH,))
    write({name: torch.ones(shape) for name, shape in zip(names, shapes, strict=True)}, path)


def saelens(path):
    path.mkdir()
    dictionary(path / "sae_weights.safetensors")
    (path / "cfg.json").write_text(json.dumps({"d_in": WIDTH, "d_sae": 5, "metadata": {}}))


def run(path):
    model = tiny_model("llama", num_hidden_layers=1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    trained(model, optimizer, 1, 0)
    model.save_pretrained(path)
    torch.save(optimizer.state_dict(), path / "optimizer.pt")


def sharded(path):
    run(path)
    weights = {"model": tiny_model("llama", num_hidden_layers=1).state_dict()}
    dcp.save(weights, storage_writer=dcp.FileSystemWriter(path / "pytorch_model_fsdp_0"))
    state = torch.load(path / "optimizer.pt")
    names = list(tiny_model("llama", num_hidden_layers=1).state_dict())
    by_name = {"state": {names[k]: kept for k, kept in state["state"].items()}}
    groups = [{"lr": 1e-3, "params": list(by_name["state"])}]
    dcp.save(
        {"optimizer": {**by_name, "param_groups": groups}},
        storage_writer=dcp.FileSystemWriter(path / "optimizer_0"),
    )
    (path / "optimizer.pt").unlink()
    (path / "model.safetensors").unlink()


def arrays(tensors, path):
    np.savez(path, **{name: tensor.numpy() for name, tensor in tensors.items()})


FILES = {
    "v.pt": lambda path: torch.save(V, path),
    "v.npy": lambda path: np.save(path, V.numpy()),
    "v.svec": lambda path: path.write_text(json.dumps({"directions": {"1": V[0].tolist()}})),
    "v.gguf": control_vector,
    "sae.safetensors": dictionary,
    "sae.npz": lambda path: dictionary(path, arrays, ("w_enc", "w_dec", "b_enc", "b_dec")),
    "saelens/cfg.json": saelens,
    "run/optimizer.pt": run,
    "run/model.safetensors": run,
    "sharded/optimizer_0/__0_0.distcp": sharded,
    "sharded/pytorch_model_fsdp_0/.metadata": sharded,
}


def damaged(content, how, moments):
    """Cut, with bits turned, or of other bytes."""
    changed = bytearray(content)
    if how == "cut":
        return content[: moments.randrange(len(content))]
    if how == "cut at the end":
        return content[: -moments.randint(1, min(200, len(content) - 1))]
    if how == "other bytes":
        return moments.randbytes(len(content))
    for _ in range(20):
        changed[moments.randrange(len(content))] ^= 1 << moments.randrange(8)
    return bytes(changed)


def carried(path, out):
    if (path / "config.json").is_file():
        transport.trainer_checkpoint(path, GAUGE, out)
    else:
        carry(find_object(path), GAUGE, out)


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_told_in_a_sentence_and_nothing_is_written(name, tmp_path):
    whole = tmp_path / "whole" / name.partition("/")[0]
    whole.parent.mkdir()
    FILES[name](whole)
    carried(whole, tmp_path / "first")
    moments = random.Random(name)
    for number in range(16):
        how = ("cut", "cut at the end", "other bytes", "turned bits")[number % 4]
        folder = tmp_path / str(number)
        shutil.copytree(whole.parent, folder)
        file = folder / name
        file.write_bytes(damaged(file.read_bytes(), how, moments))
        before = set(folder.rglob("*"))
        told = ""
        try:
            carried(folder / whole.name, folder / "out")
        except (ValueError, FileNotFoundError) as error:
            told = str(error)
        if how == "turned bits" and not told:  # of a number, which nothing tells
            continue
        assert len(told.splitlines()) == 1
        assert len(told) < 500
        assert str(folder) in told
        assert set(folder.rglob("*")) == before
