"""Whole networks aligned: planted gauges of every space found again, the objective rising."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from networks import CONFIGS, in_gauge, network, noisy, tensors_of

from bmatch.architecture import Axes, Member, Space
from bmatch.network import match_networks


@pytest.mark.parametrize("model_type", sorted(CONFIGS))
def test_two_copies_in_gauges_of_their_own_come_back_bit_for_bit(model_type):
    model, _, axes = network(model_type)
    tensors = tensors_of(model)
    source, one = in_gauge(tensors, axes, 1)
    target, other = in_gauge(tensors, axes, 2)
    found = match_networks(target.__getitem__, source.__getitem__, axes)
    assert found.gauge == other @ one.inverse()
    carry = found.gauge.on(axes)
    for name, tensor in source.items():
        assert torch.equal(carry(name, tensor), target[name]), name
    assert found.settled
    assert found.objective[-1] == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("model_type", sorted(CONFIGS))
def test_a_noisy_copy_is_recovered_in_every_space(model_type):
    model, _, axes = network(model_type)
    source = tensors_of(model)
    target, planted = in_gauge(noisy(source, 0.1), axes, 3)
    found = match_networks(target.__getitem__, source.__getitem__, axes)
    assert set(found.gauge.agreement(planted).values()) == {1.0}
    assert found.objective[-1] == pytest.approx(1 / np.sqrt(1.01), abs=1e-3)
    for space in axes.spaces:
        match = found.spaces[space.name]
        assert match.margin.shape == (space.size,)
        assert match.margin.min() > 0.1
        assert abs(match.gap) < 1e-6


def test_the_objective_never_falls_and_alternation_mends_a_poor_start():
    """The embeddings, from which the search starts, are the noisiest of all tensors."""
    model, _, axes = network("llama")
    source = tensors_of(model)
    rough = noisy(source, 1.0)
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        rough[name] = noisy({name: source[name]}, 5.0)[name]
    target, planted = in_gauge(rough, axes, 4)
    found = match_networks(target.__getitem__, source.__getitem__, axes)
    assert found.passes > 1
    assert len(found.objective) == found.passes
    assert all(b >= a for a, b in zip(found.objective, found.objective[1:], strict=False))
    assert all(rise > 0 for _, rise in found.moves)
    assert found.gauge.agreement(planted)["residual"] == 1.0


def test_the_objective_is_what_it_says():
    """Against float64 sums over the tensors as the gauge carries them."""
    model, _, axes = network("gemma2")
    source = tensors_of(model)
    target, _ = in_gauge(noisy(source, 0.5), axes, 4)
    found = match_networks(target.__getitem__, source.__getitem__, axes)
    carry = found.gauge.on(axes)
    total, entries = 0.0, 0
    for name in {member.tensor for space in axes.spaces for member in space.members}:
        a, b = target[name].double().numpy(), carry(name, source[name]).double().numpy()
        total += a.size * (a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum())
        entries += a.size
    assert found.objective[-1] == pytest.approx(total / entries, abs=1e-6)


def test_networks_of_other_shapes_are_refused():
    model, _, axes = network("llama")
    tensors = tensors_of(model)
    other = {name: torch.cat([tensor, tensor]) for name, tensor in tensors.items()}
    with pytest.raises(ValueError, match="whole networks align where all shapes are the same"):
        match_networks(other.__getitem__, tensors.__getitem__, axes)


def test_weights_that_are_not_finite_are_refused():
    model, _, axes = network("llama")
    tensors = tensors_of(model)
    broken = {name: tensor.clone() for name, tensor in tensors.items()}
    broken["model.embed_tokens.weight"][0, 0] = torch.nan
    with pytest.raises(ValueError, match=r"embed_tokens.weight holds NaN or infinite"):
        match_networks(broken.__getitem__, tensors.__getitem__, axes)


def test_a_space_that_does_nothing_is_left_where_it_is():
    """Dead neurons: every order of them is as good."""
    model, _, axes = network("llama")
    source = tensors_of(model)
    for part in ("gate_proj", "up_proj"):
        source[f"model.layers.0.mlp.{part}.weight"][:5] = 0
    source["model.layers.0.mlp.down_proj.weight"][:, :5] = 0
    target, planted = in_gauge(source, axes, 6)
    found = match_networks(target.__getitem__, source.__getitem__, axes)
    carry = found.gauge.on(axes)
    for name, tensor in source.items():
        assert torch.equal(carry(name, tensor), target[name])
    neurons = found.spaces["model.layers.0.mlp coordinates"]
    dead = np.isin(planted["model.layers.0.mlp coordinates"].perm, np.arange(5))
    assert np.all(neurons.margin[dead] == 0)
    assert np.all(neurons.margin[~dead] > 0.1)


def coordinates(tensor, axis, base=0):
    return Member(tensor, axis, None, (1,), (base,), (True,))


def blocks(tensor, axis, size):
    return Member(tensor, axis, None, (size,) * size, tuple(range(size)), (False,) * size)


def found_again(axes, shapes, noise=0.1):
    generator = torch.Generator().manual_seed(0)
    source = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    target, planted = in_gauge(noisy(source, noise), axes, 7)
    found = match_networks(target.__getitem__, source.__getitem__, axes)
    assert found.settled
    return found, planted


def test_a_tensor_with_the_stream_along_both_of_its_axes():
    """What either axis gains depends on the other: so a move is tried before it is taken."""
    members = (
        coordinates("embed.weight", 1),
        coordinates("a.weight", 0),
        coordinates("a.weight", 1),
    )
    axes = Axes((Space("residual", "signed_permutation", 24, members),))
    found, planted = found_again(axes, {"embed.weight": (40, 24), "a.weight": (24, 24)})
    assert found.gauge == planted
    found, planted = found_again(axes, {"embed.weight": (3, 24), "a.weight": (24, 24)}, 0.5)
    assert all(b >= a for a, b in zip(found.objective, found.objective[1:], strict=False))
    assert found.moves


def test_heads_that_all_layers_share_with_coordinates_of_their_own_in_each():
    heads = tuple(blocks(f"layers.{k}.v.weight", 0, 6) for k in range(2))
    heads += tuple(blocks(f"layers.{k}.o.weight", 1, 6) for k in range(2))
    spaces = [
        Space(
            "residual",
            "signed_permutation",
            24,
            (
                coordinates("embed.weight", 1),
                *(coordinates(f"layers.{k}.v.weight", 1) for k in range(2)),
                *(coordinates(f"layers.{k}.o.weight", 0) for k in range(2)),
            ),
        ),
        Space("heads", "permutation", 4, heads),
    ]
    for k in range(2):
        for head in range(4):
            inner = (
                coordinates(f"layers.{k}.v.weight", 0, 6 * head),
                coordinates(f"layers.{k}.o.weight", 1, 6 * head),
            )
            spaces.append(Space(f"layers.{k} head {head}", "signed_permutation", 6, inner))
    shapes = {f"layers.{k}.{part}.weight": (24, 24) for k in range(2) for part in "vo"}
    found, planted = found_again(Axes(tuple(spaces)), {"embed.weight": (40, 24), **shapes})
    assert found.gauge == planted
