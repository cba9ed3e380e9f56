"""Llamas of which one operation is another: their gauge is what they compute, not their config's.

They are classes of their own, or models of transformers' class that were changed after they were
made.
"""

from __future__ import annotations

import functools
import types

import pytest
import tiny_models
import torch
import transformers
from plain_moves import moved
from torch import nn

from bmatch import SignedPermutation, architecture, transport
from bmatch.architecture import deriving
from bmatch.architecture.tiny import randomise

WIDTH, VOCABULARY = 16, 40
HALF = WIDTH // 2
MIX = torch.randn(WIDTH, WIDTH, generator=torch.Generator().manual_seed(0))
SLOPE = torch.linspace(1, 2, WIDTH)


class Scaled(nn.Module):
    """A block's MLP behind a scale of each coordinate."""

    def __init__(self, mlp, scale):
        super().__init__()
        self.mlp, self.scale = mlp, scale

    def forward(self, x):
        return self.mlp(x * self.scale)


class HalfNorm(transformers.models.llama.modeling_llama.LlamaRMSNorm):
    """The mean square of the first half of the width, for all of it."""

    def forward(self, x):
        return self.weight * x * torch.rsqrt(x[..., :HALF].pow(2).mean(-1, keepdim=True) + 1e-6)


class Before(nn.Module):
    """Something done to what a module reads."""

    def __init__(self, change, module):
        super().__init__()
        self.change, self.module = change, module

    def forward(self, x, *args, **kwargs):
        return self.module(self.change(x), *args, **kwargs)


class Biased(nn.Module):
    """A norm with a bias after it."""

    def __init__(self, norm, bias):
        super().__init__()
        self.norm, self.bias = norm, bias

    def forward(self, x):
        return self.norm(x) + self.bias


def learned_scale(model):
    layer = model.model.layers[0]
    layer.mlp = Scaled(layer.mlp, nn.Parameter(torch.ones(WIDTH)))


def fixed_scale(model):
    layer = model.model.layers[0]
    layer.mlp = Scaled(layer.mlp, 1.0)
    layer.mlp.register_buffer("slope", SLOPE.clone(), persistent=False)
    layer.mlp.scale = layer.mlp.slope


def half_norm(model):
    model.model.norm = HalfNorm(WIDTH)


def absolute(model):
    """What the second block reads and writes on are absolute values."""
    model.model.layers[1] = Before(torch.abs, model.model.layers[1])


def absolute_beside(model):
    model.model.layers[1] = Before(lambda x: x + x.abs(), model.model.layers[1])


def learned_bias(model):
    model.model.norm = Biased(model.model.norm, nn.Parameter(torch.zeros(WIDTH)))


def fixed_bias(model):
    model.model.norm = Biased(model.model.norm, 0.0)
    model.model.norm.register_buffer("slope", SLOPE.clone(), persistent=False)
    model.model.norm.bias = model.model.norm.slope


def fixed_number(model):
    model.model.norm = Biased(model.model.norm, 0.5)


def mixing_head(model):
    model.lm_head = Before(lambda x: x @ MIX, model.lm_head)


def without_rule(model):
    model.model.norm = Before(
        lambda x: torch.fft.rfft(x, n=2 * WIDTH - 2, norm="ortho").real, model.model.norm
    )


B, S, ONE, NONE = "signed_permutation", "permutation", "permutation_global_sign", None
MUTATIONS = {  # the group of the spaces of the embedding, and their sizes
    learned_scale: (B, [WIDTH]),
    fixed_scale: (NONE, []),
    half_norm: (B, [HALF, HALF]),
    absolute: (B, [WIDTH]),
    absolute_beside: (S, [WIDTH]),
    learned_bias: (B, [WIDTH]),
    fixed_bias: (NONE, []),
    fixed_number: (ONE, [WIDTH]),  # with the last gains
    mixing_head: (NONE, []),
    without_rule: (NONE, []),
}
BROUGHT = {  # what a mutation adds to the stream's space, or takes the sign of
    learned_scale: {"model.layers.0.mlp.scale": False},
    learned_bias: {"model.norm.bias": True},
    absolute: {
        "model.embed_tokens.weight": True,
        "model.layers.1.module.mlp.up_proj.weight": False,
        "lm_head.weight": False,
    },
}
OF_ITS_OWN_CLASS = (learned_scale, half_norm, absolute, mixing_head)
STAYS = (learned_scale, learned_bias)
"""Where the whole of a plain llama's gauge is left, beside one tensor more."""


@functools.cache
def of_its_own_class(mutation):
    def init(self, config):
        transformers.LlamaForCausalLM.__init__(self, config)
        mutation(self)

    bases = (transformers.LlamaForCausalLM,)
    return type(mutation.__name__, bases, {"__init__": init, "__module__": __name__})


def plain_model(**sizes):
    smaller = {"hidden_size": WIDTH, "vocab_size": VOCABULARY, "intermediate_size": 20}
    return tiny_models.tiny_model("llama", tied=False, head_dim=4, **{**smaller, **sizes})


def mutant(mutation, way):
    model = plain_model()
    if way == "class":
        model = of_its_own_class(mutation)(model.config)
    else:
        mutation(model)
    randomise(model, 5)
    return model.eval()


def change(model, state):
    """By how much other weights change logits, as the largest."""
    tokens = torch.arange(VOCABULARY).reshape(2, -1)
    kept = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with torch.no_grad():
        before = model(tokens).logits
        model.load_state_dict(state)
        after = model(tokens).logits
    model.load_state_dict(kept)
    return float((after - before).abs().max() / before.abs().max())


@pytest.mark.parametrize(
    ("mutation", "way"),
    [(m, "changed") for m in MUTATIONS] + [(m, "class") for m in OF_ITS_OWN_CLASS],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_a_mutant_gets_its_own_gauge(mutation, way):
    model = mutant(mutation, way)
    axes = architecture.derive(model)
    group, sizes = MUTATIONS[mutation]
    stream = [s for s in axes.spaces if any("embed_tokens" in m.tensor for m in s.members)]
    assert [(space.size, space.group) for space in stream] == [(size, group) for size in sizes]
    signs = {m.tensor: m.odd[0] for space in stream for m in space.members}
    assert BROUGHT.get(mutation, {}).items() <= signs.items()
    assert axes.unknown == (("_fft_r2c",) if mutation is without_rule else ())
    assert axes.refuted == axes.unmapped == axes.unread == ()
    assert len(axes.spaces) > len(stream)  # neurons and heads are where they were
    assert change(model, moved(model, axes.spaces, 1)) < 1e-4


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.__name__)
def test_the_gauge_of_a_plain_llama_changes_a_mutant(mutation):
    plain, model = plain_model(), mutant(mutation, "class")
    gauge = SignedPermutation.random(WIDTH, seed=1)
    names = {  # where a tensor of the plain model is in the mutant
        name.replace("mlp.mlp", "mlp").replace("module.", "").replace("norm.norm", "norm"): name
        for name in model.state_dict()
    }
    state = model.state_dict()
    known = {short: state[name] for short, name in names.items() if short in plain.state_dict()}
    carried = transport.state_dict(known, gauge, plain)
    together = {**state, **{names[short]: tensor for short, tensor in carried.items()}}
    assert change(model, together) > 1e-2
    others = state.keys() - {names[short] for short in known}
    assert (len(others) == 1) == (mutation in STAYS)


REFUSED = {  # what is told of mutants whose stream has no whole axes that move
    fixed_scale: "what the model computes fixes its coordinates",
    half_norm: "lies in parts of",
    fixed_bias: "what the model computes fixes its coordinates",
    mixing_head: "what the model computes fixes its coordinates",
    without_rule: "there is no rule for _fft_r2c",
}


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.__name__)
def test_the_table_of_a_mutant_is_its_own(mutation):
    """Or there is none; never that of a plain llama, which its config tells."""
    model = mutant(mutation, "changed")
    if mutation in REFUSED:
        with pytest.raises(ValueError, match=REFUSED[mutation]):
            architecture.residual_axes(model)
        return
    axes = architecture.residual_axes(model)
    assert axes.group == MUTATIONS[mutation][0]
    gauge = SignedPermutation.random(WIDTH, axes.group, seed=1)
    assert change(model, transport.state_dict(model.state_dict(), gauge, model)) < 1e-4


def test_the_table_of_a_large_mutant_is_refused_with_what_was_changed(monkeypatch):
    monkeypatch.setattr(deriving, "MOST_PARAMETERS", 1000)
    with pytest.raises(ValueError, match=r"model\.norm is a HalfNorm in place of a LlamaRMSNorm"):
        architecture.residual_axes(mutant(half_norm, "changed"))
    assert architecture.residual_axes(plain_model()).group == B


def test_a_method_of_one_module_alone_is_seen():
    model = plain_model()
    norm = model.model.norm
    norm.forward = types.MethodType(HalfNorm.forward, norm)
    axes = architecture.derive(model)
    assert axes.residual is None or axes.residual.size == HALF
    assert change(model, moved(model, axes.spaces, 1)) < 1e-4


def test_a_hook_is_seen():
    model = plain_model()
    model.model.layers[0].register_forward_hook(lambda module, args, out: out + SLOPE)
    axes = architecture.derive(model)
    assert all(space.size < WIDTH or "mlp" in space.name for space in axes.spaces)
    assert change(model, moved(model, axes.spaces, 1)) < 1e-4


def test_layers_that_were_pruned_are_no_change():
    model = plain_model(num_hidden_layers=4)
    model.model.layers = model.model.layers[:3]
    assert architecture.derive(model).residual.size == WIDTH


def test_a_large_mutant_is_refused_with_what_was_changed(monkeypatch):
    monkeypatch.setattr(deriving, "MOST_PARAMETERS", 1000)
    assert architecture.derive(plain_model()).residual.size == WIDTH
    sentence = r"model\.norm is a HalfNorm in place of a LlamaRMSNorm\), so it has to be run as it"
    with pytest.raises(ValueError, match=sentence):
        architecture.derive(mutant(half_norm, "changed"))
    inputs = {"input_ids": torch.arange(3, 40).reshape(1, -1)}
    derived = architecture.derive(mutant(half_norm, "changed"), inputs)
    sizes = [s.size for s in derived.spaces if any("embed" in m.tensor for m in s.members)]
    assert sizes == [HALF, HALF]


def test_a_class_that_depends_on_the_size_is_no_table_of_a_large_model(monkeypatch):
    """A tiny copy has halves that are not those of the model: none is carried over."""
    monkeypatch.setattr(deriving, "MOST_PARAMETERS", 1000)
    axes = architecture.derive(mutant(half_norm, "class"))
    assert axes.residual is None
    assert axes.unmapped[0].startswith("residual: ")


def test_a_slice_of_a_small_model_is_not_taken_for_all_of_a_tiny_one(monkeypatch):
    """By a class that was written for its own width, or that somebody has changed."""

    def forward(self, x):
        return self.weight * x * torch.rsqrt(x[..., :WIDTH].pow(2).mean(-1, keepdim=True) + 1e-6)

    monkeypatch.setattr(transformers.models.llama.modeling_llama.LlamaRMSNorm, "forward", forward)
    model = plain_model(hidden_size=2 * WIDTH)
    axes = architecture.derive(model)
    sizes = [s.size for s in axes.spaces if any("embed" in m.tensor for m in s.members)]
    assert sizes == [WIDTH, WIDTH]
    assert change(model, moved(model, axes.spaces, 1)) < 1e-4


def test_a_module_with_a_config_of_its_own_needs_inputs():
    class Other(nn.Linear):
        def __init__(self):
            super().__init__(4, 4)
            self.config = {"n_embd": 4}

    with pytest.raises(ValueError, match="needs inputs: a mapping of the arguments"):
        architecture.derive(Other())
