"""Sweeps of tiny models against brute-force re-indexing, and of scores with planted kinds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny_models import VOCABULARY, WIDTH, in_gauge, tiny_model

import bmatch
from bmatch.audit import Claim, Recipe, gauge_sweep, gauge_sweeps
from bmatch.audit.sweep import CARRY

SITE, TOP, GAUGES = 1, 6, 8
IDS = torch.randint(VOCABULARY, (2, 12), generator=torch.Generator().manual_seed(5))


@pytest.fixture(scope="module")
def model():
    return tiny_model()


def mean_activation(model):
    """Written without bmatch: of transformers' own streams, first tokens left out."""
    with torch.no_grad():
        stream = model(IDS, output_hidden_states=True).hidden_states[SITE]
    return stream[:, 1:].reshape(-1, WIDTH).mean(0).numpy()


def by_magnitude(model):
    return np.argsort(-np.abs(mean_activation(model)))[:TOP]


def with_signs(model):
    mean, chosen = mean_activation(model), by_magnitude(model)
    return chosen, np.sign(mean[chosen])


def by_value(model):
    return np.argsort(-mean_activation(model))[:TOP]


def wrongly_signed(model):
    """Squares do not turn, and this claim says that they do."""
    mean, chosen = mean_activation(model), by_magnitude(model)
    return Claim(chosen, weight=mean[chosen] ** 2, signed=True)


def likely_tokens(model):
    with torch.no_grad():
        return model(IDS).logits[0, -1].topk(TOP).indices % WIDTH


def brute_force(model, function, seed):
    """Items that survive in each way, counted one by one in models that tests re-express."""
    rng = np.random.default_rng(seed)
    counts = {"raw": 0, "permutation": 0, "signed": 0}
    for _ in range(GAUGES):
        gauge = bmatch.SignedPermutation.random(WIDTH, seed=rng)
        moved = in_gauge(model, gauge)
        here, there = ([*zip(*function(m), strict=True)] for m in (model, moved))
        for index, sign in here:
            place = [i for i in range(WIDTH) if gauge.perm[i] == index][0]  # noqa: RUF015
            counts["raw"] += (index, sign) in there
            counts["permutation"] += (place, sign) in there
            counts["signed"] += (place, sign * gauge.sign[place]) in there
    return counts


def test_counts_are_those_of_brute_force(model):
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    found = gauge_sweep(with_signs, model, GAUGES, seed=4)
    assert {way: share.kept for way, share in found.items.items()} == brute_force(
        model, with_signs, 4
    )
    assert found.items["raw"].of == GAUGES * TOP
    assert found.whole["signed"].kept == GAUGES
    assert np.mean(found.by_gauge["permutation"]) == pytest.approx(found.items["permutation"].rate)
    after = model.state_dict()
    assert all(torch.equal(after[name], weight) for name, weight in before.items())


def test_each_is_called_by_its_kind(model):
    claims = {f.__name__: f for f in (by_magnitude, with_signs, by_value, likely_tokens)}
    found = gauge_sweeps(claims, model, GAUGES)
    assert {name: sweep.kind for name, sweep in found.items()} == {
        "by_magnitude": "sign-blind",
        "with_signs": "signed",
        "by_value": "not covariant",
        "likely_tokens": "invariant",
    }
    value = found["by_value"].items
    assert value["permutation"] == value["signed"]
    assert value["signed"].rate < 0.9
    assert found["by_magnitude"].items["permutation"].rate == 1
    assert found["with_signs"].items["permutation"].rate < 0.9
    assert all(sweep.carry == CARRY[sweep.kind] for sweep in found.values())


def test_signs_where_none_belong_are_found_out(model):
    found = gauge_sweep(wrongly_signed, model, GAUGES)
    assert found.kind == "sign-blind"
    assert found.items["signed"].rate < found.items["permutation"].rate == 1
    assert "never sign" in found.carry


@pytest.mark.parametrize(
    ("measure", "kind"),
    [
        ("activation", "signed"),
        ("gradient", "signed"),
        ("correlation", "signed"),
        ("gradient_x_activation", "sign-blind"),
        ("ablation", "sign-blind"),
    ],
)
def test_one_model_serves_all_gauges(model, measure, kind):
    recipe = Recipe(measure, 5, items="weight", sites=(SITE,), batches=[IDS])
    real = gauge_sweep(recipe, model, 4, rtol=1e-2)
    carried = gauge_sweep(recipe, model, 4, one_model=True, rtol=1e-2)
    assert real.kind == carried.kind == kind
    assert real.items == carried.items
    assert (real.one_model, carried.one_model) == (False, True)


def test_given_scores_are_carried(model):
    scores = np.random.default_rng(0).normal(size=WIDTH)
    pairs = Recipe(scores, 5, items="sign", signed=True)
    found = gauge_sweeps({"pairs": pairs, "value": Recipe(scores, 5, "value", signed=True)}, model)
    assert (found["pairs"].kind, found["value"].kind) == ("signed", "not covariant")
    assert found["pairs"].one_model


def test_where_signs_are_no_gauge_none_are_drawn():
    import transformers

    config = transformers.GPT2Config(
        n_embd=WIDTH, n_layer=2, n_head=2, vocab_size=VOCABULARY, n_positions=32
    )
    torch.manual_seed(0)
    found = gauge_sweep(by_magnitude, transformers.GPT2LMHeadModel(config).eval(), 3)
    assert (found.group, found.kind) == ("permutation_global_sign", "sign-blind")


def test_bad_input(model):
    with pytest.raises(ValueError, match="num_gauges must be at least 1"):
        gauge_sweep(by_value, model, 0)
    with pytest.raises(ValueError, match="one_model needs recipes"):
        gauge_sweep(by_value, model, one_model=True)
    with pytest.raises(ValueError, match=r"audit model\.float\(\)"):
        gauge_sweep(by_value, tiny_model().bfloat16())
    with pytest.raises(ValueError, match="training mode"):
        gauge_sweep(by_value, tiny_model().train())
    with pytest.raises(ValueError, match="names coordinate 32, and the stream has 32"):
        gauge_sweep(lambda _: [32], model)
    with pytest.raises(TypeError, match="must be integers"):
        gauge_sweep(mean_activation, model)
    with pytest.raises(
        ValueError, match="scores of 5 coordinates were given, and the stream has 32"
    ):
        gauge_sweep(Recipe(np.ones(5), signed=True), model)
