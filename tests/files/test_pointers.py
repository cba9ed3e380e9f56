"""Git-LFS pointers are told from the files that they stand for."""

from __future__ import annotations

import pytest
from lfs import POINTER

from bmatch.files.pointers import require_content


def test_pointers_are_named_with_their_cure(tmp_path):
    (tmp_path / "weights").write_text(POINTER)
    with pytest.raises(ValueError, match=r"weights is a Git-LFS pointer .* `git lfs pull`"):
        require_content(tmp_path / "weights")


@pytest.mark.parametrize("content", [b"", b"version", b"\x00" * 100, POINTER[1:].encode()])
def test_other_files_are_not(tmp_path, content):
    (tmp_path / "file").write_bytes(content)
    require_content(tmp_path / "file")
