"""Runs of torchtitan's experts and of Megatron-core, whose tensors bear names of their own."""

from __future__ import annotations

import io
import json
import pickle
import re
import shutil
from itertools import product

import pytest
import torch
import torch.distributed.checkpoint as dcp
import transformers
from other_names import from_megatron, from_torchtitan, megatron, torchtitan
from steps import departure, trained
from tiny_models import WIDTH, tiny_model

from bmatch import SignedPermutation, transport
from bmatch.files.distributed import INDEX, DistributedFiles

pytestmark = pytest.mark.filterwarnings("ignore:.*single process.*:UserWarning")
GAUGE = SignedPermutation.random(WIDTH, seed=1)
MOMENTS = ("exp_avg", "exp_avg_sq")
MASTERS = ("fp32_param", "param")  # what Megatron's optimizers call weights in float32
SIZES = {
    "vocab_size": 300,
    "hidden_size": WIDTH,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "tie_word_embeddings": False,
    "pad_token_id": 0,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "num_experts_per_tok": 2,
}
EXPERTS = {
    "qwen3_moe": {"num_local_experts": 4, "moe_intermediate_size": 24},
    "deepseek_v3": {
        **{"n_routed_experts": 4, "moe_intermediate_size": 24, "first_k_dense_replace": 1},
        **{"n_group": 2, "topk_group": 1, "q_lora_rank": 12, "kv_lora_rank": 10},
        **{"qk_rope_head_dim": 4, "qk_nope_head_dim": 6, "v_head_dim": 8, "head_dim": 4},
        "num_key_value_heads": 4,
    },
    "llama4_text": {"num_local_experts": 4, "intermediate_size_mlp": 40, "num_experts_per_tok": 1},
    "mixtral": {"num_local_experts": 4},
}


def start(model_type, steps=2):
    """A model and its optimizer after some steps."""
    if model_type in EXPERTS:
        kind = transformers.CONFIG_MAPPING[model_type]
        config = kind(**{**SIZES, **EXPERTS[model_type]})
        torch.manual_seed(0)
        model = transformers.AutoModelForCausalLM.from_config(config).eval()
        with torch.no_grad():
            for name, tensor in model.state_dict().items():
                if "layernorm" in name or "bias" in name:
                    tensor.add_(0.3 * torch.randn(tensor.shape))
    else:
        tied = model_type == "qwen3"
        options = {"attention_bias": False, "mlp_bias": False} if model_type == "llama" else {}
        model = tiny_model(model_type, tied=tied, **options)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, eps=1e-4)
    trained(model, optimizer, steps, 0)
    return model, optimizer


def states(model, optimizer):
    """Of a model: weights, and moments by slot, by transformers' names."""
    weights = {k: v.clone() for k, v in model.state_dict().items()}
    if model.config.tie_word_embeddings:
        del weights["lm_head.weight"]
    kept = {name: optimizer.state[p] for name, p in model.named_parameters()}
    return weights, {slot: {n: s[slot] for n, s in kept.items()} for slot in MOMENTS}


def carried(model, optimizer):
    """What `states` has to be in the coordinates that the gauge leads to."""
    weights, _ = states(model, optimizer)
    state = transport.optimizer_state(optimizer.state_dict(), GAUGE, model)["state"]
    names = [name for name, _ in model.named_parameters()]
    moments = {s: {n: state[k][s] for k, n in enumerate(names)} for s in MOMENTS}
    return transport.state_dict(weights, GAUGE, model), moments


def saved(run, config, folder):
    dcp.save(run, storage_writer=dcp.FileSystemWriter(folder))
    (folder / "config.json").write_text(json.dumps(config.to_dict()))


def of_torchtitan(model, optimizer, folder, convert=torchtitan):
    weights, moments = states(model, optimizer)
    spelled = {slot: convert(found, model.config) for slot, found in moments.items()}
    flat = {f"state.{n}.{s}": t for s, found in spelled.items() for n, t in found.items()}
    for name in spelled["exp_avg"]:
        flat |= {f"state.{name}.step": torch.tensor(2.0), f"param_groups.{name}.lr": 1e-3}
    saved(
        {**convert(weights, model.config), "optimizer": flat, "train_state": {"step": 2}},
        model.config,
        folder,
    )


SHARD = pickle.dumps(io.StringIO)  # could be anything: it is not loaded


def of_megatron(model, optimizer, folder, **how):
    """As ``megatron.core.dist_checkpointing.save`` leaves it: no nesting, all in one folder."""
    weights, moments = states(model, optimizer)
    trained = {n: weights[n] for n in moments["exp_avg"]}
    moments = {**dict.fromkeys(MASTERS, trained), **moments}
    run = megatron(weights, model.config, **how)
    for slot, found in moments.items():
        spelled = megatron(found, model.config, **how)
        run |= {f"optimizer.state.{slot}.{name}": tensor for name, tensor in spelled.items()}
    saved({**run, "rng_state/shard_0_1": SHARD}, model.config, folder)
    (folder / "metadata.json").write_text('{"sharded_backend": "torch_dist"}')
    torch.save({"iteration": 2}, folder / "common.pt")


def require_alike(folder, wanted):
    found = DistributedFiles(folder)
    for name, tensor in wanted.items():
        assert torch.equal(found.tensor(name), tensor), name
    assert set(wanted) <= set(found.shapes)
    return found


def require_same(one, other):
    """Two folders have the same tensors, bit for bit, and the same of all else."""
    first, second = DistributedFiles(one), DistributedFiles(other)
    assert (first.shapes, sorted(first.others)) == (second.shapes, sorted(second.others))
    assert all(torch.equal(first.tensor(name), second.tensor(name)) for name in first.shapes)
    assert all(first._bytes(name) == second._bytes(name) for name in first.others)
    for path in one.iterdir():
        if path not in first.files:
            assert (other / path.name).read_bytes() == path.read_bytes()


def require_steps_on(model, optimizer, weights, moments):
    """A run that starts there goes on as this one does, in other coordinates."""
    other, stepping = start(model.config.model_type, steps=1)
    other.load_state_dict(weights, strict=not model.config.tie_word_embeddings)
    for name, parameter in other.named_parameters():
        kept = {slot: found[name] for slot, found in moments.items()}
        stepping.state[parameter] = {"step": torch.tensor(2.0), **kept}
    for one, by in ((model, optimizer), (other, stepping)):
        trained(one, by, 3, 2)
    assert departure(other, transport.state_dict(model.state_dict(), GAUGE, model)) < 1e-5


@pytest.mark.parametrize("model_type", ["qwen3_moe", "deepseek_v3", "llama4_text", "mixtral"])
def test_experts_of_torchtitan(tmp_path, model_type):
    model, optimizer = start(model_type)
    of_torchtitan(model, optimizer, tmp_path / "a")
    transport.trainer_checkpoint(tmp_path / "a", GAUGE, tmp_path / "b")
    weights, moments = carried(model, optimizer)
    found = require_alike(tmp_path / "b", torchtitan(weights, model.config))
    spelled = {slot: torchtitan(kept, model.config) for slot, kept in moments.items()}
    of_state = {
        f"optimizer/state.{n}.{s}": t for s, kept in spelled.items() for n, t in kept.items()
    }
    require_alike(tmp_path / "b", of_state)
    assert any("w1_EFD" in name for name in found.shapes)
    read = {name: found.tensor(name) for name in torchtitan(weights, model.config)}
    state = {slot: {n: found.tensor(f"optimizer/state.{n}.{slot}") for n in kept}
             for slot, kept in spelled.items()}  # fmt: skip
    require_steps_on(
        model,
        optimizer,
        from_torchtitan(read, model.config),
        {slot: from_torchtitan(kept, model.config) for slot, kept in state.items()},
    )
    require_way_back(tmp_path)


def require_way_back(folder):
    """The inverse gauge, on what was carried from a to b, gives every file of a."""
    transport.trainer_checkpoint(folder / "b", GAUGE.inverse(), folder / "c")
    (folder / "c" / "bmatch.json").unlink()
    require_same(folder / "a", folder / "c")


def renamed(pattern, name):
    return lambda found, config: {
        re.sub(pattern, name, k): v for k, v in torchtitan(found, config).items()
    }


def test_experts_whose_names_tell_no_axes(tmp_path):
    """Before 0.3; before 0.2 axes had another order, which lengths tell where they can."""
    model, optimizer = start("qwen3_moe")
    older = renamed(r"moe\.(experts\.w\d)_\w+", r"moe.\1")
    of_torchtitan(model, optimizer, tmp_path / "a", older)
    transport.trainer_checkpoint(tmp_path / "a", GAUGE, tmp_path / "b")
    require_alike(tmp_path / "b", older(carried(model, optimizer)[0], model.config))

    def oldest(found, config):
        return {
            k: v.mT.contiguous() if "moe.experts" in k else v
            for k, v in older(found, config).items()
        }

    of_torchtitan(model, optimizer, tmp_path / "c", oldest)
    with pytest.raises(
        ValueError, match=r"moe\.experts\.w1 is \[4, 32, 24\] and not \[4, 24, 32\]"
    ):
        transport.trainer_checkpoint(tmp_path / "c", GAUGE, tmp_path / "d")
    model.config.moe_intermediate_size = WIDTH
    (tmp_path / "c" / "config.json").write_text(json.dumps(model.config.to_dict()))
    with pytest.raises(ValueError, match="where both are 32 long nothing tells which"):
        transport.trainer_checkpoint(tmp_path / "c", GAUGE, tmp_path / "d")


MEGATRON = [
    ("llama", {"stacked": True}),
    ("llama", {"stacked": True, "norms": "own"}),
    ("llama", {"stacked": False}),
    ("llama", {"stacked": False, "halves": True}),
    ("qwen3", {"stacked": True}),
    ("qwen3_moe", {"stacked": True}),
    ("qwen3_moe", {"stacked": False, "halves": True}),
    ("mixtral", {"stacked": False}),
]


@pytest.mark.parametrize(("model_type", "how"), MEGATRON)
def test_a_run_of_megatron(tmp_path, model_type, how):
    model, optimizer = start(model_type)
    of_megatron(model, optimizer, tmp_path / "a", **how)
    transport.trainer_checkpoint(tmp_path / "a", GAUGE, tmp_path / "b")
    weights, moments = carried(model, optimizer)
    wanted = megatron(weights, model.config, **how)
    for slot, kept in moments.items():
        spelled = megatron(kept, model.config, **how)
        wanted |= {f"optimizer.state.{slot}.{name}": tensor for name, tensor in spelled.items()}
    found = require_alike(tmp_path / "b", wanted)
    of_weights = [name for name in wanted if not name.startswith("optimizer.")]
    for name, slot in product(of_weights, MASTERS):
        assert torch.equal(found.tensor(f"optimizer.state.{slot}.{name}"), wanted[name])
    if model_type == "llama":
        read = {n: found.tensor(n) for n in of_weights}
        state = {
            slot: {n: found.tensor(f"optimizer.state.{slot}.{n}") for n in of_weights}
            for slot in MOMENTS
        }
        require_steps_on(
            model,
            optimizer,
            from_megatron(read, model.config),
            {slot: from_megatron(kept, model.config) for slot, kept in state.items()},
        )
    require_way_back(tmp_path)


def test_padded_tokens_and_gains_less_one(tmp_path):
    """apply_layernorm_1p keeps gain - 1, and the table of tokens has rows that are none."""
    model, optimizer = start("llama")
    of_megatron(model, optimizer, tmp_path / "a", stacked=True, padding=84)
    found = transport.find_object(tmp_path / "a")
    assert found.format == "Megatron-core, torch.distributed.checkpoint"
    transport.trainer_checkpoint(tmp_path / "a", GAUGE, tmp_path / "b")
    weights, _ = carried(model, optimizer)
    require_alike(tmp_path / "b", megatron(weights, model.config, stacked=True, padding=84))
    perm = torch.tensor(GAUGE.perm.tolist())
    one, other = (DistributedFiles(tmp_path / x) for x in "ab")
    gain = "decoder.layers.mlp.linear_fc1.layer_norm_weight"
    assert torch.equal(other.tensor(gain) - 1, (one.tensor(gain) - 1)[:, perm])


def in_pieces(tensor, grid):
    """As `ShardedTensor` with flattened ranges was kept before 0.14: one row for each piece."""
    pieces = tensor
    for axis, count in enumerate(grid):
        pieces = torch.stack(pieces.chunk(count, dim=axis + axis), axis)
    return pieces.reshape(*grid, -1)


def test_moments_in_pieces(tmp_path):
    """fully_sharded_model_space: what data-parallel processes share, by tensor-parallel parts."""
    model, optimizer = start("llama")
    weights, moments = states(model, optimizer)
    run = megatron(weights, model.config, stacked=True)
    grids = {"linear_qkv.weight": (2, 2, 1), "linear_proj.weight": (2, 1, 2)}
    grids |= {"linear_fc1.weight": (2, 4, 1), "linear_fc2.weight": (2, 1, 2)}
    grids |= {"layer_norm_weight": (2, 1), "word_embeddings.weight": (2, 1)}

    def kept(found):
        spelled = megatron(found, model.config, stacked=True)
        grid = {n: next((g for end, g in grids.items() if n.endswith(end)), None) for n in spelled}
        return {n: t if grid[n] is None else in_pieces(t, grid[n]) for n, t in spelled.items()}

    for slot, found in moments.items():
        run |= {f"optimizer.state.{slot}.{name}": t for name, t in kept(found).items()}
    saved(run, model.config, tmp_path / "a")
    index = pickle.loads((tmp_path / "a" / INDEX).read_bytes())
    index.mcore_data = {"decoder.final_layernorm.weight": {"told": torch.Size([WIDTH])}}
    (tmp_path / "a" / INDEX).write_bytes(pickle.dumps(index))
    transport.trainer_checkpoint(tmp_path / "a", GAUGE, tmp_path / "b")
    for slot, found in carried(model, optimizer)[1].items():
        spelled = {f"optimizer.state.{slot}.{name}": t for name, t in kept(found).items()}
        require_alike(tmp_path / "b", spelled)
    again = pickle.loads((tmp_path / "b" / INDEX).read_bytes())
    assert again.mcore_data == index.mcore_data


def test_what_is_refused(tmp_path):
    model, optimizer = start("llama")
    of_megatron(model, optimizer, tmp_path / "a", stacked=True)

    def refused(told, run=None, **config):
        folder = tmp_path / "x"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(tmp_path / "a", folder)
        if run is not None:
            (folder / INDEX).unlink()
            dcp.save(run, storage_writer=dcp.FileSystemWriter(folder))
        (folder / "config.json").write_text(json.dumps({**model.config.to_dict(), **config}))
        with pytest.raises(ValueError, match=told) as caught:
            transport.trainer_checkpoint(folder, GAUGE, tmp_path / "out")
        assert len(str(caught.value).splitlines()) == 1
        assert not (tmp_path / "out").exists()

    found = DistributedFiles(tmp_path / "a")
    whole = {name: found.tensor(name) for name in found.shapes}
    bucket = (
        "optimizer.distributed.dp_group_idx_0.gbuf_idx_0.dtype_(float, float).bucket_idx_0.param"
    )
    refused("buckets of many parameters", {**whole, bucket: torch.zeros(100)})
    zero = "chained_1.optimizer.distributed.dp_group_idx_0.param_state/shard_0_1"
    refused(r"chained_1\.optimizer.*--dist-ckpt-optim-fully-reshardable", {**whole, zero: SHARD})
    refused("linear_qkv.weight is .2, 64, 32. and not .3, 64, 32.", num_hidden_layers=3)
    refused("linear_fc1.weight is .2, 96, 32. and not .2, 80, 32.", intermediate_size=40)
    refused("missing: decoder.layers.self_attention.q_layernorm.weight", model_type="qwen3")
    refused("what Megatron-core calls the tensors of a gemma2 is not known", model_type="gemma2")
    gain = "decoder.layers.mlp.linear_fc1.layer_norm_weight"
    refused(f"missing: {gain}", {n: t for n, t in whole.items() if n != gain})
    refused(
        "not known: mtp.layers.eh_proj.weight", {**whole, "mtp.layers.eh_proj.weight": whole[gain]}
    )
    moment = f"optimizer.state.exp_avg.{gain}"
    refused(f"exp_avg of {gain}, .2, 32., is .32.", {**whole, moment: torch.zeros(WIDTH)})
    refused("GG: Shampoo and SOAP", {**whole, f"optimizer.state.GG.{gain}": torch.zeros(3)})


def test_a_run_of_megatron_is_found_by_its_content(tmp_path):
    model, optimizer = start("llama")
    of_megatron(model, optimizer, tmp_path / "a", stacked=True)
    found = transport.find_object(tmp_path / "a")
    assert found.kind == "training run"
    transport.carry(found, GAUGE, tmp_path / "b")
    transport.trainer_checkpoint(tmp_path / "a", GAUGE, tmp_path / "c")
    require_same(tmp_path / "b", tmp_path / "c")
