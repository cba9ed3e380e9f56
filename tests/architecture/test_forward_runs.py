"""Parameters that are read beside more than tokens, or under several draws of weights only."""

from __future__ import annotations

import pytest
import torch
from tiny_models import change_when_carried

import bmatch
from bmatch import architecture
from bmatch.architecture import deriving
from bmatch.architecture.deriving import proved_spaces
from bmatch.architecture.forward_runs import runs_of
from bmatch.architecture.survey import config_and_class
from bmatch.architecture.tiny import tiny_model


def tiny(model_type):
    return tiny_model(*config_and_class(model_type))


@pytest.mark.parametrize(
    ("model_type", "more"),
    [
        ("llama", []),
        ("bert", []),
        ("trocr", ["encoder_hidden_states"]),
        ("xlnet", ["token_type_ids", "target_mapping"]),
        ("luke", ["entity_position_ids"]),
    ],
)
def test_what_more_a_model_is_given(model_type, more):
    """Nothing, where tokens are enough to read all."""
    first, *others = runs_of(tiny(model_type))
    assert [name in run.inputs for name, run in zip(more, others, strict=True)] == [True] * len(
        more
    )
    assert all(name not in first.inputs for name in more)


def test_a_method_of_its_own_is_run():
    _, other = runs_of(tiny("esm"))
    assert other.method == "predict_contacts"


@pytest.mark.parametrize("model_type", ["trocr", "xlnet", "luke", "esm"])
def test_each_run_stays_under_a_gauge(model_type, tmp_path):
    """All that runs give, of a checkpoint that was carried by the table, read by name."""
    model = tiny(model_type)
    axes = architecture.residual_axes(model)
    gauge = bmatch.SignedPermutation.random(axes.dim, axes.group, seed=3)
    for run in runs_of(model):
        if run.method == "forward":
            assert change_when_carried(model, run.inputs, gauge, tmp_path / str(id(run))) < 1e-4


def test_heads_move_with_what_reads_their_attention():
    """The map of contacts has a column for each head of each layer."""
    model = tiny("esm")
    axes, _ = proved_spaces(model)
    heads = [s for s in axes.spaces if "esm.contact_head.regression.weight" in str(s.members)]
    places = []
    for space in heads:
        (member,) = (m for m in space.members if m.tensor.startswith("esm.contact_head"))
        assert any("attention.self.query" in m.tensor for m in space.members)
        places.append(sorted(member.entries(space.size).ravel().tolist()))
    assert sorted(places) == [[0, 1, 2, 3], [4, 5, 6, 7]]


class Routed(torch.nn.Module):
    """A stream and four experts that scale it, of which it asks those of a list; the first acts."""

    def __init__(self, asked):
        super().__init__()
        self.read, self.head = torch.nn.Linear(4, 6), torch.nn.Linear(6, 3)
        self.experts = torch.nn.Parameter(torch.randn(4, 6))
        self.asked = asked

    def forward(self, x):
        stream = self.read(x)
        for expert in self.asked:
            change = stream * self.experts[expert]
            stream = stream + (change.relu() if expert == 0 else change)
        return self.head(stream)


@pytest.mark.parametrize(
    ("asked", "group"),
    [([[0, 1], [1, 2, 3]], "permutation"), ([[1, 2], [1, 3]], "signed_permutation")],
)
def test_experts_that_no_single_draw_asks(asked, group, monkeypatch):
    """Of two draws each asks some of the experts: what either demands holds, proved under both."""
    module = Routed(asked[0])

    def draw(module, seed):
        deriving.randomise(module, seed)
        module.asked = asked[seed % len(asked)]

    given = {"x": torch.randn((5, 4), generator=torch.Generator().manual_seed(0))}
    monkeypatch.setattr(deriving, "SEEDS", 2)
    monkeypatch.setattr(deriving, "_draw", draw)
    monkeypatch.setattr("bmatch.architecture.forward_runs.inputs_for", lambda _: given)
    axes, proof = proved_spaces(module)
    assert axes.unread == ()
    stream = axes.residual
    assert (stream.size, stream.group) == (6, group)
    assert proof.alone[stream.name] < 1e-4
    slabs = {m.slab for m in stream.members if m.tensor == "experts"}
    assert slabs == {None} if 0 in asked[0] else {1, 2, 3}
