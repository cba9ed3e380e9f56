"""Spaces of a tiny model on the tensors of the full one."""

from __future__ import annotations

import pytest

from bmatch.architecture.scale import Names, scaled
from bmatch.architecture.spaces import Axes, Member, Space


def member(tensor, axis=0, stride=1, offsets=(0,), odd=(True,), slab=None):
    return Member(tensor, axis, slab, (stride,) * len(offsets), offsets, odd)


def one(*members, size=4, name="residual"):
    return Axes((Space(name, "signed_permutation", size, members),))


def test_numbers_of_lists_that_differ_are_told_from_others():
    tiny = ["layers.0.mlp.0.weight", "layers.1.mlp.0.weight", "layers.0.mlp.2.weight"]
    full = [name.replace("layers.1", "layers.5") for name in tiny]
    names = Names(tiny, full)
    assert names.split("layers.5.mlp.2.weight") == (("layers", "#", "mlp", "2", "weight"), ("5",))


def test_a_stream_reaches_all_layers():
    tiny = {"embed": (9, 4), **{f"layers.{k}.w": (6, 4) for k in range(2)}}
    full = {"embed": (99, 16), **{f"layers.{k}.w": (24, 16) for k in range(7)}}
    axes = one(member("embed", 1), member("layers.0.w", 1), member("layers.1.w", 1))
    space = scaled(axes, tiny, full, lambda count: None).residual
    assert space.size == 16
    assert [m.tensor for m in space.members] == ["embed", *(f"layers.{k}.w" for k in range(7))]


def test_layers_that_differ_are_not_guessed():
    tiny = {"embed": (9, 4), **{f"layers.{k}.w": (4, 4) for k in range(2)}}
    full = {"embed": (9, 8), **{f"layers.{k}.w": (8, 8) for k in range(3)}}
    axes = one(member("embed", 1), member("layers.0.w", 1), member("layers.1.w", 0))
    found = scaled(axes, tiny, full, lambda count: None)
    assert found.spaces == ()
    assert found.unmapped == ("residual: layers differ in how layers.#.w carries it",)


def test_tensors_that_the_tiny_model_lacks_are_told():
    tiny = {"embed": (9, 4), "head": (9, 4)}
    full = {"embed": (9, 8), "head": (9, 8), "other": (8, 8)}
    axes = one(member("embed", 1), member("head", 1))
    assert scaled(axes, tiny, full, lambda count: None).unmapped == (
        "residual: the tiny model has no other",
    )


@pytest.mark.parametrize(
    ("tiny", "layout", "full", "expected"),
    [
        (12, (1, (0, 4, 8)), 30, (1, (0, 10, 20))),  # q, k and v of one coordinate each
        (8, (2, (0, 1)), 60, (6, tuple(range(6)))),  # heads
        (24, (2, (0, 1, 8, 9, 16, 17)), 90, (3, (0, 1, 2, 30, 31, 32, 60, 61, 62))),
    ],
)
def test_layouts_grow_with_their_axes(tiny, layout, full, expected):
    stride, offsets = layout
    axes = one(
        member("fused", 0, stride, offsets, (True,) * len(offsets)), member("whole"), name="heads"
    )
    found = scaled(axes, {"fused": (tiny,), "whole": (4,)}, {"fused": (full,), "whole": (10,)}, int)
    (space,) = found.spaces
    wide, places = expected
    assert space.members[0].offsets == places
    assert space.members[0].strides == (wide,) * len(places)
    assert len(space.members[0].odd) == len(places)


def test_entries_beside_others_are_not_guessed():
    axes = one(member("mixed", 0, 1, (4,)), member("whole"))
    found = scaled(axes, {"mixed": (12,), "whole": (4,)}, {"mixed": (30,), "whole": (10,)}, int)
    assert found.unmapped == ("residual: mixed holds it beside others",)


def test_parts_that_were_not_read_are_named_in_full():
    axes = Axes((), unread=("tower.0.w",))
    full = {f"tower.{k}.w": (3,) for k in range(3)}
    assert scaled(axes, {"tower.0.w": (3,)}, full, int).unread == tuple(full)
