"""Tables that come with bmatch say what a run of a small model says today."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import transformers

from bmatch import architecture
from bmatch.architecture.derived import table_of
from bmatch.architecture.deriving import proved_spaces
from bmatch.architecture.stored import shipped, stored
from bmatch.architecture.survey import config_and_class
from bmatch.architecture.tiny import tiny_model

QUICK = ("distilbert", "mamba", "mixtral", "mt5", "phi3")
"""An encoder, a state space, experts, an encoder with a decoder, and fused qkv."""


def others(count):
    """Some more, others with each change of the code that derives: in time all have their turn.

    ``python -m bmatch.architecture.tables --check`` takes all, and every expression of theirs.
    """
    code = hashlib.sha256()
    for path in sorted(Path(architecture.__file__).parent.glob("*.py")):
        code.update(path.read_bytes())

    def turn(model_type):
        return hashlib.sha256(code.digest() + model_type.encode()).digest()

    return sorted(set(shipped()) - set(QUICK), key=turn)[:count]


COMPUTED = ("falcon_mamba", "jamba", "longcat_flash", "mamba", "zamba", "zamba2")
"""Types of which the class computes a size that is left out, by more than a product."""


@pytest.mark.parametrize("model_type", shipped())
def test_what_is_left_out_is_as_the_class_has_it(model_type):
    """Every size that a table tells: of a config that says nothing, and of one that says all."""
    table = stored(model_type)
    full = transformers.CONFIG_MAPPING[model_type]().to_dict()
    if table.fits(full):
        told, left_out = table.table(full).sizes, table.table({"model_type": model_type}).sizes
        assert left_out.items() <= told.items()
        assert left_out.keys() == told.keys() or model_type in COMPUTED


@pytest.mark.parametrize("model_type", [*QUICK, *others(12)])
def test_a_stored_table_is_as_a_run_has_it(model_type):
    model = tiny_model(*config_and_class(model_type))
    found, _ = proved_spaces(model)
    fresh = table_of(found, model.config, model, model)
    shipped = stored(model_type)
    assert shipped.fits(model.config.to_dict())
    axes = shipped.table(model.config.to_dict())
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    assert {n: axes.rule(n).axes for n in shapes} == {n: fresh.rule(n).axes for n in shapes}
    ours, theirs = carried(axes, shapes), carried(fresh, shapes)
    assert ours.items() <= theirs.items()  # of some spaces no field of configs tells the size
    assert len(ours) == len(theirs) or model_type not in QUICK
    assert (axes.dim, axes.group, axes.tied) == (fresh.dim, fresh.group, fresh.tied)


def carried(axes, shapes):
    """Groups and sizes of all spaces, by the tensors that carry them."""
    return {
        frozenset(space.members): (space.group, space.size)
        for space in axes.spaces(shapes)
        if space.size > 1
    }
