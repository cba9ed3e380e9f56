"""Models spread over devices and disk, or sharded: the gauge of plain ones, to the bit."""

from __future__ import annotations

import gc
import tempfile

import accelerate
import numpy as np
import pytest
import torch
import torch.distributed
import torch.distributed.checkpoint as dcp
import transformers
from begun import run_ranks
from tiny_models import WIDTH, in_gauge, load, noisy_copy, tiny_model
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

import bmatch
from bmatch import SignedPermutation, architecture
from bmatch.models.activations import Reader
from bmatch.models.checkpoint import open_checkpoint
from bmatch.models.loading import load_model
from bmatch.models.placed import PlacedWeights, input_device

SECRET = SignedPermutation.random(WIDTH, seed=3)
BESIDE = {"model.rotary_emb": "cpu", "model.norm": "cpu", "lm_head": "cpu"}


def random_batches(count=18):  # in stretches, from 16 on
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(300, (2, 32), generator=generator) for _ in range(count)]


def two(model_type="llama", **options):
    """A model, and a noisy one in a gauge of it: source and target."""
    source = tiny_model(model_type, **options)
    return source, in_gauge(noisy_copy(source, 0.1, 1), SECRET)


def same(found, expected):
    """All that is told of a match is the same."""
    assert found.gauge == expected.gauge
    assert found.gauge.metadata == expected.gauge.metadata
    assert (found.score, found.verdict) == (expected.score, expected.verdict)
    assert np.array_equal(found.probability, expected.probability)
    assert np.array_equal(found.margin, expected.margin)


@pytest.mark.parametrize(
    "places",
    [
        {"": "disk"},
        {**BESIDE, "model.embed_tokens": "cpu", "model.layers": "disk"},
        {**BESIDE, "model.embed_tokens": "cpu", "model.layers.0": "disk", "model.layers.1": "cpu"},
    ],
    ids=["disk", "layers on disk", "a layer on disk"],
)
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_a_device_map_does_not_matter(tmp_path, places, tied):
    """accelerate's devices here are memory and disk; of GPUs none is at hand."""
    spread = []
    for name, model in zip("ab", two(tied=tied), strict=True):
        model.save_pretrained(tmp_path / name, max_shard_size="20KB")
        spread.append(
            transformers.AutoModelForCausalLM.from_pretrained(
                tmp_path / name, device_map=places, offload_folder=tmp_path / f"off {name}"
            ).eval()
        )
        assert any(parameter.is_meta for parameter in spread[-1].parameters())
        assert input_device(spread[-1]) == torch.device("cpu")
    whole = [load(tmp_path / name) for name in "ab"]
    for options in ({"batches": random_batches()}, {"evidence": "weights"}):
        expected = bmatch.estimate_gauge(whole[1], whole[0], **options)
        assert expected.gauge == SECRET
        for target, source in ((spread[1], spread[0]), (spread[1], whole[0])):
            same(bmatch.estimate_gauge(target, source, **options), expected)


@pytest.mark.parametrize("offload", [accelerate.cpu_offload, accelerate.cpu_offload_with_hook])
def test_weights_that_come_when_they_are_needed(offload):
    source, target = two()
    expected = bmatch.estimate_gauge(target, source, random_batches(2))
    for model in (source, target):
        offload(model, "cpu")
    same(bmatch.estimate_gauge(target, source, random_batches(2)), expected)


def test_gains_on_disk_are_tested(tmp_path):
    """For a rotation they have to be flat."""
    tiny_model().save_pretrained(tmp_path / "a")
    model = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path / "a", device_map={"": "disk"}, offload_folder=tmp_path / "off"
    ).eval()
    with pytest.raises(ValueError, match="gains"):
        bmatch.estimate_gauge(model, model, random_batches(2), group="orthogonal")


def test_weights_that_are_nowhere_are_told():
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(tiny_model().config)
    with pytest.raises(ValueError, match=r"embed_tokens\.weight is on the meta device, wi"):
        bmatch.estimate_gauge(model, tiny_model(), evidence="weights")


def test_a_model_that_does_not_fit_is_spread_over_memory_and_disk(tmp_path, monkeypatch):
    model = tiny_model()
    model.save_pretrained(tmp_path / "a")
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    size = 4 * sum(parameter.numel() for parameter in model.parameters())
    monkeypatch.setattr(accelerate.utils, "get_max_memory", lambda: {"cpu": 10 * size})
    for spare, absent in ((0, {False}), (9 * size, {False, True}), (20 * size, {True})):
        spread = load_model(open_checkpoint(tmp_path / "a"), "float32", "auto", spare)
        assert {parameter.is_meta for parameter in spread.parameters()} == absent
        weights = PlacedWeights(spread)
        assert all(torch.equal(weights[name], held) for name, held in model.state_dict().items())
    del spread, weights
    gc.collect()
    assert list((tmp_path / "tmp").iterdir()) == []


BERT = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
OTHERS = {
    "bert": BERT,
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4},
    "mixtral": {**BERT, "num_key_value_heads": 2, "num_local_experts": 4},
    "t5": {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "decoder_start_token_id": 0},
}


def another(model_type, noise):
    """Of a type that reads in a way of its own: masked, with positions, with experts, encoded."""
    more = {} if model_type in ("t5", "gpt2") else {"intermediate_size": 48}
    config = transformers.AutoConfig.for_model(
        model_type, vocab_size=300, pad_token_id=0, **OTHERS[model_type], **more
    )
    for auto in ("MaskedLM", "CausalLM", "Seq2SeqLM"):
        kinds = getattr(transformers, f"AutoModelFor{auto}")
        if type(config) in kinds._model_mapping:
            model = kinds.from_config(config).eval()
            break
    drawn = torch.Generator().manual_seed(0), torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            plain, other = (torch.randn(parameter.shape, generator=each) for each in drawn)
            parameter.copy_(0.3 * plain if parameter.ndim > 1 else 1 + 0.4 * plain)
            parameter.add_(noise * other)
    return model, kinds


@pytest.mark.filterwarnings("ignore:.*overflow:UserWarning")
@pytest.mark.parametrize("model_type", OTHERS)
def test_other_types_are_read_alike(tmp_path, model_type, one_process):
    pair = [another(model_type, noise)[0] for noise in (0.0, 0.02)]
    expected = bmatch.estimate_gauge(pair[1], pair[0], random_batches(2))
    spread, shards = [], []
    for noise in (0.0, 0.02):
        model, kinds = another(model_type, noise)
        folder = tmp_path / str(noise)
        model.save_pretrained(folder)
        spread.append(
            kinds.from_pretrained(
                folder, device_map={"": "disk"}, offload_folder=tmp_path / f"off {noise}"
            ).eval()
        )
        for block in Reader.of(model).blocks:
            fully_shard(block)
        shards.append(fully_shard(model))
    for source, target in (spread, shards):
        same(bmatch.estimate_gauge(target, source, random_batches(2)), expected)


def sharded(model, mesh):
    for block in model.base_model.layers:
        fully_shard(block, mesh=mesh)
    return fully_shard(model, mesh=mesh)


def of_two(rank, rendezvous, model_type, expected):
    """A process of two that hold a half of both models, or of one."""
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2
    )
    mesh = init_device_mesh("cpu", (2,))
    plain = two(model_type)
    source, target = (sharded(model, mesh) for model in two(model_type))
    held = sum(p.to_local().numel() for p in target.parameters())
    assert held < 0.6 * sum(p.numel() for p in plain[1].parameters())
    for options, told in zip(CASES, expected, strict=True):
        same(bmatch.estimate_gauge(target, source, **options), told)
        same(bmatch.estimate_gauge(target, plain[0], **options), told)
    # Shards that were saved are read by the process that will hold them.
    files = rendezvous.parent / "shards"
    dcp.save({"model": target.state_dict()}, storage_writer=dcp.FileSystemWriter(files))
    again = sharded(tiny_model(model_type, seed=9), mesh)
    dcp.load({"model": again.state_dict()}, storage_reader=dcp.FileSystemReader(files))
    same(bmatch.estimate_gauge(again, source, **CASES[0]), expected[0])
    assert architecture.residual_axes(target) == architecture.residual_axes(plain[1])
    torch.distributed.destroy_process_group()


CASES = (
    {"batches": random_batches()},
    {"batches": random_batches(2), "sites": [0, -1]},
    {"evidence": "weights"},
)


@pytest.mark.parametrize("model_type", ["llama", "qwen3"])
def test_two_processes_that_share_models_find_the_gauge_of_one(tmp_path, model_type):
    source, target = two(model_type)
    expected = [bmatch.estimate_gauge(target, source, **options) for options in CASES]
    run_ranks(of_two, 2, tmp_path / "rendezvous", model_type, expected)
