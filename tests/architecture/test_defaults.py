"""Fields that a config leaves out, and what they cost."""

from __future__ import annotations

import subprocess
import sys

import transformers

from bmatch.architecture.defaults import WithDefaults


def test_written_fields_go_first_and_null_is_left_out():
    config = WithDefaults(
        {"model_type": "smollm3", "hidden_size": 64, "num_key_value_heads": None, "mine": 1}
    )
    default = transformers.SmolLM3Config(hidden_size=64, num_key_value_heads=None)
    assert config["hidden_size"] == 64
    assert config["mine"] == 1
    assert config["num_attention_heads"] == default.num_attention_heads
    assert config["num_key_value_heads"] == default.num_key_value_heads == 16
    assert config["tie_word_embeddings"] is True
    assert config.get("nothing") is None
    assert {"mine", "vocab_size"} <= set(config)
    assert len(config) == len(set(config))


def test_types_and_configs_that_transformers_does_not_take_stay_plain():
    for written in (
        {"model_type": "of-tomorrow", "hidden_size": 3},
        {"hidden_size": 3},
        {"model_type": "llama", "num_attention_heads": "many"},
    ):
        assert dict(WithDefaults(written)) == written
        assert WithDefaults(written).get("vocab_size") is None


def test_nothing_is_imported_where_nothing_is_missed():
    code = (
        "import sys\n"
        "from bmatch.architecture import residual_axes\n"
        "keys = 'hidden_size num_hidden_layers vocab_size intermediate_size num_attention_heads '\n"
        "keys += 'num_key_value_heads head_dim'\n"
        "config = dict.fromkeys(keys.split(), 8)\n"
        "residual_axes({**config, 'model_type': 'llama', 'tie_word_embeddings': False})\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
