"""Gaps in the numbers of steps, of runs there and back."""

from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace

import pytest

from bmatch.trajectory.gaps import gaps


def hops(*steps):
    stops = [
        SimpleNamespace(step=step, name=f"{'a' if k < len(steps) // 2 else 'b'}/checkpoint-{step}")
        for k, step in enumerate(steps)
    ]
    return [
        SimpleNamespace(source=one, target=other, expected_recovered=0.5)
        for one, other in pairwise(stops)
    ]


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ((0, 50, 100, 150, 200), []),
        ((0, 50, 100, 200, 250), [((100, 200), 50)]),  # one is missing
        ((200, 100, 50, 0, 50, 100), []),  # at an end twice as many may be meant
        ((300, 100, 50, 0, 50, 100), [((100, 300), 50)]),
        ((1, 2, 4, 8, 16, 32, 512), [((32, 512), 16)]),
        ((1, 2, 5, 10, 20, 50, 100), []),
        ((100, 50, 9000, 50, 100), []),  # a base of another numbering: nothing lies beside its hops
        ((100, 300), []),
        ((0, 50, None, 400, 450, 500), []),
    ],
)
def test_gaps(steps, expected):
    assert [(gap.between, gap.usual) for gap in gaps(hops(*steps))] == expected


def test_a_gap_is_told_with_its_run_and_steps():
    (gap,) = gaps(hops(50, 0, 50, 100, 300))
    assert str(gap).startswith("b has no checkpoint between steps 100 and 300, and 50 steps lie")
    assert "(50.0% expected to be right)" in str(gap)
