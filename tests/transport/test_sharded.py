"""Runs in the folders of torch.distributed.checkpoint and in DeepSpeed's universal form."""

from __future__ import annotations

import json

import pytest
import torch
import torch.distributed.checkpoint as dcp
from steps import trained
from tiny_models import WIDTH, tiny_model
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)

from bmatch import SignedPermutation, transport

pytestmark = pytest.mark.filterwarnings("ignore:.*single process.*:UserWarning")
GAUGE = SignedPermutation.random(WIDTH, seed=1)


def start():
    model = tiny_model("llama", tied=True, num_hidden_layers=1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, eps=1e-4)
    trained(model, optimizer, 2, 0)
    return model, optimizer


def config_of(model, folder):
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(model.config.to_dict()))


def save(state, folder):
    dcp.save(state, storage_writer=dcp.FileSystemWriter(folder))


def written(folder, flat=False):
    """As accelerate writes it with FSDP: model and optimizer apart."""
    model, optimizer = start()
    options = StateDictOptions(flatten_optimizer_state_dict=flat)
    config_of(model, folder)
    save({"model": model.state_dict()}, folder / "pytorch_model_fsdp_0")
    state = get_optimizer_state_dict(model, optimizer, options=options)
    save({"optimizer": state}, folder / "optimizer_0")
    return model, optimizer


def read(folder, model, optimizer, flat=False):
    """As accelerate reads it."""
    options = StateDictOptions(flatten_optimizer_state_dict=flat)
    weights = {"model": model.state_dict()}
    dcp.load(weights, storage_reader=dcp.FileSystemReader(folder / "pytorch_model_fsdp_0"))
    state = {"optimizer": get_optimizer_state_dict(model, optimizer, options=options)}
    dcp.load(state, storage_reader=dcp.FileSystemReader(folder / "optimizer_0"))
    set_optimizer_state_dict(model, optimizer, state["optimizer"], options=options)


@pytest.mark.parametrize("flat", [False, True])
def test_a_distributed_run_goes_on_as_it_would_have(tmp_path, flat):
    model, optimizer = written(tmp_path / "a", flat)
    transport.trainer_checkpoint(tmp_path / "a", GAUGE, tmp_path / "b")
    other, stepping = start()
    read(tmp_path / "b", other, stepping, flat)
    for one, by in ((model, optimizer), (other, stepping)):
        trained(one, by, 3, 2)
    wanted = transport.state_dict(model.state_dict(), GAUGE, model)
    for name, tensor in other.state_dict().items():
        assert (tensor - wanted[name]).abs().max() < 1e-6 * wanted[name].abs().max()
