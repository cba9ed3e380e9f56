"""The table of all architectures, for a few of them."""

from __future__ import annotations

import time

import pytest

from bmatch.architecture import survey
from bmatch.architecture.tiny import tiny_model


def test_a_result_a_refusal_and_a_fixed_stream(tmp_path):
    out = tmp_path / "table.md"
    survey.main(["llama", "gpt2", "xglm", "perceiver", "--out", str(out)])
    text = out.read_text()
    rows = {line.split(" | ")[0]: line for line in text.splitlines() if line.startswith("| ")}
    assert rows["| llama"].startswith("| llama | signed_permutation | yes | 13 | 0 | ")
    assert rows["| gpt2"].startswith("| gpt2 | permutation_global_sign | yes | ")
    assert rows["| xglm"].startswith("| xglm | fixed |  | ")
    assert "could not be made small" in rows["| perceiver"]
    assert "Of 2 a table says of every tensor" in text
    assert "1 signed_permutation, 1 permutation_global_sign, 0 permutation, 1 fixed" in text


def test_all_kinds_of_language_models_are_surveyed():
    types = survey.model_types()
    assert len(types) == len(set(types)) > 200
    assert {"llama", "bert", "t5"} <= set(types)


def test_kinds_of_layers_that_a_class_leaves_open():
    """Each that has tensors of its own once, of those that the class makes models of."""
    config, build = survey.config_and_class("lfm2_moe")
    assert set(config.layer_types) == {"full_attention", "conv"}
    assert len(config.layer_types) == config.num_hidden_layers
    assert tiny_model(config, build).config.layer_types == ["full_attention", "conv"]
    assert survey.config_and_class("llama")[0].to_dict().get("layer_types") is None


def for_ever():
    while True:
        pass


def test_processor_time_is_what_is_limited():
    with survey.limited(1):
        time.sleep(1.2)
    with pytest.raises(TimeoutError, match="took more than 1 s"), survey.limited(1):
        for_ever()
