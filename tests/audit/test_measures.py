"""Scores of a tiny model's coordinates, against hooks, finite differences and edited weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny_models import VOCABULARY, WIDTH, tiny_model

from bmatch.audit.measures import MEASURES
from bmatch.models.activations import Reader, replaced_stream

SITE = 1


@pytest.fixture(scope="module")
def model():
    return tiny_model()


@pytest.fixture(scope="module")
def batches():
    generator = torch.Generator().manual_seed(3)
    return [torch.randint(VOCABULARY, (n, 9), generator=generator) for n in (2, 1)]


def measured(name, model, batches, top=5):
    return MEASURES[name].scores(Reader.of(model), batches, SITE, top)


def streams(model, batches):
    """After one block, by transformers' own account, first tokens left out."""
    with torch.no_grad():
        found = [model(b, output_hidden_states=True).hidden_states[SITE] for b in batches]
    return torch.cat([s[:, 1:].reshape(-1, WIDTH) for s in found]).double().numpy()


def loss(model, batches, added=None):
    """Sum over tokens, in float64 throughout but for the library's norms."""
    reader, total = Reader.of(model), 0.0
    shift = torch.zeros(WIDTH) if added is None else torch.as_tensor(added).float()
    with torch.no_grad(), replaced_stream(reader, SITE, lambda s: s + shift):
        for batch in batches:
            total += float(model(batch, labels=batch).loss) * batch[:, 1:].numel()
    return total


def test_activation_and_correlation(model, batches):
    rows = streams(model, batches)
    assert measured("activation", model, batches) == pytest.approx(rows.mean(0), abs=1e-6)
    found = measured("correlation", model, batches)
    a, b = rows[:, 3] - rows[:, 3].mean(), rows[:, 8] - rows[:, 8].mean()
    assert found[3, 8] == pytest.approx(a @ b / np.sqrt((a @ a) * (b @ b)))
    assert np.all(np.isnan(np.diag(found)))


def test_gradient_is_the_slope_of_the_loss(model, batches):
    """Of the first token's stream nothing is told: so hold it fixed and move the others."""
    gradient = measured("gradient", model, batches)
    tokens = sum(b[:, 1:].numel() for b in batches)
    for index in (0, 7, 31):
        step = torch.zeros(9, WIDTH)
        step[1:, index] = 1e-2
        slope = (loss(model, batches, step) - loss(model, batches, -step)) / 2e-2
        assert gradient[index] * tokens == pytest.approx(slope, rel=0.02, abs=2e-3)


def test_gradient_x_activation_is_first_order(model, batches):
    """Scaling a coordinate's stream by 1 + e moves the loss by e times its attribution."""
    found = measured("gradient_x_activation", model, batches)
    reader = Reader.of(model)

    def scaled(index, by):
        factor = torch.ones(9, WIDTH)
        factor[1:, index] = by
        with torch.no_grad(), replaced_stream(reader, SITE, lambda s: s * factor):
            return sum(float(model(b, labels=b).loss) * b[:, 1:].numel() for b in batches)

    for index in (2, 9, 30):
        slope = (scaled(index, 1.01) - scaled(index, 0.99)) / 0.02
        assert found[index] == pytest.approx(slope, rel=0.02, abs=2e-3)


def test_ablation_is_a_pass_without_the_coordinate(model, batches):
    found = measured("ablation", model, batches)
    order = np.argsort(-np.abs(measured("gradient_x_activation", model, batches)))
    assert set(np.flatnonzero(~np.isnan(found))) == set(order[:5])
    tokens = sum(b[:, 1:].numel() for b in batches)
    keep = torch.ones(WIDTH)
    keep[order[0]] = 0
    with torch.no_grad(), replaced_stream(Reader.of(model), SITE, lambda s: s * keep):
        without = sum(float(model(b, labels=b).loss) * b[:, 1:].numel() for b in batches)
    assert found[order[0]] == pytest.approx((without - loss(model, batches)) / tokens, abs=1e-5)


def test_padding_counts_for_nothing(model, batches):
    plain = batches[1]
    padded = {
        "input_ids": torch.cat([plain, torch.zeros(1, 4, dtype=torch.int64)], 1),
        "attention_mask": torch.cat([torch.ones_like(plain), torch.zeros(1, 4).long()], 1),
    }
    for name in ("activation", "gradient", "gradient_x_activation", "ablation"):
        alone, beside = (measured(name, model, [batch]) for batch in (plain, padded))
        np.testing.assert_allclose(alone, beside, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("site", [0, 2])
def test_other_sites_are_replaced_too(model, batches, site):
    """The embedding, and the end: nothing of the text is left behind a stream of zeros."""
    with torch.no_grad(), replaced_stream(Reader.of(model), site, torch.zeros_like):
        logits = model(batches[0]).logits
    assert torch.allclose(logits, logits[:1, :1].expand_as(logits), atol=1e-5)
    with torch.no_grad(), replaced_stream(Reader.of(model), site, lambda s: s):
        same = model(batches[0]).logits
    assert torch.equal(same, model(batches[0]).logits.detach())
