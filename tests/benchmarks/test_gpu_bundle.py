"""benchmarks/bundle.py: what is carried to a machine without a network, and put in place there."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from benchmarks import bundle

EXTENSION = f"_core{sysconfig.get_config_var('EXT_SUFFIX')}"


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A tree with sources and a bundle that was made from them."""
    monkeypatch.setattr(bundle, "ROOT", tmp_path)
    monkeypatch.setattr(bundle, "BUNDLE", tmp_path / "bundle")
    for path in ("setup.py", "csrc/a.cpp", f"bundle/bmatch/{EXTENSION}", f"bmatch/{EXTENSION}"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(path)
    (tmp_path / "bundle/wheels").mkdir()
    manifest = {
        "commit": "abc1234",
        "python": sys.implementation.cache_tag,
        "extension": "sm_90",
        "sources": bundle.sources(),
    }
    (tmp_path / "bundle/manifest.json").write_text(json.dumps(manifest))
    return tmp_path


def wheel(folder, name):
    """A wheel that holds one module."""
    info = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as file:
        file.writestr(f"{name}.py", "here = True\n")
        file.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        file.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        file.writestr(f"{info}/RECORD", "")


def test_the_extension_is_put_where_one_of_other_sources_was(tree):
    bundle.use()
    assert (tree / "bmatch" / EXTENSION).read_text() == f"bundle/bmatch/{EXTENSION}"


def test_an_extension_of_other_sources_is_not_used(tree, capsys):
    (tree / "csrc/new.h").write_text("")
    bundle.use()
    assert (tree / "bmatch" / EXTENSION).read_text() == f"bmatch/{EXTENSION}"
    assert "made from other sources" in capsys.readouterr().err


def test_nor_is_one_for_another_python(tree, capsys):
    manifest = json.loads((tree / "bundle/manifest.json").read_text())
    (tree / "bundle/manifest.json").write_text(json.dumps(manifest | {"python": "cpython-300"}))
    (tree / "bundle/bmatch" / EXTENSION).rename(tree / "bundle/bmatch/_core.so")
    wheel(tree / "bundle/wheels", "bmatch_lacks_this")
    bundle.use()
    said = capsys.readouterr()
    assert "for cpython-300, not for this Python" in said.err
    assert said.out == ""


def test_what_is_missing_goes_into_a_folder_of_its_own(tree, capsys, monkeypatch):
    for name in ("bmatch_lacks_this", "numpy"):
        wheel(tree / "bundle/wheels", name)
    bundle.use()
    site = tree / "build" / f"gpu-site-{sys.implementation.cache_tag}"
    assert capsys.readouterr().out == f"{site}\n"
    assert {path.name for path in site.glob("*.py")} == {"bmatch_lacks_this.py"}
    code = "import bmatch_lacks_this, numpy; print(numpy.__version__)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() != "1.0"

    # A second time, with the folder on the path, it stays as it is.
    before = (site / "wheels.txt").stat().st_mtime_ns
    monkeypatch.syspath_prepend(str(site))
    bundle.use()
    assert capsys.readouterr().out == f"{site}\n"
    assert (site / "wheels.txt").stat().st_mtime_ns == before


def test_without_a_bundle_there_is_nothing_to_use(tree, capsys):
    (tree / "bundle/manifest.json").unlink()
    bundle.use()
    bundle.commit()
    assert capsys.readouterr().out == ""


def test_the_commit_of_the_bundle(tree, capsys):
    bundle.commit()
    assert capsys.readouterr().out == "abc1234\n"


def test_sources_are_what_the_extension_is_made_from():
    root = Path(__file__).parents[2]
    assert root == bundle.ROOT
    text = (root / "setup.py").read_text()
    assert set(re.findall(r'glob\("(\w+)/', text)) == {"csrc"}
