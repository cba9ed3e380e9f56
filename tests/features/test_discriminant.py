"""Logistic regression against a minimum that SciPy finds."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize

from bmatch.features import discriminant as module
from bmatch.features.discriminant import discriminant


def loss_of(false, seen):
    """With the ridge, on standardised terms, each sample one half."""
    values = np.concatenate([false, seen])
    terms = (values - values.mean(axis=0)) / values.std(axis=0)
    sign = np.repeat([1.0, -1.0], [len(false), len(seen)])
    weight = np.repeat([0.5 / len(false), 0.5 / len(seen)], [len(false), len(seen)])

    def loss(found):
        score = found[0] + terms @ found[1:]
        return weight @ np.logaddexp(0, sign * score) + module._RIDGE / 2 * found[1:] @ found[1:]

    return loss, values.std(axis=0)


@pytest.mark.parametrize(("a", "b"), [(300, 500), (5, 40), (1, 1)])
def test_weights_are_those_of_the_least_loss(a, b):
    r = np.random.default_rng(a)
    false = r.normal(size=(a, 3)) * [1.0, 20.0, 0.01]
    seen = r.normal(size=(b, 3)) * [1.0, 20.0, 0.01] + [1.0, 10.0, 0.0]
    loss, scale = loss_of(false, seen)
    least = minimize(loss, np.zeros(4), method="BFGS", options={"gtol": 1e-10})
    np.testing.assert_allclose(discriminant(false, seen) * scale, least.x[1:], atol=1e-5)


def test_samples_that_nothing_joins_have_weights_too():
    found = discriminant(np.zeros((20, 2)), np.ones((30, 2)))
    assert np.all(np.isfinite(found))
    assert np.all(found > 0)


def test_a_term_that_is_the_same_everywhere_says_nothing():
    r = np.random.default_rng(0)
    false, seen = r.normal(size=(50, 2)), r.normal(size=(50, 2)) + 1
    false[:, 1] = seen[:, 1] = 0.7
    found = discriminant(false, seen)
    assert found[0] > 0
    assert abs(found[1]) < 1e-20
