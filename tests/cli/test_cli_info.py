"""``bmatch info`` on gauges, checkpoints and devices."""

from __future__ import annotations

import json
import os

import torch

from bmatch import SignedPermutation


def test_info_on_devices(bmatch_):
    code, out, _ = bmatch_("info", "--gpu", "--json")
    told = json.loads(out)
    assert code == 0
    assert told["matrices_on_the_host"].startswith("solved on the host (")
    assert told["devices"] == torch.cuda.device_count()
    assert (told["trouble"] == "none") == (told["devices"] > 0)
    assert "driver" in bmatch_("info", "--gpu")[1]
    for wrong in (("info",), ("info", "--gpu", "file")):
        code, _, err = bmatch_(*wrong)
        assert code == 2
        assert "give a gauge file, a checkpoint folder, an object, or --gpu" in err


def test_info(bmatch_, pair, tmp_path):
    SignedPermutation.random(9, seed=0).save(tmp_path / "g", {"tokens": "12"})
    code, out, _ = bmatch_("info", tmp_path / "g", "--json")
    assert code == 0
    assert json.loads(out)["coordinates"] == 9
    assert json.loads(out)["tokens"] == "12"
    code, out, _ = bmatch_("info", pair[0])
    assert code == 0
    assert "llama" in out
    assert "signed_permutation" in out


def test_paths_with_brackets_are_shown_as_they_are(bmatch_, tmp_path):
    SignedPermutation.identity(3).save(tmp_path / "g[step=1]")
    code, out, _ = bmatch_("info", tmp_path / "g[step=1]")
    assert code == 0
    assert "g[step=1]" in out.replace("\n", "")


def test_info_says_what_opening_a_checkpoint_finds(bmatch_, misfits, tmp_path):
    for name, sentence in (
        ("truncated", "is truncated or damaged"),
        ("extra", "tensors are not in the table for llama with 1 layers"),
        ("wide", "tensors do not have the shapes that the config of this llama gives them"),
    ):
        code, out, err = bmatch_("info", misfits / name)
        assert (code, out) == (1, "")
        assert sentence in err


def test_what_is_no_file_is_called_so(bmatch_, pair, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for arguments in (
        ("info", tmp_path / "pipe"),
        ("solve", tmp_path / "pipe"),
        ("apply", pair[0], pair[0], "--out", tmp_path / "new"),
        ("compose", tmp_path / "pipe", "--out", tmp_path / "new"),
    ):
        code, _, err = bmatch_(*arguments)
        assert code == 1
        assert "is no ordinary file" in err
