"""Derived spaces proved on models of each kind, and wrong ones refuted."""

from __future__ import annotations

import dataclasses

import pytest
import torch
import transformers
from toy_models import WIDTH, Toy, tokens

from bmatch.architecture import prove
from bmatch.architecture.proof import TOLERANCE, carried
from bmatch.architecture.solve import spaces_of
from bmatch.architecture.tiny import inputs_for, randomise, tiny_model

CAUSAL = transformers.AutoModelForCausalLM
KINDS = {  # what is particular about each, and its group
    "gpt2": (CAUSAL, "permutation_global_sign"),  # LayerNorm, Conv1D, fused q, k and v
    "gptj": (CAUSAL, "permutation_global_sign"),  # attention and MLP beside each other
    "cohere": (CAUSAL, "permutation_global_sign"),  # LayerNorm without biases, logit scale
    "gemma2": (CAUSAL, "signed_permutation"),  # gains 1 + w, soft caps, norms after sublayers
    "olmo2": (CAUSAL, "signed_permutation"),  # norms after sublayers alone, q_norm over all heads
    "phi3": (CAUSAL, "signed_permutation"),  # gate and up in one, q, k and v in one
    "mixtral": (CAUSAL, "signed_permutation"),  # experts in one tensor
    "deepseek_v3": (CAUSAL, "signed_permutation"),  # latent attention, grouped experts
    "mamba": (CAUSAL, "signed_permutation"),  # convolution and scan
    "t5": (transformers.AutoModelForSeq2SeqLM, "signed_permutation"),
    "bart": (transformers.AutoModelForSeq2SeqLM, "permutation_global_sign"),
    "bert": (transformers.AutoModelForMaskedLM, "permutation_global_sign"),
}


@pytest.mark.parametrize("model_type", sorted(KINDS))
def test_spaces_hold_and_larger_groups_do_not(model_type):
    auto, group = KINDS[model_type]
    config = transformers.CONFIG_MAPPING[model_type]()
    model = tiny_model(config, auto.from_config)
    axes = spaces_of(model, inputs_for(model))
    held, proof = prove(model, axes, seed=3)
    assert held.refuted == held.unknown == ()
    assert held.residual.group == group
    assert max(proof.alone.values()) < TOLERANCE
    assert proof.together < TOLERANCE
    assert proof.larger["residual"] > 1e-2
    assert proof.alone.keys() == {space.name for space in held.spaces}


def proved(model, space, axes):
    wrong = dataclasses.replace(axes, spaces=(space,))
    return prove(model, wrong, tokens(5))


@pytest.fixture(scope="module")
def toy():
    model = Toy().eval()
    randomise(model)
    return model, spaces_of(model, tokens())


def test_every_member_left_out_is_noticed(toy):
    model, axes = toy
    space = axes.residual
    for k, member in enumerate(space.members):
        rest = dataclasses.replace(space, members=space.members[:k] + space.members[k + 1 :])
        held, proof = proved(model, rest, axes)
        assert held.spaces == (), member
        assert held.refuted[0].startswith("residual: changes an output by ")
        assert proof.alone["residual"] > 1e-2
        assert proof.together == 0


def test_every_wrong_sign_is_noticed(toy):
    model, axes = toy
    space = axes.residual
    for k, member in enumerate(space.members):
        other = dataclasses.replace(member, odd=(not member.odd[0],))
        members = (*space.members[:k], other, *space.members[k + 1 :])
        held, _ = proved(model, dataclasses.replace(space, members=members), axes)
        assert held.spaces == (), member


def test_the_model_is_left_as_it_is(toy):
    model, axes = toy
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    prove(model, axes, tokens(2))
    assert all(torch.equal(tensor, before[n]) for n, tensor in model.state_dict().items())


def test_a_gauge_and_its_inverse_give_every_tensor_back(toy):
    model, axes = toy
    elements = [(space, space.random(seed)) for seed, space in enumerate(axes.spaces)]
    moved = carried(model, elements)
    assert not torch.equal(moved.embed.weight, model.embed.weight)
    back = carried(moved, [(space, gauge.inverse()) for space, gauge in elements])
    for name, tensor in back.state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name]), name
    assert axes.residual.size == WIDTH
