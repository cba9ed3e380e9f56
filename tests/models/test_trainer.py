"""Orders of parameters, against those of optimizers that transformers' Trainer makes."""

from __future__ import annotations

import pytest
import transformers
from tiny_models import tiny_model

from bmatch.models.trainer import parameters_of


def gpt2():
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(n_embd=32, n_layer=1, n_head=2))


@pytest.mark.parametrize(
    "make",
    [tiny_model, lambda: tiny_model("qwen3", tied=False), gpt2],
    ids=["llama", "qwen3", "gpt2"],
)
def test_the_trainers_order_is_among_them_from_the_config_alone(make, tmp_path):
    model = make()
    arguments = transformers.TrainingArguments(str(tmp_path), use_cpu=True, report_to=[])
    optimizer = transformers.Trainer(model, arguments).create_optimizer()
    names = {id(p): name for name, p in model.named_parameters()}
    groups = tuple(tuple(names[id(p)] for p in group["params"]) for group in optimizer.param_groups)
    found = parameters_of(model.config.to_dict())
    assert groups in found.orders
    assert (tuple(names.values()),) in found.orders
    assert found.shapes == {name: tuple(p.shape) for name, p in model.named_parameters()}


def test_frozen_parameters_are_no_part_of_a_model_that_is_given():
    model = tiny_model()
    model.model.embed_tokens.weight.requires_grad_(False)
    assert "model.embed_tokens.weight" not in parameters_of(model).shapes


def test_a_config_of_no_model_is_refused():
    with pytest.raises(ValueError, match="transformers makes no model of the config"):
        parameters_of({"model_type": "nonesuch"})
