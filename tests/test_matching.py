"""Gauges from correlation matrices: planted truths, ceilings, margins, degenerate channels."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import bmatch
from bmatch import SignedPermutation

GROUPS = ["signed_permutation", "permutation", "permutation_global_sign"]


def planted(d, tokens, noise, group="signed_permutation", seed=0):
    """A secret gauge, and C of a stream and its noisy image under the gauge."""
    r = np.random.default_rng(seed)
    truth = SignedPermutation.random(d, group, seed=r)
    x = r.standard_normal((tokens, d))
    y = truth.apply(x) + noise * r.standard_normal((tokens, d))
    return truth, np.corrcoef(y.T, x.T)[:d, d:].astype(np.float32)


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("d", [1, 2, 64, 300])
def test_planted_gauge_is_recovered(group, d):
    truth, c = planted(d, 40 + 4 * d, 0.3, group, seed=d)
    r = bmatch.match(c, group)
    assert r.gauge == truth
    assert r.group == group
    assert r.score == pytest.approx(np.mean(truth.sign * c[np.arange(d), truth.perm]), abs=1e-6)
    assert np.all(r.margin > 0)
    assert len(r.tied) == len(r.no_signal) == 0
    assert r.assignment.gap <= 1e-10


def test_raw_matching_cannot_pass_the_positive_fraction():
    truth, c = planted(256, 2000, 0.3)
    signed = bmatch.match(c)
    raw = bmatch.match(c, "permutation")
    ceiling = np.mean(truth.sign == 1)
    assert signed.gauge == truth
    assert signed.positive_fraction == ceiling
    assert raw.gauge.agreement(truth) == pytest.approx(ceiling, abs=0.02)
    assert raw.gauge.agreement(truth) <= ceiling


@given(
    st.integers(1, 5).flatmap(
        lambda d: hnp.arrays(np.float64, (d, d), elements=st.floats(-1, 1, width=16))
    ),
    st.sampled_from(GROUPS),
)
@settings(max_examples=150, deadline=None)
def test_objective_equals_brute_force_over_the_group(c, group):
    d = len(c)
    r = bmatch.match(c, group)
    signs = {
        "signed_permutation": list(itertools.product([-1, 1], repeat=d)),
        "permutation": [(1,) * d],
        "permutation_global_sign": [(1,) * d, (-1,) * d],
    }[group]
    totals = {
        (p, s): sum(s[i] * c[i, p[i]] for i in range(d))
        for p in itertools.permutations(range(d))
        for s in signs
    }
    assert r.score * d == pytest.approx(max(totals.values()), abs=1e-9)
    # The margin of a row: the best that remains when its matched column is forbidden.
    allowed = signs if group == "signed_permutation" else [(int(r.gauge.sign[0]),) * d]
    for i in range(d):
        rest = [t for (p, s), t in totals.items() if p[i] != r.gauge.perm[i] and s in allowed]
        loss = r.score * d - max(rest, default=-np.inf)
        assert r.margin[i] == pytest.approx(loss, abs=1e-9)


def test_ties_and_silent_coordinates_are_reported():
    _, c = planted(40, 2000, 0.2, seed=2)
    r = bmatch.match(c)
    twin = c.copy()
    columns = r.gauge.perm[[3, 17]]
    twin[:, columns] = twin[:, columns[:1]]  # two source coordinates that are one and the same
    assert bmatch.match(twin).tied.tolist() == [3, 17]

    dead = c.copy()
    dead[5] = 0  # a constant target coordinate
    dead[:, r.gauge.perm[9]] = 0  # a constant source coordinate
    found = bmatch.match(dead)
    assert 5 in found.no_signal
    assert np.flatnonzero(found.gauge.perm == r.gauge.perm[9])[0] in found.no_signal
    assert len(found.no_signal) == 2 or found.gauge.perm[5] == r.gauge.perm[9]
    assert not bmatch.match(np.zeros((4, 4))).gauge.sign.tolist().count(-1)
    assert len(bmatch.match(np.zeros((4, 4))).no_signal) == 4


def test_a_weak_coordinate_has_the_smallest_margin():
    truth, c = planted(60, 3000, 0.2, seed=4)
    c[8] *= 0.05
    r = bmatch.match(c)
    assert r.gauge == truth
    assert int(np.argmin(r.margin)) == 8


def test_off_diagonal_correlation_is_what_numpy_says():
    _, c = planted(30, 500, 0.3)
    r = bmatch.match(c)
    rest = np.ones_like(c, dtype=bool)
    rest[np.arange(30), r.gauge.perm] = False
    assert r.mean_abs_off_diagonal == pytest.approx(np.abs(c[rest]).mean(), rel=1e-6)


def test_tensor_in_tensor_gauge_out():
    truth, c = planted(20, 400, 0.2)
    r = bmatch.match(torch.from_numpy(c))
    assert isinstance(r.gauge.perm, torch.Tensor)
    assert r.gauge == truth


@pytest.mark.parametrize(
    ("c", "group", "message"),
    [
        (np.zeros((3, 4)), "signed_permutation", r"square correlation matrix, got shape \(3, 4\)"),
        (np.full((2, 2), np.nan), "signed_permutation", "must be finite, got nan for target coord"),
        (np.array([[1, np.inf], [0, 1]]), "permutation", "got inf for target coordinate 0"),
        (np.eye(2), "sign", "group must be one of signed_permutation, permutation, permutation_gl"),
    ],
)
def test_bad_input(c, group, message):
    with pytest.raises(ValueError, match=message):
        bmatch.match(c, group)
