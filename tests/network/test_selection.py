"""Kinds of spaces, told from the spaces alone."""

from __future__ import annotations

from collections import Counter

import pytest
from networks import network

from bmatch.network.selection import kinds_of, selected


@pytest.mark.parametrize(
    ("model_type", "counts"),
    [
        ("llama", {"residual": 1, "neurons": 2, "heads": 10}),
        ("qwen3_moe", {"residual": 1, "neurons": 8, "heads": 10, "experts": 2}),
        ("gpt2", {"residual": 1, "neurons": 2, "heads": 18}),
    ],
)
def test_kinds(model_type, counts):
    assert Counter(kinds_of(network(model_type)[2]).values()) == counts


def test_some_kinds_alone():
    axes = network("llama")[2]
    assert [space.name for space in selected(axes, ["residual"]).spaces] == ["residual"]
    assert selected(axes, ["all"]) == axes
    with pytest.raises(ValueError, match="spaces must be 'all' or some of residual, neurons"):
        selected(axes, ["mind"])
    with pytest.raises(ValueError, match="the model has no space of the kinds experts"):
        selected(axes, ["experts"])
