"""Runs in the folders of torch.distributed.checkpoint and in DeepSpeed's universal form."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
import torch.distributed.checkpoint as dcp
from begun import run_ranks
from steps import alike, departure, trained
from tiny_models import WIDTH, tiny_model
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from bmatch import SignedPermutation, transport
from bmatch.files.distributed import DistributedFiles

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
    assert departure(other, transport.state_dict(model.state_dict(), GAUGE, model)) < 1e-6


def of_two(rank, folder, rendezvous):
    """A process of two that share a model by FSDP: two steps, and all of it written together."""
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2
    )
    model = tiny_model("llama", tied=False, num_hidden_layers=1)
    fully_shard(model, mesh=init_device_mesh("cpu", (2,)))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, eps=1e-4)
    trained(model, optimizer, 2, 0)
    save({"model": model.state_dict()}, folder / "pytorch_model_fsdp_0")
    save({"optimizer": get_optimizer_state_dict(model, optimizer)}, folder / "optimizer_0")
    torch.distributed.destroy_process_group()


def test_what_two_processes_have_written(tmp_path):
    config_of(tiny_model("llama", tied=False, num_hidden_layers=1), tmp_path / "a")
    run_ranks(of_two, 2, tmp_path / "a", tmp_path / "rendezvous")
    for place in ("pytorch_model_fsdp_0", "optimizer_0"):
        names = {path.name for path in (tmp_path / "a" / place).iterdir()}
        assert names == {".metadata", "__0_0.distcp", "__1_0.distcp"}
    transport.trainer_checkpoint(tmp_path / "a", GAUGE, tmp_path / "b")
    one, other = (tiny_model("llama", tied=False, num_hidden_layers=1) for _ in "ab")
    steppers = [torch.optim.AdamW(m.parameters(), lr=1e-3, eps=1e-4) for m in (one, other)]
    for name, model, optimizer in zip("ab", (one, other), steppers, strict=True):
        read(tmp_path / name, model, optimizer)
        trained(model, optimizer, 3, 2)
    assert departure(other, transport.state_dict(one.state_dict(), GAUGE, one)) < 1e-6


TORCHTITAN = {
    "model.embed_tokens": "tok_embeddings",
    "model.norm": "norm",
    "model.layers": "layers",
    "self_attn": "attention",
    "q_proj": "qkv_linear.wq",
    "k_proj": "qkv_linear.wk",
    "v_proj": "qkv_linear.wv",
    "o_proj": "wo",
    "mlp": "feed_forward",
    "gate_proj": "w1",
    "down_proj": "w2",
    "up_proj": "w3",
    "input_layernorm": "attention_norm",
    "post_attention_layernorm": "ffn_norm",
}


def torchtitan(name, older=False):
    """Its name for a tensor, and for an entry of a flattened optimizer's state."""
    for ours, theirs in TORCHTITAN.items():
        name = name.replace(ours, theirs)
    return name.replace("qkv_linear.", "").replace("lm_head", "output") if older else name


@pytest.mark.parametrize("older", [False, True])
@pytest.mark.parametrize("tied", [False, True])
def test_a_run_of_torchtitan(tmp_path, tied, older):
    model = tiny_model("llama", tied=tied, num_hidden_layers=1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, eps=1e-4)
    trained(model, optimizer, 2, 0)
    options = StateDictOptions(flatten_optimizer_state_dict=True)
    state = get_optimizer_state_dict(model, optimizer, options=options)
    weights = dict(model.state_dict())
    if tied:
        del weights["lm_head.weight"]
    run = {
        **{torchtitan(name, older): tensor for name, tensor in weights.items()},
        "optimizer": {torchtitan(name, older): value for name, value in state.items()},
        "lr_scheduler": {"last_epoch": 2},
        "train_state": {"step": torch.tensor(2)},
    }
    save(run, tmp_path / "a")
    config_of(model, tmp_path / "a")
    transport.trainer_checkpoint(tmp_path / "a", GAUGE, tmp_path / "b")
    found = DistributedFiles(tmp_path / "b")
    wanted = transport.state_dict(weights, GAUGE, model)
    moments = transport.optimizer_state(optimizer.state_dict(), GAUGE, model)["state"]
    for k, (name, _) in enumerate(model.named_parameters()):
        assert torch.equal(found.tensor(torchtitan(name, older)), wanted[name])
        for slot in ("exp_avg", "exp_avg_sq"):
            key = f"optimizer/state.{torchtitan(name, older)}.{slot}"
            assert torch.equal(found.tensor(key), moments[k][slot])
    assert found.tensor("train_state/step") == 2


def full(folder, tied=True):
    """As accelerate's ``save_state`` leaves it with FSDP's full state."""
    model = tiny_model("llama", tied=tied, num_hidden_layers=1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, eps=1e-4)
    trained(model, optimizer, 2, 0)
    config_of(model, folder)
    torch.save(model.state_dict(), folder / "pytorch_model_fsdp.bin")
    state = get_optimizer_state_dict(
        model, optimizer, options=StateDictOptions(full_state_dict=True)
    )
    torch.save(state, folder / "optimizer.bin")
    torch.save({"last_epoch": 2}, folder / "scheduler.bin")
    return model, optimizer


@pytest.mark.parametrize("beside", [False, True])
@pytest.mark.parametrize("tied", [False, True])
def test_the_full_state_of_fsdp(tmp_path, tied, beside):
    """From accelerate; and as transformers' Trainer writes it, which has the weights twice."""
    model, optimizer = full(tmp_path / "a", tied)
    if beside:
        model.save_pretrained(tmp_path / "a")
    digest = transport.trainer_checkpoint(tmp_path / "a", GAUGE, tmp_path / "b")
    model.save_pretrained(tmp_path / "plain")
    assert digest == transport.checkpoint(tmp_path / "plain", GAUGE, tmp_path / "carried")
    other = tiny_model("llama", tied=tied, num_hidden_layers=1)
    stepping = torch.optim.AdamW(other.parameters(), lr=1e-3, eps=1e-4)
    other.load_state_dict(torch.load(tmp_path / "b/pytorch_model_fsdp.bin"))
    state = torch.load(tmp_path / "b/optimizer.bin")
    options = StateDictOptions(full_state_dict=True)
    set_optimizer_state_dict(other, stepping, state, options=options)
    assert torch.load(tmp_path / "b/scheduler.bin") == {"last_epoch": 2}
    for one, by in ((model, optimizer), (other, stepping)):
        trained(one, by, 3, 2)
    assert departure(other, transport.state_dict(model.state_dict(), GAUGE, model)) < 1e-6
    weights = torch.load(tmp_path / "a/pytorch_model_fsdp.bin")
    weights["odd.weight"] = torch.ones(WIDTH)
    torch.save(weights, tmp_path / "a/pytorch_model_fsdp.bin")
    with pytest.raises(ValueError, match=r"odd\.weight"):
        transport.trainer_checkpoint(tmp_path / "a", GAUGE, tmp_path / "c")
    assert not (tmp_path / "c").exists()


def universal(folder, bare=False):
    """As ds_to_universal.py writes it; of ZeRO-3 it writes bare tensors in one row."""
    model, optimizer = start()
    config_of(model, folder)
    for name, parameter in model.named_parameters():
        kept = {"fp32": parameter.detach(), **optimizer.state[parameter]}
        place = folder / "zero" / name
        place.mkdir(parents=True)
        for slot, value in kept.items():
            saved = value if slot == "step" else {"param": value, "cat_dim": 0}
            torch.save(value.flatten() if bare else saved, place / f"{slot}.pt")
    states = {"module": model.state_dict(), "global_steps": 2}
    torch.save(states, folder / "mp_rank_00_model_states.pt")
    (folder / "latest_universal").write_text("a")
    return model, optimizer


@pytest.mark.parametrize("bare", [False, True])
def test_the_universal_form_of_deepspeed(tmp_path, bare):
    model, optimizer = universal(tmp_path / "a", bare)
    transport.trainer_checkpoint(tmp_path / "a", GAUGE, tmp_path / "b")
    other, stepping = start()
    for name, parameter in other.named_parameters():
        place = tmp_path / "b" / "zero" / name
        read = {path.stem: torch.load(path, weights_only=True) for path in place.iterdir()}
        read = {k: v["param"] if isinstance(v, dict) else v for k, v in read.items()}
        read = {k: v if k == "step" else v.view_as(parameter) for k, v in read.items()}
        parameter.data.copy_(read.pop("fp32"))
        stepping.state[parameter] = read
    states = torch.load(tmp_path / "b" / "mp_rank_00_model_states.pt", weights_only=True)
    assert departure(other, states["module"]) == 0
    assert states["global_steps"] == 2
    for one, by in ((model, optimizer), (other, stepping)):
        trained(one, by, 3, 2)
    assert departure(other, transport.state_dict(model.state_dict(), GAUGE, model)) < 1e-6


@pytest.mark.parametrize("write", [written, universal])
def test_there_and_back_every_bit_is_the_same(tmp_path, write):
    write(tmp_path / "a")
    digest = transport.trainer_checkpoint(tmp_path / "a", GAUGE, tmp_path / "b")
    model, _ = start()
    model.save_pretrained(tmp_path / "plain")
    if write is written:
        shutil.copytree(tmp_path / "a" / "optimizer_0", tmp_path / "plain" / "optimizer_0")
    assert digest == transport.checkpoint(tmp_path / "plain", GAUGE, tmp_path / "carried")
    assert not (tmp_path / "carried" / "optimizer_0").exists()
    transport.trainer_checkpoint(tmp_path / "b", GAUGE.inverse(), tmp_path / "c")
    for place in ("pytorch_model_fsdp_0", "optimizer_0") if write is written else ():
        one, other = (DistributedFiles(tmp_path / f / place) for f in "ac")
        assert (one.shapes, one.values) == (other.shapes, other.values)
        assert all(torch.equal(one.tensor(name), other.tensor(name)) for name in one.shapes)
    for path in (tmp_path / "a").rglob("*.pt"):
        one = torch.load(path, weights_only=True)
        other = tmp_path / "c" / path.relative_to(tmp_path / "a")
        assert alike(one, torch.load(other, weights_only=True))


def test_refusals_are_one_sentence_and_leave_nothing_behind(tmp_path):
    folder = tmp_path / "a"
    model, optimizer = written(folder)

    def refused(told, kind=ValueError):
        with pytest.raises(kind, match=told) as caught:
            transport.trainer_checkpoint(folder, GAUGE, tmp_path / "out")
        assert len(str(caught.value).splitlines()) == 1
        assert [path.name for path in tmp_path.iterdir()] == ["a"]

    shutil.rmtree(folder / "optimizer_0")
    refused("has no state of an optimizer", FileNotFoundError)
    state = get_optimizer_state_dict(model, optimizer)
    norm = {**state["state"]["model.norm.weight"], "GG": torch.zeros(3)}
    planted = {**state["state"], "model.norm.weight": norm}
    save({"optimizer": {**state, "state": planted}}, folder / "optimizer_0")
    refused(r"optimizer_0: state/model\.norm\.weight/GG: Shampoo and SOAP")
    shutil.rmtree(folder / "optimizer_0")
    save({"optimizer": state}, folder / "optimizer_0")
    weights = model.state_dict()
    weights.pop("model.norm.weight")
    shutil.rmtree(folder / "pytorch_model_fsdp_0")
    save({"model": weights}, folder / "pytorch_model_fsdp_0")
    refused(r"missing: model\.norm\.weight")
    shutil.rmtree(folder / "pytorch_model_fsdp_0")
    save({"ema": model.state_dict()}, folder / "pytorch_model_fsdp_0")
    refused(r"how these move with the stream is not known: ema/")
    (folder / "config.json").unlink()
    refused(rf"{folder} has no config\.json")


@pytest.mark.parametrize(
    ("write", "known"),
    [(written, "torch.distributed.checkpoint"), (universal, "DeepSpeed, universal form")],
)
def test_a_run_is_found_by_its_content(tmp_path, write, known):
    model, _ = write(tmp_path / "a")
    transport.trainer_checkpoint(tmp_path / "a", GAUGE, tmp_path / "b")
    config = tmp_path / "a" / "config.json"
    nameless = {key: value for key, value in model.config.to_dict().items() if key != "model_type"}
    config.write_text(json.dumps(nameless))
    with pytest.raises(ValueError, match=rf"^{tmp_path / 'a'}: the config has no model_type"):
        transport.find_object(tmp_path / "a")
    config.unlink()
    with pytest.raises(ValueError, match=rf"^{tmp_path / 'a'} has no config\.json"):
        transport.find_object(tmp_path / "a")
    with pytest.raises(ValueError, match=rf"^{tmp_path / 'a'}: the config has no model_type"):
        transport.find_object(tmp_path / "a", model={})
    found = transport.find_object(tmp_path / "a", model=model.config.to_dict())
    assert (found.kind, found.format) == ("training run", known)
    assert found.where == {"architecture": "llama", "coordinates": WIDTH, "blocks": 1}
    transport.carry(found, GAUGE, tmp_path / "c")
    names = [path.relative_to(tmp_path / "b") for path in (tmp_path / "b").rglob("*.pt")]
    for name in names:
        assert (tmp_path / "c" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    for place in {path.parent.name for path in (tmp_path / "b").rglob(".metadata")}:
        made, other = (DistributedFiles(tmp_path / x / place) for x in "bc")
        for key in made.container().shapes:
            assert torch.equal(made.tensor(key), other.tensor(key)), key
