"""Checkpoint folders: what is read, and what is refused."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
import torch.distributed.checkpoint as dcp
from accelerate.utils import merge_fsdp_weights
from safetensors.torch import save_file
from tiny_models import WIDTH, tensors_of, tiny_model

from bmatch.models.checkpoint import INDEX, SINGLE, open_checkpoint


@pytest.fixture
def copy(pair, tmp_path):
    """A copy of the source checkpoint, to be damaged."""
    return shutil.copytree(pair[0], tmp_path / "model")


def test_missing_pieces(copy, tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        open_checkpoint(tmp_path / "nowhere")
    shard = sorted(copy.glob("*.safetensors"))[1]
    shard.rename(tmp_path / "aside")
    with pytest.raises(FileNotFoundError, match=rf"1 of 5 shards .* are missing: {shard.name}"):
        open_checkpoint(copy)
    (tmp_path / "aside").rename(shard)
    (copy / INDEX).unlink()
    with pytest.raises(FileNotFoundError, match=r"neither model\.safetensors nor"):
        open_checkpoint(copy)
    (copy / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"is no checkpoint: it has no config\.json"):
        open_checkpoint(copy)


def test_damaged_pieces(copy):
    shard = sorted(copy.glob("*.safetensors"))[0]
    whole = shard.read_bytes()
    shard.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=rf"{shard.name} is truncated or damaged"):
        open_checkpoint(copy)
    shard.write_bytes(whole)
    index = json.loads((copy / INDEX).read_text())
    moved = dict(index["weight_map"])
    homes = list(moved.values())
    name = next(key for key, home in moved.items() if homes.count(home) > 1)
    del moved[name]
    (copy / INDEX).write_text(json.dumps({**index, "weight_map": moved}))
    with pytest.raises(ValueError, match=f"disagree on {name}"):
        open_checkpoint(copy)
    for shard in ("/etc/weights.safetensors", "../x.safetensors", "sub/x.safetensors", "x.bin", 3):
        (copy / INDEX).write_text(json.dumps({"weight_map": {"w": shard}}))
        with pytest.raises(ValueError, match="is no name of a shard"):
            open_checkpoint(copy)
    (copy / INDEX).write_text("{}")
    with pytest.raises(ValueError, match="has no weight_map"):
        open_checkpoint(copy)
    (copy / "config.json").write_text("[]")
    with pytest.raises(ValueError, match="holds no JSON object"):
        open_checkpoint(copy)
    (copy / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config\.json is damaged"):
        open_checkpoint(copy)


def test_quantised_weights_are_refused(copy):
    config = json.loads((copy / "config.json").read_text())

    def write(quantisation):
        changed = {**config, "quantization_config": quantisation}
        (copy / "config.json").write_text(json.dumps(changed))

    write({"quant_method": "awq", "bits": 4})
    with pytest.raises(ValueError, match="is quantised"):
        open_checkpoint(copy)
    for none in (None, {}):  # transformers loads both as plain weights
        write(none)
        assert open_checkpoint(copy).axes.dim == WIDTH


def rewritten(folder, change):
    """The checkpoint's tensors changed in place, in one file."""
    tensors = {name: change(name, tensor) for name, tensor in tensors_of(folder).items()}
    save_file(tensors, folder / SINGLE, metadata={"format": "pt"})
    return folder


def test_placeholders_of_zero_3_are_refused(copy):
    rewritten(copy, lambda name, tensor: torch.empty(0))
    with pytest.raises(ValueError, match=r"34 tensors are empty, placeholders as ZeRO-3 leaves"):
        open_checkpoint(copy)


def test_widths_that_do_not_fit_are_refused(copy):
    rewritten(copy, lambda name, t: t[:, :31].contiguous() if "up_proj.w" in name else t)
    message = r"2 tensors do not .*layers\.0\.mlp\.up_proj\.weight is \[48, 31\] and not \[48, 32\]"
    with pytest.raises(ValueError, match=message):
        open_checkpoint(copy)


def test_smollm3_as_published_is_tied(tmp_path):
    tiny_model("smollm3", tied=True).save_pretrained(tmp_path / "model")
    file = tmp_path / "model" / "config.json"
    config = json.loads(file.read_text())
    del config["tie_word_embeddings"]
    file.write_text(json.dumps(config))
    checkpoint = open_checkpoint(tmp_path / "model")
    assert checkpoint.axes.tied
    assert "lm_head.weight" not in checkpoint.names


def test_a_pointer_of_git_lfs_is_named(copy):
    shard = sorted(copy.glob("*.safetensors"))[0]
    shard.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    with pytest.raises(ValueError, match=f"{shard.name} is a Git-LFS pointer .* `git lfs pull`"):
        open_checkpoint(copy)


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled:UserWarning")
def test_weights_in_shards_of_ranks_are_told_how_to_be_merged(tmp_path):
    model = tiny_model()
    model.config.save_pretrained(tmp_path)
    writer = dcp.FileSystemWriter(tmp_path / "pytorch_model_fsdp_0")
    dcp.save({"model": model.state_dict()}, storage_writer=writer, no_dist=True)
    with pytest.raises(FileNotFoundError, match=r"or by `accelerate merge-weights .*_fsdp_0 OUT`"):
        open_checkpoint(tmp_path)
    merge_fsdp_weights(str(tmp_path / "pytorch_model_fsdp_0"), str(tmp_path))
    held = open_checkpoint(tmp_path)
    assert torch.equal(held.tensor("model.norm.weight"), model.model.norm.weight)
