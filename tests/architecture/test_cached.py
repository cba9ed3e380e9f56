"""Tables in the user's cache: read where they are whole, and never an error."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tiny_models import CONFIGS

from bmatch.architecture import cached as module
from bmatch.architecture.cached import cached
from bmatch.architecture.stored import stored

CONFIG = {"model_type": "llama", "hidden_size": 64, "_name_or_path": "here"}


class Derivation:
    """Counts how often a table is derived."""

    def __init__(self):
        self.count = 0

    def __call__(self, config):
        self.count += 1
        assert "_name_or_path" not in config
        return stored("llama").table(config)


@pytest.fixture
def derive(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    module._cached.cache_clear()
    yield Derivation()
    module._cached.cache_clear()


def again(derive, config=CONFIG):
    """As another process."""
    module._cached.cache_clear()
    return cached(config, derive)


def files(tmp_path):
    return sorted((tmp_path / "bmatch" / "tables").iterdir())


def test_a_table_is_derived_once(derive, tmp_path, monkeypatch):
    first = cached(CONFIG, derive)
    assert first == stored("llama").table(CONFIG)
    assert cached({**CONFIG, "_name_or_path": "there"}, derive) is first
    assert again(derive) == first
    assert derive.count == 1
    assert len(files(tmp_path)) == 1
    again(derive, {**CONFIG, "hidden_size": 32})
    assert derive.count == 2
    for what in ("__version__", "_transformers"):
        other = "99.0" if what == "__version__" else lambda: "99.0"
        monkeypatch.setattr(module, what, other)
        again(derive)
    assert derive.count == 4
    assert len(files(tmp_path)) == 4


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"\xff\xfe", b'{"tensors": 3}'])
def test_what_is_damaged_is_derived_anew(derive, tmp_path, content):
    first = cached(CONFIG, derive)
    (file,) = files(tmp_path)
    whole = file.read_bytes()
    for damaged in (content, whole[: len(whole) // 2]):
        file.write_bytes(damaged)
        assert again(derive) == first
        assert file.read_bytes() == whole
    assert derive.count == 3


def test_a_folder_that_cannot_be_written_or_read(derive, tmp_path):
    (tmp_path / "bmatch").write_text("in the way")
    assert cached(CONFIG, derive) == again(derive)
    assert derive.count == 2
    (tmp_path / "bmatch").unlink()
    again(derive)
    (file,) = files(tmp_path)
    file.unlink()
    file.mkdir()
    again(derive)
    assert derive.count == 4


def test_relative_folders_are_not_taken(derive, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "here")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    cached(CONFIG, derive)
    assert not Path("here").exists()
    assert len(os.listdir(tmp_path / ".cache" / "bmatch" / "tables")) == 1


def test_errors_are_passed_on_and_not_kept(derive, tmp_path):
    def fails(config):
        raise ValueError("no such model")

    with pytest.raises(ValueError, match="no such model"):
        cached(CONFIG, fails)
    assert cached(CONFIG, derive).dim == 64
    assert derive.count == 1
    assert set(CONFIGS) >= {cached(CONFIG, derive).model_type}
