"""What is in place of a file: JSON without an end, a pipe that nobody writes to, a folder."""

from __future__ import annotations

import json
import os
import shutil

import pytest
from tiny_models import WIDTH

from bmatch import SignedPermutation

COMMANDS = {
    "apply": ("g", "model"),
    "info": ("model",),
    "merge": ("target", "model", "--gauge", "g"),
    "related": ("target", "model"),
    "audit": ("model", "claim.json"),
}
OUTPUTS = {"apply", "merge", "related"}


@pytest.fixture
def folder(pair, tmp_path, monkeypatch):
    shutil.copytree(pair[0], tmp_path / "model")
    (tmp_path / "target").symlink_to(pair[1])
    SignedPermutation.identity(WIDTH).save(tmp_path / "g")
    claim = {"measure": "activation", "site": 1, "top": 5}
    (tmp_path / "claim.json").write_text(json.dumps(claim))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "none"),
    [
        ("config.json", "config.json is no ordinary file"),
        ("model.safetensors.index.json", "model has neither model.safetensors nor"),
    ],
)
@pytest.mark.parametrize("command", COMMANDS)
def test_what_is_no_file_or_never_ends(bmatch_, folder, command, name, none):
    file = folder / "model" / name
    out = ("--out", "new") if command in OUTPUTS else ()
    for make, told in (
        (lambda: file.write_text("[" * 99_999), f"{name} is damaged: maximum recursion depth"),
        (lambda: os.mkfifo(file), none),
        (file.mkdir, none),
    ):
        shutil.rmtree(file) if file.is_dir() else file.unlink()
        make()
        before = sorted(folder.rglob("*"))
        code, printed, err = bmatch_(command, *COMMANDS[command], *out)
        assert (code, printed) == (1, "")
        assert err.startswith("error: ")
        assert told in err
        assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize("device", ["tpu", "meta", "", "cuda:99"])
def test_a_device_that_is_not_here(bmatch_, folder, device):
    """Told at once, with nothing of the job begun."""
    before = sorted(folder.rglob("*"))
    for arguments in (
        ("path", "model", "target", "--cache", "hops", "--out", "new"),
        ("watch", "model", "--patience", 0, "--evidence", "weights", "--cache", "hops"),
        ("match-features", "g", "g", "--out", "new.csv"),
        ("align", "model", "target", "--out", "new"),
    ):
        code, printed, err = bmatch_(*arguments, "--device", device)
        assert (code, printed) == (1, "")
        assert f"device {device!r} cannot be used here" in err, arguments
    assert sorted(folder.rglob("*")) == before


def test_names_that_libraries_cannot_read(bmatch_, folder):
    """Those of a model or a dictionary; they are read by a link of another name."""
    odd = os.fsdecode(b"\xe9")
    (folder / "model").rename(folder / odd)
    (folder / f"{odd}.safetensors").touch()
    for arguments in (
        ("apply", "g", odd, "--out", "new"),
        ("related", "target", odd),
        ("match-features", f"{odd}.safetensors", "g", "--out", "new.csv"),
    ):
        code, _, err = bmatch_(*arguments)
        assert code == 1
        assert "neither safetensors nor torch reads such names: rename it" in err
    (folder / "link").symlink_to(odd)
    assert bmatch_("apply", "g", "link", "--out", "new")[0] == 0
