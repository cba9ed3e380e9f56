"""Checkpoints written anew: what goes along, what is left out, what is left when writing fails."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys

import pytest
import torch
from lfs import POINTER
from privileges import heed_permissions
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


@pytest.fixture
def folder(pair, tmp_path):
    """A copy of the source checkpoint, for strange things to be put beside its weights."""
    return shutil.copytree(pair[0], tmp_path / "model")


def copied(folder, out):
    """What is written that was not in the plain checkpoint, and the line about what is not."""
    said = []
    before = sorted(folder.parent.iterdir())

    def tell(line):
        assert sorted(folder.parent.iterdir()) == before, "said after writing had begun"
        said.append(line)

    rewrite(open_checkpoint(folder), out, same, tell=tell)
    return {str(path.relative_to(out)) for path in out.rglob("*")}, said


def test_what_is_left_out_is_told(pair, folder, tmp_path):
    plain = {path.name for path in folder.iterdir()}
    for name in ("optimizer.pt", "adapter_model.safetensors", "adapter_config.json", ".hidden"):
        (folder / name).write_text("{}")
    (folder / "tf_model.h5.index.json").write_text("{}")
    (folder / "notes.md").write_text("kept")
    (folder / "onnx").mkdir()
    (folder / "onnx" / "config.json").write_text("{}")
    (folder / "onnx" / "model.onnx").write_text("x")
    (folder / "runs" / "today").mkdir(parents=True)
    written, said = copied(folder, tmp_path / "out")
    assert written == plain | {"notes.md"}
    assert said == [
        "not copied along: adapter_config.json (its adapter is in the old coordinates); "
        "adapter_model.safetensors, onnx/ for onnx/model.onnx, optimizer.pt, "
        "tf_model.h5.index.json (other weights, or training state); runs (a folder of folders)"
    ]


def test_nothing_is_told_where_everything_is_copied(folder, tmp_path):
    plain = {path.name for path in folder.iterdir()}
    assert copied(folder, tmp_path / "out") == (plain, [])


def test_links_that_lead_nowhere_are_left_out(folder, tmp_path):
    plain = {path.name for path in folder.iterdir()}
    (folder / "chat_template.jinja").symlink_to("../../blobs/gone")
    (folder / "round").symlink_to("round")
    (folder / "inside").symlink_to(".")
    (folder / "templates").mkdir()
    (folder / "templates" / "tool.jinja").symlink_to("gone")
    written, said = copied(folder, tmp_path / "out")
    assert written == plain
    assert said == [
        "not copied along: chat_template.jinja, round, templates/ for templates/tool.jinja "
        "(a link that leads nowhere); inside (a folder of folders)"
    ]


def test_pipes_and_sockets_are_left_out(folder, tmp_path, monkeypatch):
    plain = {path.name for path in folder.iterdir()}
    os.mkfifo(folder / "chat_template.jinja")
    monkeypatch.chdir(folder)  # the path of a socket is short
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("served")
        written, said = copied(folder, tmp_path / "out")
    assert written == plain
    assert said == ["not copied along: chat_template.jinja, served (no ordinary file)"]


def test_links_out_of_the_folder_are_copied_as_files(pair, tmp_path):
    """As the cache of huggingface_hub has it: every file is a link to a blob."""
    snapshot, blobs = tmp_path / "snapshots" / "1", tmp_path / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for number, path in enumerate(sorted(pair[0].iterdir())):
        shutil.copyfile(path, blobs / f"{number}")
        (snapshot / path.name).symlink_to(f"../../blobs/{number}")
    (snapshot / "latest.txt").symlink_to(pair[0] / "model-00001-of-00005.safetensors")
    written, said = copied(snapshot, tmp_path / "out")
    assert written == {path.name for path in pair[0].iterdir()}
    assert said == ["not copied along: latest.txt (other weights, or training state)"]
    for path in (tmp_path / "out").iterdir():
        assert path.is_file()
        assert not path.is_symlink()
    assert (tmp_path / "out" / "tokenizer.json").read_bytes() == (
        pair[0] / "tokenizer.json"
    ).read_bytes()


def test_pointers_of_git_lfs_are_refused_before_anything_is_written(folder, tmp_path):
    (folder / "pytorch_model.bin").write_text(POINTER)  # is left out anyhow
    assert copied(folder, tmp_path / "out")[1]
    shutil.rmtree(tmp_path / "out")
    (folder / "tokenizer.json").write_text(POINTER)
    with pytest.raises(ValueError, match=r"tokenizer\.json is a Git-LFS pointer .* `git lfs pull`"):
        rewrite(open_checkpoint(folder), tmp_path / "out", same)
    assert list(tmp_path.iterdir()) == [folder]


def test_files_without_permission_are_named_before_anything_is_written(folder, tmp_path):
    (folder / "tokenizer.json").chmod(0)
    code = (
        "from bmatch.models.checkpoint import open_checkpoint\n"
        "from bmatch.models.rewrite import rewrite\n"
        "rewrite(open_checkpoint('model'), 'out', lambda *_: print('began'))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=heed_permissions,
    )
    assert done.stdout == ""
    assert done.stderr.splitlines()[-1] == (
        "PermissionError: [Errno 13] Permission denied: 'model/tokenizer.json'"
    )
    assert list(tmp_path.iterdir()) == [folder]


def test_every_file_has_the_modes_of_any_new_file(folder, tmp_path):
    (folder / "templates").mkdir()
    (folder / "templates" / "tool.jinja").write_text("x")
    rewrite(open_checkpoint(folder), tmp_path / "out", same)
    (tmp_path / "plain").touch()
    modes = {path.stat().st_mode for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert modes == {(tmp_path / "plain").stat().st_mode}
