"""Claims of each kind about real weights: which survive, and what they are called."""

from __future__ import annotations

import pytest

from bmatch.audit import Recipe, gauge_sweeps
from bmatch.models.smollm2 import read_smollm2
from bmatch.models.text import default_text, token_batches

TOP, GAUGES = 10, 20


@pytest.fixture(scope="module")
def sweeps():
    model, tokenizer = read_smollm2()
    batches = list(token_batches(tokenizer, default_text(), 64, 65))
    options = {"sites": [15], "batches": batches}
    claims = {
        "sign-blind": Recipe("activation", TOP, **options),
        "signed": Recipe("activation", TOP, items="sign", **options),
        "not covariant": Recipe("activation", TOP, by="value", **options),
    }
    return gauge_sweeps(claims, model.eval(), GAUGES, seed=0, one_model=True)


@pytest.mark.parametrize(
    ("kind", "permuted", "signed"),
    [("sign-blind", 1.0, 1.0), ("signed", 0.5, 1.0), ("not covariant", 0.45, 0.45)],
)
def test_a_claim_survives_as_its_kind_does(sweeps, kind, permuted, signed):
    found = sweeps[kind]
    assert found.kind == kind
    for way, share in (("permutation", permuted), ("signed", signed)):
        told = found.items[way]
        assert told.of == TOP * GAUGES
        low, high = told.interval()
        assert low <= share <= high
        assert (told.rate == 1.0) == (share == 1.0)
    assert found.items["raw"].rate < 0.1
