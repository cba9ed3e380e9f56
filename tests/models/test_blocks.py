"""Streams of models of other kinds than a causal one: against what transformers hands out."""

from __future__ import annotations

from operator import attrgetter

import pytest
import torch
import transformers

import bmatch
from bmatch import transport
from bmatch.architecture.deriving import auto_class
from bmatch.architecture.survey import config_and_class
from bmatch.architecture.tiny import tiny_model
from bmatch.models.activations import Reader, run
from bmatch.models.blocks import stream_blocks
from bmatch.models.checkpoint import open_checkpoint
from bmatch.models.loading import load_model

TOKENS = torch.randint(3, 90, (2, 16), generator=torch.Generator().manual_seed(0))


def small(model_type):
    return tiny_model(*config_and_class(model_type))


def streams(model):
    reader = Reader.of(model)
    seen = {}
    run(reader, TOKENS, range(reader.axes.num_layers + 1), seen.__setitem__)
    return [seen[site] for site in sorted(seen)]


@pytest.mark.parametrize(
    ("model_type", "part"),
    [("t5", "encoder"), ("bart", "model.encoder"), ("gemma3", "model.language_model")],
)
def test_text_is_read_in_one_of_several_stacks(model_type, part):
    """Of encoder and decoder the first; of towers the text's."""
    model = small(model_type)
    found = streams(model)
    with torch.no_grad():
        hidden = attrgetter(part)(model)(TOKENS, output_hidden_states=True).hidden_states
    assert len(found) == len(hidden) > 2
    for ours, theirs in list(zip(found, hidden, strict=True))[:-1]:
        assert torch.allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("model_type", ["gemma3n_text", "led"])
def test_of_copies_the_first_is_read_and_of_padded_windows_the_tokens(model_type):
    assert {tuple(stream.shape) for stream in streams(small(model_type))} == {(2, 16, 32)}


def test_a_list_that_does_not_carry_the_stream_is_none():
    model = small("albert")  # one block, many times
    with pytest.raises(ValueError, match="no list of 2 blocks of albert carries its stream"):
        stream_blocks(model, Reader.of(model).axes)


def test_too_long_sequences_are_a_sentence():
    reader = Reader.of(small("bert"))
    tokens = torch.zeros((1, 129), dtype=torch.long)
    with pytest.raises(ValueError, match=r"129 tokens .* 128 positions of this bert.* at most 128"):
        run(reader, tokens, [0], lambda site, stream: None)


@pytest.mark.parametrize("model_type", ["t5", "gemma3"])
def test_two_checkpoints_are_aligned(model_type, tmp_path):
    source, target = tmp_path / "source", tmp_path / "target"
    model = small(model_type)
    model.save_pretrained(source)
    axes = Reader.of(model).axes
    planted = bmatch.SignedPermutation.random(axes.dim, axes.group, seed=1)
    transport.checkpoint(source, planted, target)
    models = [load_model(open_checkpoint(folder), "float32", "cpu") for folder in (target, source)]
    assert {type(loaded) for loaded in models} == {type(model)}
    found = bmatch.estimate_gauge(*models, [TOKENS.repeat(1, 4)], witness=False)
    assert found.gauge == planted


def test_the_class_that_loads_a_config():
    assert auto_class(transformers.T5Config()) is transformers.AutoModelForSeq2SeqLM
    assert auto_class(transformers.LlamaConfig()) is transformers.AutoModelForCausalLM
    assert auto_class(transformers.LlavaConfig()) is transformers.AutoModelForImageTextToText
    with pytest.raises(ValueError, match="no model of transformers belongs to a PreTrainedConfig"):
        auto_class(transformers.PreTrainedConfig())
