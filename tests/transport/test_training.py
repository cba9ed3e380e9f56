"""Real runs of transformers' Trainer, resumed from carried folders."""

from __future__ import annotations

import json
import pickle
import shutil

import accelerate
import pytest
import torch
import transformers
from steps import alike, departure, trained
from tiny_models import VOCABULARY, WIDTH, load, tensors_of, tiny_model
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)

from bmatch import OrthogonalGauge, SignedPermutation, transport
from bmatch.transport.objects import carry
from bmatch.transport.optimizer import find

GAUGE = SignedPermutation.random(WIDTH, seed=1)
ADAM = {"lr": 1e-3, "eps": 1e-4}


class Tokens(torch.utils.data.Dataset):
    def __len__(self):
        return 16

    def __getitem__(self, k):
        generator = torch.Generator().manual_seed(k)
        tokens = torch.randint(VOCABULARY, (12,), generator=generator)
        return {"input_ids": tokens, "labels": tokens}


def run(model, folder, resume=None, **options):
    """The model after six steps, with weight decay and a learning rate that falls."""
    arguments = transformers.TrainingArguments(
        str(folder),
        max_steps=6,
        save_steps=3,
        per_device_train_batch_size=2,
        learning_rate=1e-3,
        adam_epsilon=1e-4,
        weight_decay=0.1,
        use_cpu=True,
        report_to=[],
        disable_tqdm=True,
        logging_strategy="no",
        **options,
    )
    trainer = transformers.Trainer(model.train(), arguments, train_dataset=Tokens())
    trainer.train(resume_from_checkpoint=resume)
    return trainer.model


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """A run with two groups of parameters and tied embeddings, and its folder after three steps."""
    folder = tmp_path_factory.mktemp("run")
    return run(tiny_model("llama", num_hidden_layers=1), folder), folder / "checkpoint-3"


def test_a_resumed_run_goes_on_as_it_would_have(first, tmp_path):
    model, folder = first
    groups = torch.load(folder / "optimizer.pt", weights_only=True)["param_groups"]
    assert [group["weight_decay"] for group in groups] == [0.1, 0.0]
    carried = tmp_path / "checkpoint-3"
    transport.trainer_checkpoint(folder, GAUGE, carried)
    wanted = transport.state_dict(model.state_dict(), GAUGE, model)
    resumed = run(load(carried), tmp_path / "b", str(carried))
    assert departure(resumed, wanted) < 1e-6
    transport.trainer_checkpoint(folder, SignedPermutation(GAUGE.perm), tmp_path / "bare")
    shutil.copy(tmp_path / "bare" / "optimizer.pt", carried / "optimizer.pt")
    assert departure(run(load(carried), tmp_path / "c", str(carried)), wanted) > 1e-3


def test_there_and_back_every_bit_is_the_same(first, tmp_path):
    _, folder = first
    digest = transport.trainer_checkpoint(folder, GAUGE, tmp_path / "b")
    assert digest == transport.checkpoint(folder, GAUGE, tmp_path / "weights")
    transport.trainer_checkpoint(tmp_path / "b", GAUGE.inverse(), tmp_path / "c")
    files = {path.name: path for path in folder.iterdir()}
    assert files.keys() == {path.name for path in (tmp_path / "c").iterdir()}
    changed = {"model.safetensors", "optimizer.pt"}
    for name in files.keys() - changed:
        assert files[name].read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert alike(tensors_of(folder), tensors_of(tmp_path / "c"))
    states = [torch.load(f / "optimizer.pt", weights_only=True) for f in (folder, tmp_path / "c")]
    assert alike(*states)
    assert not {"optimizer.pt", "rng_state.pth"} & {
        p.name for p in (tmp_path / "weights").iterdir()
    }


@pytest.mark.parametrize("by_name", [False, True])
def test_folders_of_accelerate(tmp_path, by_name):
    """Its save_state; and with the optimizer's full state by name, as it saves that of FSDP."""
    model = tiny_model("llama", num_hidden_layers=1)
    optimizer = torch.optim.AdamW(model.parameters(), **ADAM)
    trained(model, optimizer, 2, 0)
    accelerator = accelerate.Accelerator(cpu=True)
    prepared = accelerator.prepare(model, optimizer)
    accelerator.save_state(str(tmp_path / "a"))
    model.config.save_pretrained(tmp_path / "a")
    options = StateDictOptions(full_state_dict=True)
    if by_name:
        full = get_optimizer_state_dict(model, optimizer, options=options)
        assert "model.norm.weight" in full["state"]
        torch.save(full, tmp_path / "a" / "optimizer.bin")
    transport.trainer_checkpoint(tmp_path / "a", GAUGE, tmp_path / "b")
    trained(model, optimizer, 3, 2)
    wanted = transport.state_dict(model.state_dict(), GAUGE, model)
    if by_name:
        model.load_state_dict(load(tmp_path / "b").state_dict())
        full = torch.load(tmp_path / "b" / "optimizer.bin", weights_only=True)
        set_optimizer_state_dict(model, optimizer, full, options=options)
    else:
        accelerator.load_state(str(tmp_path / "b"))
    trained(model, optimizer, 3, 2)
    assert departure(model, wanted) < 1e-6
    del prepared


class Malicious:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return shutil.rmtree, (str(self.path),)


def test_refusals_are_one_sentence_and_leave_nothing_behind(first, tmp_path):
    folder = shutil.copytree(first[1], tmp_path / "a")
    content = (folder / "optimizer.pt").read_bytes()

    def refused(told, kind=ValueError, gauge=GAUGE):
        with pytest.raises(kind, match=told) as caught:
            transport.trainer_checkpoint(folder, gauge, tmp_path / "out")
        assert len(str(caught.value).splitlines()) == 1
        assert [path.name for path in tmp_path.iterdir()] == ["a"]

    refused("signed permutations alone", gauge=OrthogonalGauge.random(WIDTH, seed=0))
    refused("the gauge acts on 8 coordinates", gauge=SignedPermutation.identity(8))
    (folder / "optimizer.pt").write_bytes(content[:-4000])
    refused(r"optimizer\.pt is no file of torch\.save, or is damaged")
    (folder / "optimizer.pt").write_bytes(pickle.dumps(Malicious(folder), 2))
    refused("could run code when it is loaded|is no file of torch")
    torch.save({"state": Malicious(folder)}, folder / "optimizer.pt")
    refused("could run code when it is loaded")
    state = torch.load(first[1] / "optimizer.pt", weights_only=True)
    state["state"][0]["state1"] = torch.zeros(3)
    torch.save(state, folder / "optimizer.pt")
    refused(r"optimizer\.pt: state/0/state1: bitsandbytes keeps it in blocks")
    (folder / "optimizer.pt").unlink()
    refused(r"has no optimizer\.pt and no optimizer\.bin", FileNotFoundError)
    (folder / "global_step3").mkdir()
    refused("make the universal form of it")


def test_moments_that_did_not_move_are_found_before_the_folder_is_there(
    first, tmp_path, monkeypatch
):
    monkeypatch.setattr(
        "bmatch.transport.objects.Along.__call__", lambda self, tensor, gauge: tensor
    )
    with pytest.raises(ValueError, match="did not move as the weight did: nothing was written"):
        transport.trainer_checkpoint(first[1], GAUGE, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_a_state_alone_is_found_with_the_config_beside_it(first, tmp_path):
    found = find(first[1] / "optimizer.pt")
    assert (found.kind, found.width) == ("optimizer state", WIDTH)
    carry(found, GAUGE, tmp_path / "state.pt")
    transport.trainer_checkpoint(first[1], GAUGE, tmp_path / "b")
    whole = torch.load(tmp_path / "b" / "optimizer.pt", weights_only=True)
    assert alike(torch.load(tmp_path / "state.pt", weights_only=True), whole)
    assert json.loads((tmp_path / "state.pt.bmatch.json").read_text())["bmatch_group"]
    assert find(first[1] / "scheduler.pt") is None
    with pytest.raises(ValueError, match=r"put its config\.json beside it"):
        find(tmp_path / "state.pt")
