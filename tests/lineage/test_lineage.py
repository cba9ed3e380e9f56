"""What B is to A, for copies made in every way, and the nulls of both tests."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import scipy.stats
import torch
from tiny_models import in_gauge, logits, noisy_copy, tiny_model

import bmatch
from bmatch.architecture.deriving import derivation
from bmatch.lineage.lineage import lineage, sentence
from bmatch.lineage.numbering import log10_binomial_tail, numbering
from bmatch.models.weight_evidence import Weights

WIDTH, HIDDEN = 64, 128
SECRET = bmatch.SignedPermutation.random(WIDTH, seed=3)


def model(seed=0):
    return tiny_model(hidden_size=WIDTH, intermediate_size=HIDDEN, tied=False, seed=seed)


@pytest.fixture(scope="module")
def source():
    return model()


@pytest.fixture(scope="module")
def spaces(source):
    return derivation(source).axes


@torch.no_grad()
def rotated(given):
    """The same function in a rotated basis, gains folded into the matrices behind them."""
    turned = copy.deepcopy(given).double()
    gaussian = np.random.default_rng(0).normal(size=(WIDTH, WIDTH))
    q = torch.as_tensor(np.linalg.qr(gaussian)[0])

    def fold(norm, *readers):
        for reader in readers:
            reader.weight.copy_(reader.weight * norm.weight @ q)
        norm.weight.fill_(1)

    for block in turned.model.layers:
        attention, mlp = block.self_attn, block.mlp
        fold(block.input_layernorm, attention.q_proj, attention.k_proj, attention.v_proj)
        fold(block.post_attention_layernorm, mlp.gate_proj, mlp.up_proj)
        for writer in (attention.o_proj, mlp.down_proj):
            writer.weight.copy_(q.T @ writer.weight)
            writer.bias.copy_(writer.bias @ q)
    fold(turned.model.norm, turned.lm_head)
    turned.model.embed_tokens.weight.copy_(turned.model.embed_tokens.weight @ q)
    return turned.float()


@torch.no_grad()
def renumbered(given):
    """The same function with the neurons in another order."""
    changed = copy.deepcopy(given)
    for block in changed.model.layers:
        order = torch.as_tensor(np.random.default_rng(1).permutation(HIDDEN))
        for reader in (block.mlp.gate_proj, block.mlp.up_proj):
            reader.weight.copy_(reader.weight[order])
            reader.bias.copy_(reader.bias[order])
        block.mlp.down_proj.weight.copy_(block.mlp.down_proj.weight[:, order])
    return changed


@torch.no_grad()
def trained(given):
    """What lies in few directions was added to every matrix, as training does."""
    changed, generator = copy.deepcopy(given), torch.Generator().manual_seed(5)
    for parameter in changed.parameters():
        if parameter.ndim == 2:
            left = torch.randn(len(parameter), 2, generator=generator)
            right = torch.randn(2, parameter.shape[1], generator=generator)
            parameter.add_(0.03 * left @ right)
    return changed


@pytest.mark.parametrize(
    ("make", "answer"),
    [
        (lambda a: a, "identical"),
        (lambda a: in_gauge(a, SECRET), "in another gauge"),
        (lambda a: renumbered(in_gauge(a, SECRET)), "renumbered"),
        (lambda a: in_gauge(noisy_copy(a, 0.3, 1), SECRET), "noised"),
        (lambda a: in_gauge(trained(a), SECRET), "trained"),
        (rotated, "rotated"),
        (lambda a: noisy_copy(rotated(a), 0.2, 1), "rotated"),
        (lambda _: model(5), "stranger"),
        (lambda _: in_gauge(model(6), SECRET), "stranger"),
    ],
)
def test_every_copy_is_named(source, spaces, make, answer):
    found = lineage(make(source), source, spaces)
    assert found.answer == answer
    assert (found.log10_p > -6) == (answer == "stranger")
    if answer in ("in another gauge", "renumbered", "noised", "trained"):
        assert found.gauge == SECRET
    assert sentence(found).startswith("B is ")


def test_a_copy_rotated_and_renumbered(source):
    """Without the numbering no test is left: the embeddings alone tell."""
    copied = renumbered(rotated(source))
    found = lineage(copied, source, None)
    assert found.answer == "rotated"
    assert found.log10_p > -6
    assert "chance" not in sentence(found)
    assert lineage(noisy_copy(copied, 0.2, 1), source, None).answer == "stranger"


def test_the_rotated_copy_computes_the_same(source):
    assert (logits(rotated(source)) - logits(source)).abs().max() < 1e-3


def test_coins_of_strangers_are_fair(spaces):
    """The null: p-values over independent models are no smaller than they say."""
    models = [Weights.of(model(seed)) for seed in range(10, 19)]
    p = [
        10 ** numbering(one, other, spaces, seed=k).log10_p
        for k, one in enumerate(models)
        for other in models[k + 1 :]
    ]
    for level in (0.05, 0.25):
        assert np.mean(np.array(p) <= level) <= level + 3 * (level / len(p)) ** 0.5


@pytest.mark.parametrize(("heads", "thrown"), [(0, 5), (5, 5), (43, 86), (86, 86), (700, 1000)])
def test_the_binomial_tail_is_scipys(heads, thrown):
    exact = scipy.stats.binom.logsf(heads - 1, thrown, 0.5) / np.log(10)
    assert log10_binomial_tail(heads, thrown) == pytest.approx(exact, abs=1e-9)


def test_without_spaces_coordinates_answer_alone(source):
    found = lineage(in_gauge(source, SECRET), source, None)
    assert found.coins is None
    assert found.answer == "in another gauge"
