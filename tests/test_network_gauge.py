"""Gauges of whole networks: what they do to every tensor, as a group, in files."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

import bmatch
from bmatch.architecture import Axes, Member, Space
from bmatch.architecture.nesting import Nesting, without_strays
from bmatch.network_gauge import NetworkGauge


def member(tensor, axis, size, entries=1, *, slab=None, base=0, stride=None, odd=True):
    stride = entries if stride is None else stride
    offsets = tuple(base + k for k in range(entries))
    return Member(tensor, axis, slab, (stride,) * entries, offsets, (odd,) * entries)


def nested_axes():
    """A stream of 5; 2 groups of 3 heads of 4 coordinates; 3 experts of 2 neurons each."""
    spaces = [
        Space(
            "residual",
            "signed_permutation",
            5,
            (member("o", 0, 5), member("experts", 2, 5), member("gain", 0, 5, odd=False)),
        ),
        Space("groups", "permutation", 2, (member("o", 1, 2, 12), member("v", 0, 2, 4))),
        Space(
            "experts",
            "permutation",
            3,
            (member("experts", 0, 3, odd=False), member("router", 0, 3, odd=False)),
        ),
    ]
    for g in range(2):
        spaces.append(Space(f"heads {g}", "permutation", 3, (member("o", 1, 3, 4, base=12 * g),)))
        offsets = tuple(12 * g + 4 * h for h in range(3))
        dims = Member("o", 1, None, (1,) * 3, offsets, (True,) * 3)
        inner = (dims, member("v", 0, 4, base=4 * g))
        spaces.append(Space(f"dims {g}", "signed_permutation", 4, inner))
    spaces += [
        Space(f"neurons {e}", "signed_permutation", 2, (member("experts", 1, 2, slab=e),))
        for e in range(3)
    ]
    return Axes(tuple(spaces))


AXES = nested_axes()
SHAPES = {"o": (5, 24), "v": (8, 3), "gain": (5,), "experts": (3, 2, 5), "router": (3, 4)}
seeds = st.integers(0, 2**32 - 1)


def weights(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=generator) for name, shape in SHAPES.items()}


def moved(gauge, tensors):
    carry = gauge.on(AXES)
    return {name: carry(name, tensor) for name, tensor in tensors.items()}


def same(one, other):
    return all(torch.equal(one[name], other[name]) for name in SHAPES)


def test_what_lies_in_what():
    nesting = Nesting.of(AXES)
    assert nesting.orbits == {
        "groups": (("heads 0", "heads 1"), ("dims 0", "dims 1")),
        "experts": (("neurons 0", "neurons 1", "neurons 2"),),
    }
    assert nesting.inside("experts", 1) == ("neurons 1",)
    assert nesting.depth("residual") == nesting.depth("groups") == 0


def test_a_space_in_some_units_alone_is_refused():
    rest = tuple(space for space in AXES.spaces if space.name != "neurons 2")
    with pytest.raises(ValueError, match="2 of the 3 units of experts hold a space like neurons"):
        Nesting.of(Axes(rest))
    whole = without_strays(Axes(rest))
    assert {s.name for s in rest} - {s.name for s in whole.spaces} == {"neurons 0", "neurons 1"}
    assert whole.unmapped[0] == "neurons 0: other units of experts have none like it"
    assert without_strays(AXES) == AXES


@given(seeds, seeds)
@settings(max_examples=40, deadline=None)
def test_products_do_what_their_factors_do_one_after_the_other(one, other):
    g, h = NetworkGauge.random(AXES, one), NetworkGauge.random(AXES, other)
    before = weights()
    assert same(moved(g @ h, before), moved(g, moved(h, before)))


@given(seeds)
@settings(max_examples=40, deadline=None)
def test_inverses_give_back_every_bit(seed):
    g = NetworkGauge.random(AXES, seed)
    before = weights()
    assert same(moved(g.inverse(), moved(g, before)), before)
    assert (g.inverse() @ g).is_identity
    assert (g @ g.inverse()).is_identity
    assert g.inverse().inverse() == g
    assert g @ NetworkGauge.identity(AXES) == g == NetworkGauge.identity(AXES) @ g


@given(seeds, seeds, seeds)
@settings(max_examples=20, deadline=None)
def test_products_associate(a, b, c):
    f, g, h = (NetworkGauge.random(AXES, seed) for seed in (a, b, c))
    assert (f @ g) @ h == f @ (g @ h)


def test_as_a_single_space_acts_by_itself():
    g = bmatch.SignedPermutation.random(5, seed=3)
    carried = moved(NetworkGauge({"residual": g}), weights())
    assert torch.equal(carried["o"], g.apply(weights()["o"], 0))
    assert torch.equal(carried["gain"], g.apply_permutation(weights()["gain"]))
    assert torch.equal(carried["v"], weights()["v"])


@given(seeds)
@settings(max_examples=10, deadline=None)
def test_files(seed):
    import tempfile
    from pathlib import Path

    g = NetworkGauge.random(AXES, seed)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "gauge.safetensors"
        g.save(path, {"source": "a"})
        back = NetworkGauge.load(path)
        assert back == g
        assert back.nesting == g.nesting
        assert back.metadata == {"source": "a"}
        assert back.inverse().metadata == {"target": "a"}
        assert bmatch.SignedPermutation.load(path) == g.residual
        g.residual.save(path)  # as it was before there were more spaces
        assert dict(NetworkGauge.load(path)) == {"residual": g.residual}


def test_damaged_files_are_refused(tmp_path):
    path = tmp_path / "gauge.safetensors"
    g = NetworkGauge.random(AXES, 0)
    g.save(path)
    from bmatch.files import tensor_file

    tensors, header = tensor_file.read(path, "gauge")
    del tensors["experts/sign"]
    tensor_file.write(path, "gauge", tensors, header)
    with pytest.raises(ValueError, match="holds no valid gauge"):
        NetworkGauge.load(path)
    save_file({"perm": np.arange(3)}, path)
    with pytest.raises(ValueError, match="holds no gauge"):
        NetworkGauge.load(path)


def test_a_gauge_of_more_than_the_groups_is_refused():
    signed = bmatch.SignedPermutation([0, 1], [1, -1])
    with pytest.raises(ValueError, match="signed_permutation of groups, whose group is perm"):
        NetworkGauge({"groups": signed}).on(AXES)
    with pytest.raises(ValueError, match="the model has no space elsewhere"):
        NetworkGauge({"elsewhere": signed}).on(AXES)
    with pytest.raises(ValueError, match="acts on 2 units of residual, and the model has 5"):
        NetworkGauge({"residual": signed}).on(AXES)


def test_gauges_of_different_spaces_do_not_compose():
    g = NetworkGauge.random(AXES, 0)
    with pytest.raises(ValueError, match="gauges of different spaces cannot be composed: dims 0"):
        g @ NetworkGauge({name: e for name, e in g.items() if not name.startswith("dims")})


def test_siblings_without_an_element_are_refused():
    g = NetworkGauge.random(AXES, 0)
    rest = {name: element for name, element in g.items() if name != "neurons 1"}
    with pytest.raises(ValueError, match="neurons 1 has no element, and its sibling"):
        NetworkGauge(rest, Nesting.of(AXES))


def test_agreement_of_each_space():
    g = NetworkGauge.random(AXES, 0)
    shares = g.agreement(NetworkGauge({**g, "residual": bmatch.SignedPermutation.identity(5)}))
    assert shares["dims 1"] == shares["experts"] == 1.0
    assert shares["residual"] == g.residual.agreement(bmatch.SignedPermutation.identity(5))


def test_hash_and_repr():
    g, h = NetworkGauge.random(AXES, 0), NetworkGauge.random(AXES, 0)
    assert hash(g) == hash(h)
    assert g != NetworkGauge.random(AXES, 1)
    assert repr(g) == "NetworkGauge(spaces=10, units=30)"
