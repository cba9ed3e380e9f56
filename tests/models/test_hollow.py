"""Checkpoints with holes for numbers: what transformers would have written, but for the numbers."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file
from tiny_models import tensors_of, tiny_model

from bmatch.models.checkpoint import open_checkpoint
from bmatch.models.hollow import whole_or_hollow, write_hollow


@pytest.mark.parametrize(("kind", "tied"), [("llama", False), ("qwen2", True)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_names_shapes_and_types_are_those_of_save_pretrained(tmp_path, kind, tied, dtype):
    model = tiny_model(kind, tied).to(dtype)
    model.save_pretrained(tmp_path / "a")
    config = json.loads((tmp_path / "a" / "config.json").read_text())
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "config.json").write_text(json.dumps(config))
    write_hollow(tmp_path / "b", config)
    whole, holes = tensors_of(tmp_path / "a"), tensors_of(tmp_path / "b")
    assert {n: (t.shape, t.dtype) for n, t in whole.items()} == {
        n: (t.shape, t.dtype) for n, t in holes.items()
    }
    assert not any(tensor.any() for tensor in holes.values())
    open_checkpoint(tmp_path / "b")


def test_shards_are_those_of_the_index_or_filled_in_turn(tmp_path):
    model = tiny_model(tied=False)
    model.save_pretrained(tmp_path / "a", max_shard_size="20KB")
    expected = open_checkpoint(tmp_path / "a")
    for shard in expected.shards:
        (tmp_path / "a" / shard).unlink()
    with whole_or_hollow(tmp_path / "a") as folder:
        assert folder != tmp_path / "a"
        found = open_checkpoint(folder)
        assert {n: set(t) for n, t in found.shards.items()} == {
            n: set(t) for n, t in expected.shards.items()
        }
        assert (folder / "generation_config.json").is_file()
    assert not folder.exists()
    config = json.loads((tmp_path / "a" / "config.json").read_text())
    write_hollow(tmp_path / "a", config, shard=30_000)
    shards = open_checkpoint(tmp_path / "a").shards
    assert 1 < len(shards) < len(expected.names)
    assert sum(len(load_file(tmp_path / "a" / name)) for name in shards) == len(expected.names)


def test_a_folder_with_weights_is_itself(pair):
    with whole_or_hollow(pair[0]) as folder:
        assert folder == pair[0]


def test_what_a_config_alone_does_not_tell_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no language model of the type 'wav2vec2'"):
        write_hollow(tmp_path, {"model_type": "wav2vec2"})
    tiny_model().save_pretrained(tmp_path / "a", max_shard_size="20KB")
    config = json.loads((tmp_path / "a" / "config.json").read_text())
    with pytest.raises(ValueError, match="other tensors of its config than its index lists"):
        write_hollow(tmp_path, config, {"model.norm.weight": "model.safetensors"})
    assert not list(tmp_path.glob("*.safetensors"))
