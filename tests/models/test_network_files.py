"""Tensors of files under the names of the model: experts apart in files, together in the model."""

from __future__ import annotations

import pytest
import torch
import transformers
from networks import model_of, tensors_of
from safetensors.torch import load_file, save_file

from bmatch.architecture.tiny import randomise
from bmatch.models.checkpoint import open_checkpoint
from bmatch.models.network_files import NetworkFiles
from bmatch.network import align_networks
from bmatch.network_gauge import NetworkGauge
from bmatch.transport import checkpoint, network_checkpoint


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("moe") / "source"
    model_of("qwen3_moe")[0].save_pretrained(out, max_shard_size="60KB")
    return out


def test_tensors_are_those_of_the_model(folder):
    checkpoint = open_checkpoint(folder)
    assert len(checkpoint.shards) > 1
    files = NetworkFiles(checkpoint)
    assert any(".experts.3.up_proj" in name for name in checkpoint.names)
    model = tensors_of(model_of("qwen3_moe")[0])
    with files.tensors() as get:
        for space in files.axes.spaces:
            for member in space.members:
                assert torch.equal(get(member.tensor), model[member.tensor])


def test_experts_in_files_are_carried_and_found_again(folder, tmp_path):
    model, inputs = model_of("qwen3_moe")
    planted = NetworkGauge.random(NetworkFiles(open_checkpoint(folder)).axes, 1)
    network_checkpoint(folder, planted, tmp_path / "target")
    moved = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path / "target", dtype=torch.float32, attn_implementation="eager"
    ).eval()
    with torch.no_grad():
        before, after = model(**inputs).logits, moved(**inputs).logits
    assert (before - after).abs().max() < 1e-4 * before.abs().max()
    found = align_networks(folder, tmp_path / "target")
    assert found.gauge == planted
    assert found.spaces["model.layers.0.mlp coordinates"].kind == "experts"


def test_tensors_that_no_model_has_are_refused(tmp_path):
    model_of("llama")[0].save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    save_file({**load_file(file), "score.weight": torch.ones(2, 32)}, file, {"format": "pt"})
    with pytest.raises(ValueError, match=r"tensors that a llama has not.*score\.weight"):
        NetworkFiles(open_checkpoint(tmp_path))


@pytest.fixture
def pooled(tmp_path):
    """A BERT without a head, as sentence-transformers keeps it: with a pooler, and a buffer."""
    config = transformers.BertConfig(
        vocab_size=60,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
    )
    model = transformers.BertModel(config).eval()
    randomise(model)
    model.save_pretrained(tmp_path / "source")
    file = tmp_path / "source" / "model.safetensors"
    positions = {"embeddings.position_ids": torch.arange(512)[None]}
    save_file({**load_file(file), **positions}, file, {"format": "pt"})
    return model, tmp_path / "source"


def test_a_pooler_and_older_files_buffers(pooled, tmp_path):
    model, folder = pooled
    axes = NetworkFiles(open_checkpoint(folder)).axes
    pooler = [m for m in axes.residual.members if m.tensor == "pooler.dense.weight"]
    assert [(m.axis, m.odd) for m in pooler] == [(1, (True,))]
    planted = NetworkGauge.random(axes, 3)
    stream = planted.residual
    network_checkpoint(folder, planted, tmp_path / "all")
    checkpoint(folder, stream, tmp_path / "stream")
    tokens = torch.arange(3, 60).reshape(3, -1)
    with torch.no_grad():
        before = model(tokens)
        for name in ("all", "stream"):
            after = transformers.BertModel.from_pretrained(tmp_path / name).eval()(tokens)
            carried = stream.inverse().apply(after.last_hidden_state)
            assert (carried - before.last_hidden_state).abs().max() < 1e-4
            if name == "stream":
                assert (after.pooler_output - before.pooler_output).abs().max() < 1e-4
    kept = load_file(tmp_path / "all" / "model.safetensors")["embeddings.position_ids"]
    assert torch.equal(kept, torch.arange(512)[None])
