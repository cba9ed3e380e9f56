"""The check on what was written: moments that did something else than their weights are found."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from bmatch import SignedPermutation
from bmatch.transport.moved import require_moved

GAUGE = SignedPermutation.random(6, seed=2)
BARE = SignedPermutation(GAUGE.perm)


def check(weight, carried, moments, after):
    paths = {"w": {slot: slot for slot in moments}}
    weights = {"w": weight}.get, {"w": carried}.get
    require_moved(Path("run"), weights, (moments.get, after.get), paths, GAUGE)


def planted(shape, axis):
    generator = torch.Generator().manual_seed(0)
    weight, first, second = torch.randn((3, *shape), generator=generator)
    moments = {"exp_avg": first, "exp_avg_sq": second**2}
    after = {"exp_avg": GAUGE.apply(first, axis), "exp_avg_sq": BARE.apply(second**2, axis)}
    return weight, GAUGE.apply(weight, axis), moments, after


@pytest.mark.parametrize(("shape", "axis"), [((4, 6), 1), ((6, 4), 0), ((6, 6), 0), ((6,), 0)])
def test_what_moved_together_is_accepted_and_nothing_else(shape, axis):
    weight, carried, moments, after = planted(shape, axis)
    check(weight, carried, moments, after)
    wrong = {
        "exp_avg": [moments["exp_avg"], BARE.apply(moments["exp_avg"], axis), carried],
        "exp_avg_sq": [moments["exp_avg_sq"], GAUGE.apply(moments["exp_avg_sq"], axis)],
    }
    for slot, others in wrong.items():
        for other in others:
            with pytest.raises(ValueError, match="of w did not move as the weight did"):
                check(weight, carried, moments, {**after, slot: other})


def test_the_other_axis_of_a_square_is_found():
    weight, carried, moments, _ = planted((6, 6), 0)
    *_, after = planted((6, 6), 1)
    with pytest.raises(ValueError, match="did not move"):
        check(weight, carried, moments, after)


def test_gains_have_no_signs_and_what_all_ways_fit_may_move_in_any():
    weight, _, moments, after = planted((6,), 0)
    bare = {**after, "exp_avg": BARE.apply(moments["exp_avg"])}
    check(weight, BARE.apply(weight), moments, bare)
    with pytest.raises(ValueError, match="did not move"):
        check(weight, BARE.apply(weight), moments, after)
    check(torch.ones(6), torch.ones(6), moments, bare)
    check(torch.zeros(6), torch.zeros(6), moments, after)


def test_what_is_no_number_is_where_it_was():
    weight, carried, moments, after = planted((4, 6), 1)
    moments["exp_avg"][1] = after["exp_avg"][1] = float("nan")
    check(weight, carried, moments, after)
    require_moved(Path("run"), ({}.get, {}.get), ({}.get, {}.get), {"w": {}}, GAUGE)


def test_factors_move_with_the_axis_that_they_have():
    weight, carried, _, _ = planted((4, 6), 1)
    rows, columns = torch.rand(4), torch.rand(6)
    moments = {"exp_avg_sq_row": rows, "exp_avg_sq_col": columns}
    check(weight, carried, moments, {**moments, "exp_avg_sq_col": BARE.apply(columns)})
    with pytest.raises(ValueError, match="did not move"):
        check(weight, carried, moments, moments)
