"""The table of residual axes, proved on the logits of every architecture it names."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch
import transformers
from tiny_models import CONFIGS, WIDTH, in_gauge, logits, tiny_model

import bmatch
from bmatch import SignedPermutation, architecture
from bmatch.architecture import table
from bmatch.architecture.stored import FOLDER, from_text
from bmatch.architecture.survey import config_and_class
from bmatch.architecture.tiny import inputs_for
from bmatch.architecture.tiny import tiny_model as any_tiny_model

LLAMA = from_text((FOLDER / "llama.json").read_text())


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


@pytest.mark.parametrize(
    "rule",
    [
        rule
        for rule in LLAMA.family.rules
        if rule.role != "inner" and rule.name.split(".")[0] in ("model", "lm_head")
    ],
    ids=lambda rule: rule.name,
)
def test_verify_notices_every_wrong_row(rule, monkeypatch):
    """Take any row that acts out of the table's action, and the proof must fail."""
    model, known = tiny_model("llama", tied=False), LLAMA
    rules = [
        dataclasses.replace(
            other,
            shape=" ".join(w.replace("+D", "any").replace("D", "any") for w in other.shape.split()),
        )
        if other == rule
        else other
        for other in known.family.rules
    ]
    family = dataclasses.replace(known.family, rules=tuple(rules))
    wrong = dataclasses.replace(known, family=family)
    monkeypatch.setattr(table, "stored", lambda _: wrong)
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


def test_shapes_are_checked():
    model = tiny_model("qwen3", tied=False)
    axes = architecture.residual_axes(model)
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    axes.require_shapes(shapes)
    for name, shape, expected in (
        ("model.layers.1.mlp.down_proj.weight", (32, 47), r"\[32, 47\] and not \[32, 48\]"),
        ("model.layers.1.self_attn.k_proj.weight", (32, 32), r"\[32, 32\] and not \[16, 32\]"),
        ("model.layers.0.self_attn.q_norm.weight", (32,), r"\[32\] and not \[8\]"),
        ("model.embed_tokens.weight", (300, 16), r"\[300, 16\] and not \[300, 32\]"),
        ("lm_head.weight", (301, 32), r"\[301, 32\] and not \[300, 32\]"),
        ("model.norm.weight", (1, 32), r"\[1, 32\] and not \[32\]"),
        ("model.norm.weight", (), r"\[\] and not \[32\]"),
    ):
        message = f"1 tensors do not have the shapes that the config .*: {name} is {expected}"
        with pytest.raises(ValueError, match=message):
            axes.require_shapes({**shapes, name: shape})
    with pytest.raises(ValueError, match=r"2 tensors are empty, placeholders as ZeRO-3 leaves"):
        axes.require_shapes(
            {**shapes, "model.norm.weight": (0,), "model.embed_tokens.weight": (0,)}
        )


@pytest.mark.parametrize("model_type", sorted(CONFIGS))
def test_every_shape_of_every_type_is_as_the_config_says(model_type):
    model = tiny_model(model_type, tied=False, head_dim=12, num_key_value_heads=1)
    axes = architecture.residual_axes(model)
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    axes.require_shapes(shapes)
    for name, shape in shapes.items():
        for axis in range(len(shape)):
            longer = tuple(size + (k == axis) for k, size in enumerate(shape))
            with pytest.raises(ValueError, match="1 tensors do not have the shapes"):
                axes.require_shapes({**shapes, name: longer})


def test_heads_of_classifiers_and_reward_models_are_carried():
    """In place of the unembedding, or beside it as TRL writes it: both read the stream."""
    gauge = SignedPermutation.random(WIDTH, seed=3)
    config = tiny_model(tied=False).config
    config.num_labels = 3
    model = transformers.AutoModelForSequenceClassification.from_config(config).eval()
    carried = copy.deepcopy(model)
    carried.load_state_dict(bmatch.transport.state_dict(model.state_dict(), gauge, model))
    before, after = logits(model), logits(carried)
    assert before.shape == (1, 3)
    assert (after - before).abs().max() < 1e-4 * before.abs().max()

    model = tiny_model()
    head = {"v_head.summary.weight": torch.randn(1, WIDTH), "v_head.summary.bias": torch.randn(1)}
    weights = bmatch.transport.state_dict({**model.state_dict(), **head}, gauge, model)
    value = values(model, head)
    moved = values(in_gauge(model, gauge), weights)
    assert (moved - value).abs().max() < 1e-4 * value.abs().max()


def values(model, head):
    """What TRL's value head makes of the last hidden state of some tokens."""
    tokens = torch.arange(40)[None]
    with torch.no_grad():
        hidden = model(tokens, output_hidden_states=True).hidden_states[-1]
        weight, bias = head["v_head.summary.weight"], head["v_head.summary.bias"]
        return torch.nn.functional.linear(hidden, weight, bias)


def test_fields_left_out_are_as_transformers_has_them():
    """SmolLM3 is published without tie_word_embeddings, and its class ties by default."""
    for model_type, make in CONFIGS.items():
        axes = architecture.residual_axes({"model_type": model_type})
        default = make()
        assert axes == architecture.residual_axes(default)
        assert (axes.dim, axes.num_layers) == (default.hidden_size, default.num_hidden_layers)
        assert axes.vocab_size == default.vocab_size
        assert axes.tied == default.tie_word_embeddings
    assert architecture.residual_axes({"model_type": "smollm3"}).tied
    written = {"model_type": "smollm3", "tie_word_embeddings": False, "hidden_size": 64}
    axes = architecture.residual_axes(written)
    assert (axes.tied, axes.dim) == (False, 64)


def test_other_architectures_are_refused_by_name():
    with pytest.raises(ValueError, match=r"unknown architecture 'nonesuch': bmatch has tables"):
        architecture.residual_axes({"model_type": "nonesuch"})
    with pytest.raises(ValueError, match="the config has no model_type"):
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


@pytest.mark.parametrize("model_type", ["llama", "mixtral", "gpt2", "olmo", "gemma3_text", "t5"])
def test_all_spaces_move_at_once(model_type):
    """Residual, neurons, heads, experts: by the names that the table gives them."""
    model = any_tiny_model(*config_and_class(model_type))
    weights = model.state_dict()
    axes = architecture.residual_axes(model)
    spaces = axes.spaces({name: tuple(tensor.shape) for name, tensor in weights.items()})
    assert spaces[0].name == "residual"
    kinds = {space.name.rpartition(".")[2].split(" 0")[0] for space in spaces}
    assert len(kinds) > 2, kinds
    gauges = {space.name: space.random(k) for k, space in enumerate(spaces)}
    carried = copy.deepcopy(model)
    moved = {name: axes.transform(name, tensor, gauges) for name, tensor in weights.items()}
    carried.load_state_dict(moved)
    inputs = inputs_for(model)
    with torch.no_grad():
        before, after = model(**inputs).logits, carried(**inputs).logits
    assert (after - before).abs().max() < 1e-4 * before.abs().max()
    for name, tensor in carried.state_dict().items():
        back = {space: gauge.inverse() for space, gauge in gauges.items()}
        slabs = {space: gauge for space, gauge in back.items() if "slab" in space}
        others = {space: gauge for space, gauge in back.items() if space not in slabs}
        returned = axes.transform(name, axes.transform(name, tensor, slabs), others)
        assert torch.equal(returned, weights[name])
    stream = {"residual": gauges["residual"]}
    for name, tensor in weights.items():
        one = axes.transform(name, tensor, gauges["residual"])
        assert torch.equal(axes.transform(name, tensor, stream), one)


def test_spaces_whose_tensors_files_rename_are_left_out():
    """Mixtral's files have each expert by itself: no permutation of a tensor exchanges them."""
    model = any_tiny_model(*config_and_class("mixtral"))
    axes = architecture.residual_axes(model)
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    in_model = {space.name for space in axes.spaces(shapes)}
    files = {name.replace(".mlp.gate.", ".block_sparse_moe.gate."): s for name, s in shapes.items()}
    lost = in_model - {space.name for space in axes.spaces(files)}
    assert lost == {f"model.layers.{layer}.mlp coordinates" for layer in range(2)}
