"""The table of residual axes, proved on the logits of every architecture it names."""

from __future__ import annotations

import dataclasses

import pytest
import torch
import transformers
from tiny_models import CONFIGS, WIDTH, in_gauge, logits, tiny_model

from bmatch import SignedPermutation, architecture
from bmatch.architecture import table
from bmatch.architecture.families.llama import LLAMA


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("model_type", sorted(CONFIGS))
def test_table_is_proved_on_logits(model_type, tied):
    model = tiny_model(model_type, tied)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert architecture.verify(model) < 1e-4
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name])
    axes = architecture.residual_axes(model)
    axes.require_names(model.state_dict())
    assert (axes.dim, axes.num_layers, axes.tied) == (WIDTH, 2, tied)
    assert axes.group == "signed_permutation"


def test_every_known_type_is_tested():
    assert set(table.RMSNORM_TABLES) == set(CONFIGS)


@pytest.mark.parametrize(
    "rule",
    [
        rule
        for rule in LLAMA.rules
        if rule.role != "inner" and rule.name.split(".")[0] in ("model", "lm_head")
    ],
    ids=lambda rule: rule.name,
)
def test_verify_notices_every_wrong_row(rule, monkeypatch):
    """Take any row that acts out of the table's action, and the proof must fail."""
    model = tiny_model("llama", tied=False)
    rules = [
        dataclasses.replace(other, shape=other.shape.replace("+", "").replace("D", "any"))
        if other == rule
        else other
        for other in LLAMA.rules
    ]
    family = dataclasses.replace(LLAMA, rules=tuple(rules))
    monkeypatch.setitem(table.RMSNORM_TABLES, "llama", family)
    with pytest.raises(ValueError, match="the table for llama is wrong for this model"):
        architecture.verify(model)


def test_gains_are_never_signed():
    """Signing the gains as well changes the function: the reason for their role."""
    model = tiny_model()
    gauge = SignedPermutation.random(WIDTH, seed=3)
    carried = in_gauge(model, gauge)
    with torch.no_grad():
        for name, parameter in carried.named_parameters():
            if "norm" in name:
                parameter.mul_(torch.as_tensor(gauge.sign.copy()))
    assert (logits(carried) - logits(model)).abs().max() > 1.0


def test_sign_only_gauge_leaves_logits_bit_exact():
    model = tiny_model("qwen2", tied=False)
    signs = SignedPermutation(range(WIDTH), SignedPermutation.random(WIDTH, seed=5).sign)
    assert (signs.sign == -1).any()
    assert torch.equal(logits(in_gauge(model, signs)), logits(model))


def test_names_are_checked_in_both_directions():
    model = tiny_model()
    axes = architecture.residual_axes(model.config.to_dict())
    names = set(model.state_dict())
    with pytest.raises(ValueError, match=r"1 tensors are not in the table .* model\.extra\.weight"):
        axes.require_names(names | {"model.extra.weight"})
    with pytest.raises(ValueError, match=r"model\.layers\.2\.mlp\.up_proj\.weight"):
        axes.require_names(names | {"model.layers.2.mlp.up_proj.weight"})
    with pytest.raises(ValueError, match=r"are missing: model\.norm\.weight"):
        axes.require_names(names - {"model.norm.weight"})
    untied = architecture.residual_axes(tiny_model(tied=False))
    with pytest.raises(ValueError, match=r"are missing: lm_head\.weight"):
        untied.require_names(names - {"lm_head.weight"})
    headless = {name.removeprefix("model.") for name in names if name != "lm_head.weight"}
    axes.require_names(headless)
    assert axes.rule("norm.weight").role == "gain"


def test_other_architectures_are_refused_by_name():
    with pytest.raises(ValueError, match="gpt2 normalises with LayerNorm"):
        architecture.residual_axes(transformers.GPT2Config())
    with pytest.raises(ValueError, match=r"unknown architecture 'mamba': bmatch knows .* llama"):
        architecture.residual_axes({"model_type": "mamba"})
    with pytest.raises(ValueError, match="unknown architecture None"):
        architecture.residual_axes({})
    with pytest.raises(ValueError, match="config of this llama is damaged: it has no hidden_size"):
        architecture.residual_axes({"model_type": "llama", "hidden_size": "wide"})


def test_verify_wants_float32():
    with pytest.raises(ValueError, match=r"float32, got torch\.bfloat16"):
        architecture.verify(tiny_model().bfloat16())


def test_transform_refuses_other_widths():
    axes = architecture.residual_axes(tiny_model())
    with pytest.raises(ValueError, match=r"model\.norm\.weight has shape \(8,\): axis 0 carries 8"):
        axes.transform("model.norm.weight", torch.ones(8), SignedPermutation.identity(WIDTH))
    with pytest.raises(ValueError, match="has no tensor nonsense"):
        axes.transform("nonsense", torch.ones(8), SignedPermutation.identity(8))
