"""Checkpoints written anew: what goes along, what is left out, what is left when writing fails."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest
import torch
from tiny_models import load, tensors_of, tiny_model

from bmatch.models.checkpoint import INDEX, SINGLE, open_checkpoint
from bmatch.models.rewrite import rewrite


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
        "from bmatch.models.checkpoint import open_checkpoint\n"
        "from bmatch.models.rewrite import rewrite\n"
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
