"""Models that listen beside text: their towers write to the text's stream."""

from __future__ import annotations

import pytest
import torch
import transformers
from tiny_models import change_when_carried

import bmatch
from bmatch import architecture
from bmatch.architecture.sounds import with_sound
from bmatch.architecture.survey import config_and_class
from bmatch.architecture.tiny import generic_model, inputs_for, tiny_model
from bmatch.models.activations import Reader, run

WIDTH, AUDIO_WIDTH, TOKEN = 32, 24, 2


@pytest.fixture(scope="module")
def model():
    text = transformers.LlamaConfig(
        vocab_size=96,
        hidden_size=WIDTH,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    audio = transformers.VoxtralEncoderConfig(
        hidden_size=AUDIO_WIDTH,
        intermediate_size=4 * AUDIO_WIDTH,
        num_hidden_layers=3,
        num_attention_heads=2,
        num_mel_bins=16,
        max_source_positions=20,
    )
    config = transformers.VoxtralConfig(audio_config=audio, text_config=text, audio_token_id=TOKEN)
    return generic_model(config, transformers.VoxtralForConditionalGeneration)


def test_a_sound_follows_its_text(model):
    tokens = torch.arange(3, 51).reshape(2, 24)
    given = with_sound(model, {"input_ids": tokens})
    ids = given["input_ids"]
    assert given["input_features"].shape == (1, 16, 40)
    assert ids.tolist() == [[*range(3, 27), *[TOKEN] * 5, *range(22, 27)]]
    silence = torch.zeros_like(given["input_features"])
    with torch.no_grad():
        heard, unheard = model(**given), model(**{**given, "input_features": silence})
    assert not torch.equal(heard.logits, unheard.logits)


@pytest.mark.parametrize("model_type", ["qwen2_audio", "granite_speech"])
def test_other_ways_of_giving_a_sound(model_type):
    """Without a method that tells how many tokens it takes; with frames before channels."""
    config, build = config_and_class(model_type)
    model = tiny_model(config, build)
    given = inputs_for(model)
    token = getattr(config, "audio_token_id", config.audio_token_index)
    assert "input_features" in given
    assert int((given["input_ids"] == min(token, 2)).sum()) > 10
    stream = architecture.derive(model).residual  # the text's, though a tower may reach as far
    carried = {(member.tensor, member.axis) for member in stream.members}
    assert ("model.language_model.embed_tokens.weight", 1) in carried
    assert stream.group == "signed_permutation"


def test_models_of_text_get_text():
    config = transformers.LlamaConfig(
        vocab_size=96, hidden_size=WIDTH, intermediate_size=48, num_hidden_layers=1
    )
    model = generic_model(config, transformers.LlamaForCausalLM)
    given = {"input_ids": torch.zeros((1, 4), dtype=torch.long)}
    assert with_sound(model, given) is given


def test_a_checkpoint_is_carried_with_its_projector(model, tmp_path):
    axes = architecture.residual_axes(model)
    assert (axes.dim, axes.group, axes.num_layers) == (WIDTH, "signed_permutation", 2)
    assert axes.rule("multi_modal_projector.linear_2.weight").axes == ((0, True),)
    assert axes.rule("language_model.model.norm.weight").axes == ((0, False),)
    tower = [rule for rule in axes.rules if "audio_tower" in rule.name]  # of another width
    assert len(tower) > 40
    assert all(rule.role == "inner" for rule in tower)
    gauge = bmatch.SignedPermutation.random(WIDTH, "signed_permutation", seed=3)
    assert change_when_carried(model, inputs_for(model), gauge, tmp_path) < 1e-4


def test_a_model_that_reads_nothing_but_sounds(tmp_path):
    """Whisper: its encoder's stream, with nothing of the decoder's."""
    model = tiny_model(*config_and_class("whisper"))
    assert isinstance(model, transformers.WhisperForConditionalGeneration)
    given = inputs_for(model)
    assert given.keys() == {"input_features", "decoder_input_ids"}
    axes = architecture.residual_axes(model)
    assert (axes.dim, axes.group) == (WIDTH, "permutation")
    assert axes.rule("model.encoder.conv2.weight").axes == ((0, False),)
    assert axes.rule("model.decoder.layers.0.fc2.weight").role == "inner"
    gauge = bmatch.SignedPermutation.random(WIDTH, axes.group, seed=3)
    assert change_when_carried(model, given, gauge, tmp_path) < 1e-4
    with pytest.raises(ValueError, match="a whisper reads input_features, not tokens"):
        run(Reader.of(model), torch.zeros((1, 4), dtype=torch.long), [0], lambda site, stream: None)
