"""The witness of the weights, and the null of its p-value by simulation."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from bmatch import SignedPermutation
from bmatch.verdict.witness import log10_p_of_strangers, log10_tail, witness_of


def test_best_of_its_row_with_its_sign():
    correlation = np.array([[0.1, -0.5, 0.2], [0.4, 0.3, 0.0], [0.3, 0.2, 0.1]], np.float32)
    found = witness_of(correlation, SignedPermutation([1, 0, 2], [-1, -1, 1]), "signed_permutation")
    assert found.best.tolist() == [True, False, False]
    assert found.share == pytest.approx(1 / 3)
    plain = witness_of(correlation, SignedPermutation([2, 0, 1]), "permutation")
    assert plain.best.tolist() == [True, True, False]


@pytest.mark.parametrize(("t", "d"), [(0.1, 8), (0.5, 32), (0.6, 64), (0.2, 576), (0.9, 256)])
def test_the_tail_is_a_bound_and_a_close_one(t, d):
    """Against the incomplete beta function of SciPy."""
    exact = scipy.stats.beta.logsf(t * t, 0.5, (d - 1) / 2) / np.log(10)
    bound = log10_tail(t, d)
    assert exact <= bound + 1e-9
    assert bound <= exact + 0.35
    assert log10_tail(0.0, d) == 0.0
    assert log10_tail(1.0, d) == -np.inf


@pytest.mark.parametrize("d", [16, 48])
def test_p_values_of_rotations_at_random_are_no_smaller_than_they_say(d):
    """The null: M H with H orthogonal at random, for an M whose rows differ greatly."""
    rng = np.random.default_rng(d)
    fixed = rng.lognormal(sigma=2, size=(d, 1)) * rng.normal(size=(d, d))
    p = [
        10 ** log10_p_of_strangers(fixed @ scipy.stats.ortho_group.rvs(d, random_state=rng))
        for _ in range(400)
    ]
    for level in (0.01, 0.05, 0.2):
        assert np.mean(np.array(p) <= level) <= level + 3 * (level / 400) ** 0.5
    kin = SignedPermutation.random(d, seed=0).matrix() + 0.05 * rng.normal(size=(d, d))
    assert log10_p_of_strangers(kin) < -8
