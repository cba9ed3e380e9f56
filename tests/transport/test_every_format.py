"""Every format from the command line: by the gauge, then by its inverse, every bit is there again.

What is compared is what files hold, by readers of the packages' own: tensors by their bytes, other
entries by their values.
"""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from dictionary_files import DICTIONARIES, write_dictionary
from safetensors import safe_open
from test_adapters import SIGNED, UNSIGNED, config_of, gauge_of, write_gguf
from test_adapters import trained as adapted
from test_damaged import control_vector, run
from test_other_names import of_megatron, of_torchtitan
from test_other_names import start as model_and_optimizer
from test_sharded import full, universal, written
from tiny_models import WIDTH, tiny_model

from bmatch import SignedPermutation
from bmatch.files.distributed import INDEX, DistributedFiles

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*single process.*:UserWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:peft.*"),
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning"),
]
GAUGE = SignedPermutation.random(WIDTH, seed=1)
V = torch.randn(4, WIDTH, generator=torch.Generator().manual_seed(0))


def bits(array):
    """Of a tensor or an array, with what else tells it apart."""
    if isinstance(array, torch.Tensor):
        flat = array.detach().contiguous().reshape(-1).view(torch.uint8)
        return str(array.dtype), tuple(array.shape), flat.numpy().tobytes()
    return str(array.dtype), array.shape, array.tobytes()


def leaves(tree, path=()):
    """What nested dicts and lists hold, by where it is, in order."""
    if isinstance(tree, dict):
        pairs = tree.items()
    elif isinstance(tree, (list, tuple)):
        pairs = enumerate(tree)
    else:
        held = bits(tree) if isinstance(tree, (torch.Tensor, np.ndarray)) else tree
        return {path: "nan" if isinstance(held, float) and math.isnan(held) else held}
    return {at: leaf for key, below in pairs for at, leaf in leaves(below, (*path, key)).items()}


def content(path):
    """What a file means, by where it is."""
    if path.suffix == ".safetensors":
        with safe_open(path, "pt") as file:
            kept = file.metadata() or {}
            noted = {k: v for k, v in kept.items() if not k.startswith("bmatch_")}
            tensors = {name: file.get_tensor(name) for name in file.offset_keys()}
            return leaves({"": noted, **tensors})
    if path.suffix in (".pt", ".pth", ".bin"):
        return leaves(torch.load(path, weights_only=True))
    if path.suffix == ".npz":
        with np.load(path) as file:
            return leaves(dict(file))
    if path.suffix in (".json", ".svec"):
        return leaves(json.loads(path.read_text()))
    if path.name == INDEX:
        found = DistributedFiles(path.parent)
        tensors = {name: found.tensor(name) for name in found.shapes}
        return leaves({"": found.values, **tensors}) | {"others": sorted(found.others)}
    return {"bytes": path.read_bytes()}


def contents(path):
    """Of a file or a folder, but for what notes the gauge, and what an index tells of."""
    if path.is_file():
        return {"": content(path)}
    return {
        str(file.relative_to(path)): content(file)
        for file in sorted(path.rglob("*"))
        if file.is_file() and file.name != "bmatch.json" and file.suffix != ".distcp"
    }


def require_way_back(bmatch_, path, folder, *options, command="transport", gauge=GAUGE):
    """There and back by the command line; there, tensors are others of the same shapes."""
    gauge.save(folder / "gauge.safetensors")
    there, back = (folder / f"{name}{path.suffix}" for name in ("there", "back"))
    for source, out, way in ((path, there, ()), (there, back, ("--inverse",))):
        line = (command, folder / "gauge.safetensors", source, *way, *options, "--out", out)
        code, _, err = bmatch_(*line)
        assert code == 0, err
    was, moved, again = (contents(one) for one in (path, there, back))
    assert was == again
    assert [list(one) for one in was.values()] == [list(one) for one in again.values()]
    assert was.keys() == moved.keys()
    assert was != moved


@pytest.mark.parametrize("name", DICTIONARIES)
def test_dictionaries(name, bmatch_, tmp_path):
    require_way_back(bmatch_, write_dictionary(name, tmp_path / "sae"), tmp_path)


def json_of(path, tree):
    path.write_text(json.dumps(tree))


def npy_of(path, array):
    np.save(path, array)


def reft(path):
    """As pyreft's `save_intervention` leaves it."""
    path.mkdir()
    told = {"rotate_layer": V[:2].T.contiguous(), "learned_source.weight": V[2:].clone()}
    name = "intkey_layer_1_comp_block_output_unit_pos_nunit_1#0.bin"
    torch.save({**told, "learned_source.bias": V[0, :2].clone()}, path / name)
    json_of(path / "config.json", {"representations": [{"layer": 1}], "unheard": [1]})


DIRECTIONS = {
    "v.gguf": control_vector,
    "v.svec": lambda path: json_of(
        path,
        {
            **{"model_type": "llama", "directions": {str(k): V[k].tolist() for k in range(4)}},
            "explained_variances": {str(k): 0.1 * k for k in range(4)},
        },
    ),
    "layers.pt": lambda path: torch.save(V.bfloat16(), path),
    "one.pt": lambda path: torch.save({"direction": V[0].half(), "layer": 3}, path),
    "float8.pt": lambda path: torch.save(V.to(torch.float8_e4m3fn), path),
    "numbered.pt": lambda path: torch.save({k: V[k].clone() for k in range(4)}, path),
    "layers.npy": lambda path: npy_of(path, V.double().numpy()),
    "positions.npy": lambda path: npy_of(path, V.reshape(2, 2, WIDTH).numpy()),
    "reft": reft,
    "gpt2.pt": lambda path: torch.save(
        [{"vocabulary": 3}, {"projector1": V.T.clone(), "projector2": -V.T}], path
    ),
    "transport.pt": lambda path: torch.save(
        {"A_": torch.outer(V[0], V[1]), "B_": V[2].clone()}, path
    ),
    "probe.pt": lambda path: torch.save({"weight": V[:2].clone(), "bias": V[0, :2].clone()}, path),
}


@pytest.mark.parametrize("name", DIRECTIONS)
def test_directions(name, bmatch_, tmp_path):
    DIRECTIONS[name](tmp_path / name)
    require_way_back(bmatch_, tmp_path / name, tmp_path)


@pytest.mark.parametrize("kind", [kind for kind in SIGNED | UNSIGNED if kind != "prefix"])
def test_adapters_of_peft(kind, bmatch_, tmp_path):
    """All but those of which nothing lies in the stream."""
    base, _ = adapted(kind, tmp_path / "adapter")
    json_of(tmp_path / "config.json", config_of(base))
    options = ("--model", tmp_path / "config.json")
    require_way_back(bmatch_, tmp_path / "adapter", tmp_path, *options, gauge=gauge_of(kind))


def test_adapters_of_llama_cpp(bmatch_, tmp_path):
    name = "base_model.model.model.layers.0.self_attn.q_proj"
    made = {f"{name}.lora_A.weight": V.clone(), f"{name}.lora_B.weight": V.T.contiguous()}
    write_gguf(made, tmp_path / "a.gguf")
    json_of(tmp_path / "config.json", config_of(tiny_model()))
    options = ("--model", tmp_path / "config.json")
    require_way_back(bmatch_, tmp_path / "a.gguf", tmp_path, *options)


LISTS = {
    "set.csv": "index,sign,layer,note\n0,1,2,first\n5,-1,3,\n",
    "list.csv": "index;sign;weight\r\n0;1;0.25\r\n5;-1;-3e-3\r\n",
    "records.json": (
        '[{"index": 0, "sign": -1, "weight": -0.1, "why": [1]}, '
        '{"index": 3, "sign": 1, "weight": 2.5, "why": null}]'
    ),
    "columns.json": (
        '{"index": [3, 0], "sign": [1, -1], "site": [1, "blocks.0.hook_resid_post"], '
        '"model": ["m", "m"]}'
    ),
}


@pytest.mark.parametrize("name", LISTS)
def test_lists_of_coordinates(name, bmatch_, tmp_path):
    (tmp_path / name).write_text(LISTS[name], newline="")
    require_way_back(bmatch_, tmp_path / name, tmp_path)


def trainer(path):
    """With what the Trainer leaves beside weights and moments."""
    run(path)
    torch.save({"last_epoch": 1, "_last_lr": [0.1]}, path / "scheduler.pt")
    torch.save({"scale": 2.0}, path / "scaler.pt")
    torch.save({"cpu": torch.arange(9, dtype=torch.uint8)}, path / "rng_state.pth")
    json_of(path / "trainer_state.json", {"global_step": 1, "log_history": [{"loss": 0.5}]})


def accelerated(path):
    run(path)
    (path / "optimizer.pt").rename(path / "optimizer.bin")
    torch.save({"last_epoch": 1}, path / "scheduler.bin")


def doubled(path):
    model, _ = full(path)
    model.save_pretrained(path)


def stepped(write, model_type, **how):
    """Of a model after some steps."""

    def call(path):
        model, optimizer = model_and_optimizer(model_type)
        write(model, optimizer, path, **how)

    return call


RUNS = {
    "Trainer": (trainer, "apply"),
    "accelerate": (accelerated, "apply"),
    "FSDP, full state": (full, "transport"),
    "FSDP, full state by the Trainer": (doubled, "apply"),
    "FSDP": (written, "transport"),
    "FSDP, flat": (lambda path: written(path, flat=True), "transport"),
    "DeepSpeed": (universal, "transport"),
    "DeepSpeed, ZeRO-3": (lambda path: universal(path, bare=True), "transport"),
    "torchtitan": (stepped(of_torchtitan, "llama"), "transport"),
    "torchtitan, experts": (stepped(of_torchtitan, "qwen3_moe"), "transport"),
    "Megatron": (stepped(of_megatron, "llama", stacked=True), "transport"),
}


@pytest.mark.parametrize("name", RUNS)
def test_runs(name, bmatch_, tmp_path):
    write, command = RUNS[name]
    write(tmp_path / "run")
    options = ("--with-optimizer",) if command == "apply" else ()
    require_way_back(bmatch_, tmp_path / "run", tmp_path, *options, command=command)


def test_an_optimizer_alone(bmatch_, tmp_path):
    run(tmp_path / "run")
    options = ("--model", tmp_path / "run")
    require_way_back(bmatch_, tmp_path / "run/optimizer.pt", tmp_path, *options)


def test_weights(bmatch_, tmp_path):
    tiny_model().save_pretrained(tmp_path / "model", max_shard_size="20KB")
    require_way_back(bmatch_, tmp_path / "model", tmp_path, command="apply")


def test_what_differs_is_seen(tmp_path):
    """A sign of zero, a value beside tensors, their order."""
    trees = ({"a": torch.zeros(2), "b": 1}, {"a": -torch.zeros(2), "b": 1})
    trees += ({"a": torch.zeros(2), "b": 2}, {"b": 1, "a": torch.zeros(2)})
    found = []
    for tree in trees:
        torch.save(tree, tmp_path / "one.pt")
        found.append(list(content(tmp_path / "one.pt").items()))
    assert all(one != found[0] for one in found[1:])
