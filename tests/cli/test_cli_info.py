"""``bmatch info`` on gauges, checkpoints and devices."""

from __future__ import annotations

import json
import os
import re
import warnings

import pytest
import torch
import torch.distributed.checkpoint as dcp
from safetensors.torch import save_file
from tiny_models import WIDTH
from tiny_models import tiny_model as tiny_llama

from bmatch import SignedPermutation
from bmatch.architecture.survey import config_and_class
from bmatch.architecture.tiny import tiny_model


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


@pytest.mark.filterwarnings("ignore")  # of kernels that transformers would rather have
def test_what_no_table_tells_is_listed(bmatch_, tmp_path):
    """Of a type whose table is derived: an operation without a rule, and what it leads to."""
    tiny_model(*config_and_class("qwen3_5_text")).save_pretrained(tmp_path / "model")
    code, out, _ = bmatch_("info", tmp_path / "model", "--json")
    told = json.loads(out)
    assert code == 0
    assert told["table"].startswith("derived from the config")
    assert told["operations_without_a_rule"] == ["linalg_solve_triangular"]
    assert len(told["spaces_refuted"]) > 4
    assert all(": changes an output by " in line for line in told["spaces_refuted"])
    assert any(line.endswith("beside others") for line in told["spaces_left_out"])
    _, shown, _ = bmatch_("info", tmp_path / "model")  # from the cache
    assert "linalg_solve_triangular" in shown
    assert f"and {len(told['spaces_refuted']) - 4} more" in " ".join(shown.split())


def test_a_table_that_comes_with_bmatch_says_how_it_was_proved(bmatch_, pair):
    told = json.loads(bmatch_("info", pair[0], "--json")[1])
    assert re.fullmatch(
        r"comes with bmatch, proved under transformers [\d.]+: changes outputs by \de-0[67], the "
        r"next larger group by \de[+-]\d\d",
        told["table"],
    )
    assert "spaces_refuted" not in told


def test_families_that_are_not_supported_are_told_why(bmatch_, misfits, tmp_path):
    tiny_model(*config_and_class("xglm")).save_pretrained(tmp_path / "fixed")
    code, out, err = bmatch_("info", tmp_path / "fixed")
    assert (code, out) == (1, "")
    assert "no gauge of xglm's residual stream was found: what the model computes fixes its" in err
    assert "unknown architecture 'nonesuch'" in bmatch_("info", misfits / "unknown")[2]


def test_a_training_run_is_told_though_it_has_the_config_of_its_model(bmatch_, tmp_path):
    model = tiny_llama("llama", tied=False, num_hidden_layers=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dcp.save({"model": model.state_dict()}, storage_writer=dcp.FileSystemWriter(tmp_path))
    code, _, err = bmatch_("info", tmp_path)
    assert (code, f"{tmp_path} has no config.json" in err) == (1, True)
    (tmp_path / "config.json").write_text(json.dumps(model.config.to_dict()))
    code, out, _ = bmatch_("info", tmp_path, "--json")
    assert code == 0
    assert json.loads(out) == {
        "kind": "training run",
        "format": "torch.distributed.checkpoint",
        "architecture": "llama",
        "coordinates": WIDTH,
        "blocks": 1,
    }


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


def test_a_list_without_numbers(bmatch_, tmp_path):
    (tmp_path / "n.csv").write_text("layer,weight\n3,0.5\n")
    code, _, err = bmatch_("info", tmp_path / "n.csv")
    assert code == 1
    assert "a list of coordinates has a column named index" in " ".join(err.split())


def test_a_folder_of_tensors_that_nothing_knows(bmatch_, tmp_path):
    save_file({"encoder.strange": torch.ones(2, 3)}, tmp_path / "x.safetensors")
    (tmp_path / "config.json").write_text('{"activation_dim": 3}')
    code, _, err = bmatch_("info", tmp_path)
    assert code == 1
    told = " ".join(err.split())
    assert "holds nothing that is known to have coordinates of a residual stream" in told
