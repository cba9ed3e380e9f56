"""Tables that come with bmatch say what a run of a small model says today."""

from __future__ import annotations

import pytest

from bmatch.architecture.derived import table_of
from bmatch.architecture.deriving import proved_spaces
from bmatch.architecture.stored import stored
from bmatch.architecture.survey import config_and_class
from bmatch.architecture.tiny import tiny_model

QUICK = ("distilbert", "mamba", "mixtral", "mt5", "phi3")
"""An encoder, a state space, experts, an encoder with a decoder, and fused qkv."""


@pytest.mark.parametrize("model_type", QUICK)
def test_a_stored_table_is_as_a_run_has_it(model_type):
    model = tiny_model(*config_and_class(model_type))
    found, _ = proved_spaces(model)
    fresh = table_of(found, model.config, model, model)
    shipped = stored(model_type)
    assert shipped.fits(model.config.to_dict())
    axes = shipped.table(model.config.to_dict())
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    assert {n: axes.rule(n).axes for n in shapes} == {n: fresh.rule(n).axes for n in shapes}
    assert carried(axes, shapes) == carried(fresh, shapes)
    assert (axes.dim, axes.group, axes.tied) == (fresh.dim, fresh.group, fresh.tied)


def carried(axes, shapes):
    """Groups and sizes of all spaces, by the tensors that carry them."""
    return {
        frozenset(space.members): (space.group, space.size)
        for space in axes.spaces(shapes)
        if space.size > 1
    }
