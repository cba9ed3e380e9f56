"""Outputs that are whole or not there, under any name that the file system takes."""

from __future__ import annotations

from bmatch.files.atomic import new_file, new_folder


def test_new_file_and_new_folder_have_ordinary_permissions(tmp_path):
    with new_file(tmp_path / "file") as partial:
        partial.write_text("x")
    with new_folder(tmp_path / "folder") as partial:
        pass
    (tmp_path / "plain").write_text("x")
    (tmp_path / "plain_folder").mkdir()
    assert (tmp_path / "file").stat().st_mode == (tmp_path / "plain").stat().st_mode
    assert (tmp_path / "folder").stat().st_mode == (tmp_path / "plain_folder").stat().st_mode
