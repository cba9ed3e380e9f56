"""Tensors of files under the names of the model: experts apart in files, together in the model."""

from __future__ import annotations

import pytest
import torch
import transformers
from networks import model_of, tensors_of
from safetensors.torch import load_file, save_file

from bmatch.models.checkpoint import open_checkpoint
from bmatch.models.network_files import NetworkFiles
from bmatch.network import align_networks
from bmatch.network_gauge import NetworkGauge
from bmatch.transport import network_checkpoint


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
