"""Configs made small by what their fields are called, with a layer of each kind."""

from __future__ import annotations

import pytest
import transformers

from bmatch.architecture.shrink import (
    flat_values,
    shrunken,
    with_fields,
    with_twice_the_experts,
)
from bmatch.architecture.tiny import (
    MOST_PARAMETERS,
    covering,
    kinds_of_tensors,
    randomise,
    tiny_model,
)

BUILD = transformers.AutoModelForCausalLM.from_config


def test_sizes_are_small_and_fit_each_other():
    config = transformers.LlamaConfig(num_key_value_heads=8, tie_word_embeddings=True)
    small = shrunken(config)
    assert (small.hidden_size, small.intermediate_size, small.num_hidden_layers) == (32, 48, 2)
    assert (small.num_attention_heads, small.num_key_value_heads, small.head_dim) == (4, 2, 8)
    assert small.tie_word_embeddings
    assert config.hidden_size == 4096


def test_all_heads_keep_keys_of_their_own():
    small = shrunken(transformers.LlamaConfig())
    assert small.num_key_value_heads == small.num_attention_heads == 4


def test_a_layer_of_each_kind_is_left():
    kinds = ["full_attention", *["sliding_attention"] * 5] * 3
    config = transformers.Gemma3TextConfig(num_hidden_layers=18, layer_types=kinds)
    small = shrunken(config)
    assert small.layer_types == ["full_attention", "sliding_attention"]
    assert small.num_hidden_layers == 2


def test_nested_configs_are_made_small_too():
    small = shrunken(transformers.Gemma3Config())
    assert small.text_config.hidden_size == 32
    assert small.vision_config.num_hidden_layers == 2


def test_resolutions_are_of_as_many_small_pictures():
    config = transformers.LlavaNextConfig(image_grid_pinpoints=[[336, 672], [1008, 336]])
    small = shrunken(config)
    assert small.vision_config.image_size == 28
    assert small.image_grid_pinpoints == [[28, 56], [84, 28]]


def test_fields_of_nested_configs_are_changed_and_told_by_their_place():
    small = shrunken(transformers.Gemma3Config())
    values = flat_values(small)
    assert (values["text_config.hidden_size"], values["vision_config.patch_size"]) == (32, 7)
    assert not values.keys() & {"text_config", "vision_config"}
    changed = with_fields(small, {"text_config.num_hidden_layers": 4, "mm_tokens_per_image": 16})
    assert len(changed.text_config.layer_types) == 4
    assert (changed.mm_tokens_per_image, changed.vision_config.num_hidden_layers) == (16, 2)
    assert (small.text_config.num_hidden_layers, small.mm_tokens_per_image) == (2, 4)


def test_layers_that_only_a_list_of_their_kinds_counts():
    class Counted(transformers.PreTrainedConfig):
        layers_block_type: list | None = None

    kinds = ["moe", "attention", "moe", "moe", "attention"]
    assert shrunken(Counted(layers_block_type=kinds)).layers_block_type == ["moe", "attention"]


def test_what_stays_large_is_refused():
    config = transformers.LlamaConfig()
    with pytest.raises(ValueError, match=f"the llama could not be made small.* {MOST_PARAMETERS}$"):
        tiny_model(config, lambda small: BUILD(transformers.LlamaConfig(num_hidden_layers=1)))


def test_weights_are_generic_and_the_same_each_time():
    model = tiny_model(transformers.LlamaConfig(), BUILD)
    gains = model.model.norm.weight
    assert gains.std() > 0.1
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    randomise(model)
    assert all((tensor == before[name]).all() for name, tensor in model.state_dict().items())
    assert not model.training


def test_a_dense_layer_before_those_with_experts():
    small = shrunken(transformers.DeepseekV2Config())
    assert (small.first_k_dense_replace, small.num_hidden_layers) == (1, 2)


def test_limits_are_no_lists_of_layers():
    small = shrunken(transformers.FalconH1Config())
    deeper = with_fields(small, {"num_hidden_layers": 4})
    assert deeper.num_hidden_layers == 4
    assert list(deeper.time_step_limit) == list(small.time_step_limit)


def test_numbers_of_layers_in_lists_are_those_of_the_layers_that_are_left():
    config = transformers.Zamba2Config()
    small = shrunken(config)
    assert small.layers_block_type == ["linear_attention", "hybrid"]
    assert small.hybrid_layer_ids == [1]
    assert config.hybrid_layer_ids[0] == 6


def test_heads_that_have_to_be_sums_of_two_parts():
    """A class that compares its sizes: the small ones are of another kind, and as right."""
    config = transformers.CONFIG_MAPPING["dots3_note_text"]()
    with pytest.raises(Exception, match="head_dim must equal"):
        shrunken(config)
    small = covering(config, BUILD)
    assert small.head_dim == small.qk_nope_head_dim + small.qk_rope_head_dim == 16


def test_layers_that_share_a_module_are_two_at_least():
    """Zamba's attention is one for all of its hybrid layers: with one such layer there is none."""
    small = covering(transformers.ZambaConfig(), BUILD)
    assert small.layers_block_type.count("hybrid") == 2


def test_groups_of_experts_stay_groups_where_there_are_twice_as_many():
    small = shrunken(transformers.DeepseekV3Config())
    assert with_twice_the_experts(small).n_routed_experts == 2 * small.n_routed_experts == 8
    llama = shrunken(transformers.LlamaConfig())
    assert with_twice_the_experts(llama) is llama


def test_blocks_of_stages_and_stacks_are_counted_too():
    small = shrunken(transformers.FunnelConfig())
    assert (small.block_sizes, small.block_repeats) == ([1, 1, 1], [1, 1, 1])
    small = shrunken(transformers.CONFIG_MAPPING["hrm_text"]())
    assert (small.num_layers_per_stack, small.H_cycles, small.L_cycles) == (2, 2, 2)


def test_layers_that_are_one_come_twice():
    """A model of one layer of them would not show that all are in the same coordinates."""
    small = covering(transformers.Zamba2Config(), BUILD)
    assert small.layers_block_type.count("hybrid") == 2
    kinds = kinds_of_tensors(small, BUILD)
    assert sum(kind.endswith("in several places") for kind in kinds) >= 6
    assert not any("several" in kind for kind in kinds_of_tensors(with_fields(small, ONE), BUILD))
    assert kinds_of_tensors(small, lambda config: None) == set()


ONE = {"num_hidden_layers": 2, "layers_block_type": ["linear_attention", "hybrid"]}


def test_lists_that_a_class_computes_are_computed_anew():
    small = covering(transformers.Zamba2Config(), BUILD)
    longer = with_fields(small, {"num_hidden_layers": 8})
    assert longer.hybrid_layer_ids == [1, 3, 5, 7]
    assert with_fields(small, {"hybrid_layer_ids": [0, 1]}).hybrid_layer_ids == [0, 1]
    turned = with_fields(small, {"layers_block_type": small.layers_block_type[::-1]})
    assert turned.hybrid_layer_ids == [0, 2]


def test_windows_of_tokens_fit_into_a_run_several_times():
    """By kind of layer: what is smaller stays."""
    small = shrunken(transformers.DeepseekV4Config())
    rates = {"compressed_sparse_attention": 4, "heavily_compressed_attention": 8}
    assert small.compress_rates == rates


def test_sections_of_heads_that_a_class_leaves_open():
    """Its models take those of large heads, where a config names none."""
    small = shrunken(transformers.Qwen2VLConfig()).text_config
    assert small.rope_parameters["mrope_section"] == [2, 1, 1]
    assert "mrope_section" not in shrunken(transformers.Qwen2Config()).rope_parameters


def test_periods_of_two_have_layers_of_each_kind():
    """In place of eight layers of which one attends."""
    config = transformers.JambaConfig()
    small = covering(config, BUILD)
    assert (small.num_hidden_layers, small.attn_layer_period, small.attn_layer_offset) == (2, 2, 0)
    assert small.layers_block_type == ["attention", "mamba"]
    assert kinds_of_tensors(config, BUILD) <= kinds_of_tensors(small, BUILD)
