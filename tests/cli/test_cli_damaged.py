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
