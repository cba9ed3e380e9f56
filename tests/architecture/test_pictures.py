"""Models that read pictures beside text: their towers write to the text's stream."""

from __future__ import annotations

import pytest
import torch
import transformers
from tiny_models import change_when_carried

import bmatch
from bmatch import architecture
from bmatch.architecture.pictures import with_picture
from bmatch.architecture.survey import config_and_class
from bmatch.architecture.tiny import generic_model, inputs_for, tiny_model

WIDTH, VISION_WIDTH = 32, 24


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    text = transformers.LlamaConfig(
        vocab_size=96,
        hidden_size=WIDTH,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    vision = transformers.CLIPVisionConfig(
        hidden_size=VISION_WIDTH,
        intermediate_size=40,
        num_hidden_layers=3,
        num_attention_heads=2,
        image_size=28,
        patch_size=7,
    )
    config = transformers.LlavaConfig(
        text_config=text, vision_config=vision, image_token_index=1, image_seq_length=16
    )
    return generic_model(config, transformers.LlavaForConditionalGeneration)


def test_a_picture_goes_where_its_tokens_are(model):
    given = with_picture(model, {"input_ids": torch.arange(3, 51).reshape(2, 24)})
    ids = given["input_ids"]
    assert given["pixel_values"].shape == (1, 3, 28, 28)
    assert ids.tolist() == [[*range(3, 8), *[1] * 16, *range(20, 27)]]
    plain = torch.zeros_like(given["pixel_values"])
    with torch.no_grad():
        assert not torch.equal(
            model(**given).logits, model(**{**given, "pixel_values": plain}).logits
        )


def test_one_tower_for_both_is_given_patches():
    """No config of its own for pictures: their patches go to the text's layers as they are."""
    config, build = config_and_class("neomme")
    model = tiny_model(config, build)
    given = inputs_for(model)
    assert given["pixel_values"].shape[1] == 3 * model.config.patch_size**2
    assert int((given["input_ids"] == model.config.image_token_id).sum()) == len(
        given["pixel_values"]
    )


def test_rows_of_a_picture_from_several_tensors_are_of_one_stream(tmp_path):
    """Each line of patches ends with a parameter, which lies beside what the projector writes."""
    model = tiny_model(*config_and_class("llava_next"))
    axes = architecture.residual_axes(model)
    assert (axes.dim, axes.group) == (WIDTH, "signed_permutation")
    assert axes.rule("model.image_newline").axes == ((0, True),)
    assert axes.rule("model.multi_modal_projector.linear_2.bias").axes == ((0, True),)
    gauge = bmatch.SignedPermutation.random(WIDTH, "signed_permutation", seed=3)
    assert change_when_carried(model, inputs_for(model), gauge, tmp_path) < 1e-4


@pytest.mark.parametrize("model_type", ["kimi_k25", "idefics", "qwen2_vl", "qwen2_5_vl"])
def test_other_ways_to_give_a_picture(model_type, tmp_path):
    """Patches as small pictures; beside the text, with a mask of who sees it; by their grid."""
    model = tiny_model(*config_and_class(model_type))
    assert "pixel_values" in inputs_for(model)
    axes = architecture.residual_axes(model)
    assert (axes.dim, axes.group) == (WIDTH, "signed_permutation")
    gauge = bmatch.SignedPermutation.random(WIDTH, "signed_permutation", seed=3)
    assert change_when_carried(model, inputs_for(model), gauge, tmp_path) < 1e-4


def test_models_of_text_get_text():
    config = transformers.LlamaConfig(
        vocab_size=96, hidden_size=WIDTH, intermediate_size=48, num_hidden_layers=1
    )
    model = generic_model(config, transformers.LlamaForCausalLM)
    given = {"input_ids": torch.zeros((1, 4), dtype=torch.long)}
    assert with_picture(model, given) is given


def test_a_checkpoint_is_carried_with_its_projector(model, tmp_path):
    axes = architecture.residual_axes(model)
    assert (axes.dim, axes.group, axes.num_layers) == (WIDTH, "signed_permutation", 2)
    assert axes.rule("model.multi_modal_projector.linear_2.weight").axes == ((0, True),)
    assert axes.rule("model.language_model.norm.weight").axes == ((0, False),)
    tower = [rule for rule in axes.rules if "vision_tower" in rule.name]  # of another width
    assert len(tower) > 40
    assert all(rule.role == "inner" for rule in tower)
    gauge = bmatch.SignedPermutation.random(WIDTH, "signed_permutation", seed=3)
    assert change_when_carried(model, inputs_for(model), gauge, tmp_path) < 1e-4
