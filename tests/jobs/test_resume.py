"""Parts of a job that are kept: by content, whole or not there."""

from __future__ import annotations

import numpy as np
import pytest

from bmatch.jobs.resume import KeptParts, content_key, user_cache


def test_what_is_kept_comes_back(tmp_path):
    parts = KeptParts(tmp_path / "new" / "folder", "hop")
    assert parts.get("k") is None
    parts.keep("k", {"x": np.arange(3), "yes": np.array([True, False])}, {"verdict": "related"})
    tensors, header = KeptParts(tmp_path / "new" / "folder", "hop").get("k")
    assert tensors["x"].tolist() == [0, 1, 2]
    assert tensors["yes"].tolist() == [True, False]
    assert header == {"verdict": "related"}
    assert KeptParts(tmp_path / "new" / "folder", "other").get("k") is None


@pytest.mark.parametrize("cut", [0, 10, -1])
def test_what_is_damaged_is_not_there(tmp_path, cut):
    parts = KeptParts(tmp_path, "hop")
    parts.keep("k", {"x": np.arange(3)}, {})
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:cut])
    assert parts.get("k") is None
    parts.keep("k", {"x": np.arange(4)}, {})
    assert len(parts.get("k")[0]["x"]) == 4


def test_keys_are_of_content_and_of_nothing_else():
    key = content_key({"a": 1, "b": (2, "x")})
    assert key == content_key({"b": [2, "x"], "a": 1})
    assert len({key, content_key({"a": 1}), content_key({"a": "1", "b": [2, "x"]})}) == 3


def test_the_users_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert user_cache("hops") == tmp_path / "bmatch" / "hops"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert user_cache("hops") == tmp_path / ".cache" / "bmatch" / "hops"
