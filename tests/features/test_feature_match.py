"""Matched dictionaries: planted partners, strangers, and the optimum of dense matching."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import bmatch
from bmatch import features


def planted(n, m, k, shared, noise, seed=0, flip=False):
    """Directions of which some are the other's with noise, and the source of each target."""
    r = np.random.default_rng(seed)
    target, source = (r.normal(size=(size, k)) / np.sqrt(k) for size in (n, m))
    a, b = r.permutation(n)[:shared], r.permutation(m)[:shared]
    sign = np.where(r.random(shared) < 0.5, -1, 1) if flip else np.ones(shared, int)
    target[a] = sign[:, None] * source[b] + noise * r.normal(size=(shared, k)) / np.sqrt(k)
    truth, signs = np.full(n, -1), np.ones(n, int)
    truth[a], signs[a] = b, sign
    return target, source, truth, signs


@pytest.mark.parametrize(
    ("sizes", "noise"),
    [
        ((1000, 1400, 64, 500), 0.5),
        ((700, 300, 64, 300), 0.5),
        ((300, 300, 64, 300), 0.5),
        ((3000, 3000, 64, 6), 0.3),  # a handful among strangers
        ((5, 4, 32, 3), 0.3),
        ((1, 1, 32, 1), 0.2),
    ],
)
def test_planted_partners_are_found_and_strangers_stay_out(sizes, noise):
    target, source, truth, _ = planted(*sizes, noise)
    found = bmatch.match_features(target, source)
    of_target = found.source_of_target
    right = (of_target == truth) & (truth >= 0)
    assert right.sum() >= 0.98 * sizes[3]
    wrong = len(found.target_ind) - right.sum()
    assert wrong <= max(0.02 * sizes[3], 1 if sizes[3] > 100 else 0)
    assert found.probability.mean() == pytest.approx(1.0, abs=0.05)
    inverse = found.target_of_source
    assert np.array_equal(inverse[found.source_ind], found.target_ind)
    assert (inverse >= 0).sum() == len(found.target_ind)


@pytest.mark.parametrize("sizes", [(2000, 2000, 64), (100, 900, 16), (10, 10, 64), (900, 50, 8)])
def test_strangers_alone(sizes):
    for seed in range(3):
        target, source, _, _ = planted(*sizes, 0, 0.0, seed)
        assert len(bmatch.match_features(target, source, seed=seed).target_ind) <= 1


def test_negatives_are_partners_where_signs_are_free():
    target, source, truth, signs = planted(600, 800, 64, 400, 0.4, flip=True)
    found = bmatch.match_features(target, source, sign_marginalized=True)
    of_target = found.source_of_target
    assert (of_target == truth)[truth >= 0].mean() > 0.98
    np.testing.assert_array_equal(found.sign, signs[found.target_ind])
    assert found.cosine.min() > 0
    plain = bmatch.match_features(target, source)
    assert np.all(plain.sign == 1)
    assert len(plain.target_ind) < 0.7 * len(found.target_ind)


def test_probabilities_tell_how_many_are_right():
    """Where noise hides a part of the partners; all pairs of the optimum are asked."""
    right, expected = [], []
    for seed in range(5):
        target, source, truth, _ = planted(1500, 1500, 48, 1000, 1.1, seed)
        few = bmatch.match_features(target, source)
        found = bmatch.match_features(target, source, least=few.limit)
        right.append(np.mean(found.source_of_target[found.target_ind] == truth[found.target_ind]))
        expected.append(found.probability.mean())
        wrong = np.mean(few.source_of_target[few.target_ind] != truth[few.target_ind])
        assert wrong <= 0.03
    assert np.mean(expected) == pytest.approx(np.mean(right), abs=0.08)


@settings(max_examples=60)
@given(
    st.integers(1, 30), st.integers(1, 30), st.integers(2, 8), st.booleans(), st.integers(0, 2**31)
)
def test_the_optimum_is_that_of_the_dense_matrix(n, m, k, magnitudes, seed):
    r = np.random.default_rng(seed)
    target, source = r.normal(size=(n, k)), r.normal(size=(m, k))
    least = 0.4
    found = bmatch.match_features(target, source, least=least, sign_marginalized=magnitudes)
    cosine = bmatch.Factors(target, source, "abs_cosine" if magnitudes else "cosine").dense()
    if not (cosine > least).any():
        assert not len(found.target_ind)
        return
    dense = bmatch.solve(cosine, maximize=True, cost_limit=least)
    worth = (found.cosine - least).sum()
    assert worth == pytest.approx((cosine[dense.row_ind, dense.col_ind] - least).sum(), abs=1e-9)
    # Margins, each by solving without its pair.
    for row, col, margin in zip(found.target_ind, found.source_ind, found.margin, strict=True):
        without = cosine.copy()
        without[row, col] = -1.0
        other = worth_of(without, least)
        assert -1e-9 <= margin <= worth - other + 1e-9


def worth_of(cosine, least):
    if not (cosine > least).any():
        return 0.0
    found = bmatch.solve(cosine, maximize=True, cost_limit=least)
    return (cosine[found.row_ind, found.col_ind] - least).sum()


def test_what_was_known_of_features_is_carried():
    target, source, truth, _ = planted(50, 60, 64, 40, 0.2)
    found = bmatch.match_features(target, source)
    names = [f"feature {number}" for number in range(60)]
    carried = found.carried(names)
    assert carried == {t: names[s] for t, s in enumerate(truth) if s >= 0}
    assert list(carried) == sorted(carried)
    some = int(truth[truth >= 0][0])
    assert list(found.carried({some: "a"}).values()) == ["a"]
    with pytest.raises(IndexError, match="feature 60 has a label, and the source has 60"):
        found.carried({60: "beyond"})


def test_tables_are_read_again(tmp_path):
    target, source, _, _ = planted(50, 60, 64, 40, 0.2)
    found = bmatch.match_features(target, source)
    found.save(tmp_path / "pairs.csv")
    with (tmp_path / "pairs.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for name, column in found.table().items():
        assert [type(column[0].item())(row[name]) for row in rows] == column.tolist()
    with pytest.raises(ValueError, match=r"must be named \.csv or \.parquet, got .*pairs\.txt"):
        found.save(tmp_path / "pairs.txt")


def test_tables_in_parquet(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    found = bmatch.match_features(*planted(50, 60, 64, 40, 0.2)[:2])
    found.save(tmp_path / "pairs.parquet")
    read = parquet.read_table(tmp_path / "pairs.parquet")
    for name, column in found.table().items():
        np.testing.assert_array_equal(read[name].to_numpy(), column)


def test_nothing_to_match():
    for shape in ((0, 5), (5, 0), (0, 0)):
        found = bmatch.match_features(np.ones((shape[0], 3)), np.ones((shape[1], 3)))
        assert found.shape == shape
        assert len(found.target_ind) == 0
    dead = bmatch.match_features(np.zeros((4, 3)), np.zeros((5, 3)))
    assert len(dead.target_ind) == 0
    found = bmatch.match_features(torch.eye(4), -torch.eye(4), least=0.5)
    assert len(found.target_ind) == 0


@pytest.mark.parametrize(
    ("shapes", "options", "told"),
    [
        (((3, 4), (3, 5)), {}, "as many columns"),
        (((3, 4), (3, 4)), {"least": 1.5}, "least must be from 0 to 1, got 1.5"),
        (((3, 4), (3, 4)), {"false_share": -0.1}, "false_share must be from 0 to 1"),
    ],
)
def test_what_cannot_be_matched(shapes, options, told):
    with pytest.raises(ValueError, match=told):
        features.match_features(*(np.ones(shape) for shape in shapes), **options)
