"""Checkpoint folders: what is read, what is refused, what is left when writing fails."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest
import torch
from tiny_models import WIDTH, load, tensors_of, tiny_model

from bmatch.files.atomic import new_file, new_folder
from bmatch.models.checkpoint import INDEX, SINGLE, Digest, open_checkpoint, require_finite, rewrite


@pytest.fixture
def copy(pair, tmp_path):
    """A copy of the source checkpoint, to be damaged."""
    return shutil.copytree(pair[0], tmp_path / "model")


def same(name, tensor):
    return tensor


def test_rewriting_keeps_everything(pair, tmp_path):
    source = open_checkpoint(pair[0])
    assert len(source.shards) > 1
    (pair[0] / "notes.md").write_text("kept")
    (pair[0] / "optimizer.pt").write_bytes(b"state in the old coordinates")
    rewrite(source, tmp_path / "out", same)
    (pair[0] / "notes.md").unlink()
    (pair[0] / "optimizer.pt").unlink()
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written == {path.name for path in pair[0].iterdir()} | {"notes.md"}
    assert (tmp_path / "out" / INDEX).read_bytes() == (pair[0] / INDEX).read_bytes()
    before, after = tensors_of(pair[0]), tensors_of(tmp_path / "out")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert list(tmp_path.iterdir()) == [tmp_path / "out"]


def test_what_is_copied_along(pair, tmp_path):
    """Chat templates in a subfolder are, other weights and other checkpoints are not."""
    folder = shutil.copytree(pair[0], tmp_path / "model")
    for name in (
        "additional_chat_templates/tool.jinja",
        "onnx/model.onnx",
        "checkpoint-5/a.txt",
        "pytorch_model.bin",
        "pytorch_model.bin.index.json",
        ".cache/x",
    ):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("x")
    rewrite(open_checkpoint(folder), tmp_path / "out", same)
    written = {str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*")}
    plain = {path.name for path in pair[0].iterdir()}
    templates = {"additional_chat_templates", "additional_chat_templates/tool.jinja"}
    assert written == plain | templates


def test_a_single_file_goes_before_an_index_as_in_transformers(pair, tmp_path):
    folder = shutil.copytree(pair[0], tmp_path / "model")
    tiny_model(seed=5).save_pretrained(tmp_path / "other")
    shutil.copyfile(tmp_path / "other" / SINGLE, folder / SINGLE)
    rewrite(open_checkpoint(folder), tmp_path / "out", same)
    assert not (tmp_path / "out" / INDEX).exists()
    theirs = load(folder).state_dict()
    ours = load(tmp_path / "out").state_dict()
    assert all(torch.equal(theirs[name], ours[name]) for name in theirs)


def test_digest_depends_on_weights_and_not_on_shards(tmp_path):
    model = tiny_model()
    digests = []
    for name, size in (("one", "1GB"), ("many", "20KB")):
        model.save_pretrained(tmp_path / name, max_shard_size=size)
        digest = Digest()
        for item in open_checkpoint(tmp_path / name).tensors():
            digest.add(*item)
        digests.append(digest.hexdigest())
    assert (tmp_path / "one" / SINGLE).exists()
    assert (tmp_path / "many" / INDEX).exists()
    assert digests[0] == digests[1]
    other = Digest()
    for name, tensor in open_checkpoint(tmp_path / "one").tensors():
        other.add(name, -tensor if name == "model.norm.weight" else tensor)
    assert other.hexdigest() != digests[0]


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


def test_non_finite_weights_are_named(tmp_path):
    require_finite("w", torch.full((4,), 3e38), tmp_path)
    require_finite("ids", torch.arange(4), tmp_path)
    with pytest.raises(ValueError, match=r"w in .* holds 2 NaN or infinite weights"):
        require_finite("w", torch.tensor([1.0, float("nan"), float("inf")]), tmp_path)


def test_existing_output_is_never_touched(pair, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "precious").write_text("x")
    with pytest.raises(FileExistsError, match="exists already"):
        rewrite(open_checkpoint(pair[0]), tmp_path / "out", same)
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["precious"]
    with pytest.raises(FileNotFoundError, match=r"the folder .* does not exist"):
        rewrite(open_checkpoint(pair[0]), tmp_path / "a" / "b", same)


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_failure_in_the_middle_leaves_nothing(pair, tmp_path, error):
    calls = []

    def fail(name, tensor):
        calls.append(name)
        if len(calls) == 15:
            raise error
        return tensor

    with pytest.raises(type(error)):
        rewrite(open_checkpoint(pair[0]), tmp_path / "out", fail)
    assert len(calls) == 15
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_up_leaves_nothing(pair, tmp_path):
    """A real limit of the operating system: no file may grow beyond 8 KB."""
    code = (
        "import resource, signal\n"
        "from bmatch.models.checkpoint import open_checkpoint, rewrite\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))\n"
        f"rewrite(open_checkpoint({str(pair[0])!r}), {str(tmp_path / 'out')!r}, lambda n, t: t)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "could not be written to" in done.stderr.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


def test_too_little_room_is_told_before_writing(pair, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=10))
    with pytest.raises(OSError, match="GB are free there: nothing was written"):
        rewrite(open_checkpoint(pair[0]), tmp_path / "out", same)
    assert list(tmp_path.iterdir()) == []


def test_new_file_and_new_folder_have_ordinary_permissions(tmp_path):
    with new_file(tmp_path / "file") as partial:
        partial.write_text("x")
    with new_folder(tmp_path / "folder") as partial:
        pass
    (tmp_path / "plain").write_text("x")
    (tmp_path / "plain_folder").mkdir()
    assert (tmp_path / "file").stat().st_mode == (tmp_path / "plain").stat().st_mode
    assert (tmp_path / "folder").stat().st_mode == (tmp_path / "plain_folder").stat().st_mode
