"""Families of close features: what is taken for a partner, and what a missing one leaves."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import bmatch
from bmatch.features import relatives
from bmatch.features.optimum import optimum
from bmatch.features.pairs import Pairs
from bmatch.features.relatives import bereaved, false_by_kinship


def families(count, size, kin, both, only, *, k=64, noise=0.7, lone=(0, 0), seed=0, flip=False):
    """Each member is in both dictionaries, or in one of them: shares. Features of their own."""
    r = np.random.default_rng(seed)
    middle = r.normal(size=(count, 1, k))
    own = np.sqrt(kin) * middle + np.sqrt(1 - kin) * r.normal(size=(count, size, k))
    own = own.reshape(-1, k)
    where = r.choice(3, size=len(own), p=[both, *only])
    of_target = np.flatnonzero(where != 2)
    of_source = np.flatnonzero(where != 1)
    target = np.concatenate([own[of_target], r.normal(size=(lone[0], k))])
    noisy = own[of_source] + noise * r.normal(size=(len(of_source), k))
    if flip:
        noisy *= np.where(r.random(len(noisy)) < 0.5, -1, 1)[:, None]
    source = np.concatenate([noisy, r.normal(size=(lone[1], k))])
    row, col = r.permutation(len(target)), r.permutation(len(source))
    place = np.full(len(own), -1)
    place[of_source] = np.argsort(col)[: len(of_source)]
    truth = np.concatenate([place[of_target], np.full(lone[0], -1)])[row]
    return torch.tensor(target[row]).float(), torch.tensor(source[col]).float(), truth


def each_others_closest(target, source, flip=False):
    """From a cosine of 0.7 on: what people do by hand."""
    one, other = (torch.nn.functional.normalize(side, dim=1) for side in (target, source))
    cosine = (one @ other.T).abs() if flip else one @ other.T
    best = cosine.argmax(1)
    kept = (cosine.argmax(0)[best] == torch.arange(len(one))) & (cosine.amax(1) > 0.7)
    return torch.nonzero(kept).flatten().numpy(), best[kept].numpy()


def right_and_wrong(truth, row, col):
    right = int((truth[row] == col).sum())
    return right, len(row) - right


# Families, their size, cosine, shares in both and in either; what else is asked.
WHOLE = {
    "pairs": (500, 2, 0.8, 1.0, (0.0, 0.0), {}),
    "eights": (128, 8, 0.8, 1.0, (0.0, 0.0), {}),
    "sixteens": (64, 16, 0.8, 1.0, (0.0, 0.0), {}),
    "wide": (128, 8, 0.6, 1.0, (0.0, 0.0), {}),
    "close": (128, 8, 0.9, 1.0, (0.0, 0.0), {"k": 256}),
    "among strangers": (128, 8, 0.8, 1.0, (0.0, 0.0), {"lone": (900, 1400)}),
    "siblings in the source": (128, 8, 0.8, 0.5, (0.0, 0.5), {}),
    "siblings in the target": (128, 8, 0.8, 0.5, (0.5, 0.0), {}),
    "signed": (128, 8, 0.8, 1.0, (0.0, 0.0), {"lone": (500, 300), "flip": True}),
}


@pytest.mark.parametrize("case", WHOLE)
def test_partners_are_found_among_their_kin(case):
    *plan, more = WHOLE[case]
    flip = more.get("flip", False)
    target, source, truth = families(*plan, **more)
    found = bmatch.match_features(target, source, sign_marginalized=flip)
    right, wrong = right_and_wrong(truth, found.target_ind, found.source_ind)
    by_hand, _ = right_and_wrong(truth, *each_others_closest(target, source, flip))
    assert right >= 0.95 * (truth >= 0).sum()
    assert right >= by_hand
    asked = 0.01 * len(found.target_ind)
    assert wrong <= asked + 2 * np.sqrt(asked)  # of a count that varies


@pytest.mark.parametrize("size", [2, 4, 8])
def test_a_sibling_in_place_of_the_partner_is_seldom_taken(size):
    """Half of the features have a partner, and either dictionary has others of their families."""
    right = wrong = by_hand = wrong_by_hand = partners = 0
    for seed in range(3):
        target, source, truth = families(1600 // size, size, 0.8, 0.5, (0.25, 0.25), seed=seed)
        found = bmatch.match_features(target, source)
        counts = right_and_wrong(truth, found.target_ind, found.source_ind)
        right, wrong = right + counts[0], wrong + counts[1]
        counts = right_and_wrong(truth, *each_others_closest(target, source))
        by_hand, wrong_by_hand = by_hand + counts[0], wrong_by_hand + counts[1]
        partners += (truth >= 0).sum()
    assert right >= 0.8 * partners
    assert wrong <= 0.02 * (right + wrong)
    assert wrong <= wrong_by_hand / 2


def test_families_of_which_no_member_is_shared():
    kept = by_hand = 0
    for seed in range(3):
        target, source, truth = families(250, 8, 0.8, 0.0, (0.5, 0.5), seed=seed)
        assert np.all(truth < 0)
        kept += len(bmatch.match_features(target, source).target_ind)
        by_hand += len(each_others_closest(target, source)[0])
    assert by_hand > 600
    assert kept <= 0.25 * by_hand


def test_probabilities_are_shares():
    """Of all pairs of the optimum, in bins."""
    expected, right, count = (np.zeros(5) for _ in range(3))
    bins = [0.0, 0.2, 0.5, 0.8, 0.98, 1.01]
    for seed in range(4):
        for plan in ((400, 4, 0.8, 0.5, (0.25, 0.25)), (100, 16, 0.8, 0.6, (0.2, 0.2))):
            target, source, truth = families(*plan, seed=seed)
            limit = bmatch.match_features(target, source).limit
            found = bmatch.match_features(target, source, least=limit)
            at = np.digitize(found.probability, bins) - 1
            expected += np.bincount(at, found.probability, 5)
            right += np.bincount(at, truth[found.target_ind] == found.source_ind, 5)
            count += np.bincount(at, minlength=5)
    assert np.all(count > 100)
    np.testing.assert_allclose(expected / count, right / count, atol=0.12)
    assert expected[-1] / count[-1] == pytest.approx(right[-1] / count[-1], abs=0.005)


@pytest.mark.parametrize("of_target", [True, False])
def test_the_bereaved_get_what_is_best_without_their_partner(of_target):
    cosine = np.random.default_rng(3).uniform(0, 1, (7, 9))
    near = Pairs(*(np.nonzero(cosine > 0.1)), cosine[cosine > 0.1])
    best = optimum(near, cosine.shape, 0.1)
    assert len(best.target) == 7 <= relatives._PARTS  # each partner is taken away alone
    lost = bereaved(near, best, cosine.shape, 0.1, of_target)
    assert sorted(lost.asked) == list(range(7))
    assert len(set(lost.pair)) == len(lost.pair) == (7 if of_target else 2)
    for pair, robbed, evidence in zip(lost.pair, lost.robbed, lost.evidence, strict=True):
        row, col = best.target[pair], best.source[pair]
        without = cosine.copy()
        without[(slice(None), col) if of_target else row] = 0.0
        dense = bmatch.solve(without, maximize=True, cost_limit=0.1)
        if of_target:
            col = dense.col_of_row[row]
            had = np.flatnonzero(best.source == col)
        else:
            (row,) = np.flatnonzero(np.asarray(dense.col_of_row) == col)
            had = np.flatnonzero(best.target == row)
        assert evidence[0] == without[row, col]
        assert [robbed] == (had.tolist() or [-1])


def test_no_more_are_bereaved_than_say_enough(monkeypatch):
    cosine = np.random.default_rng(0).uniform(0, 1, (80, 90))
    near = Pairs(*(np.nonzero(cosine > 0.5)), cosine[cosine > 0.5])
    best = optimum(near, cosine.shape, 0.5)
    whole = bereaved(near, best, cosine.shape, 0.5)
    assert len(whole.pair) == len(set(whole.pair)) == 80
    monkeypatch.setattr(relatives, "_ENOUGH", 15)
    some = bereaved(near, best, cosine.shape, 0.5)
    assert len(some.pair) == 20  # two parts
    assert np.array_equal(whole.pair[:20], some.pair)


def test_kinship_is_no_matter_where_nothing_takes_a_partners_place():
    cosine = np.eye(5)
    near = Pairs(*(np.nonzero(cosine)), cosine[cosine > 0])
    best = optimum(near, cosine.shape, 0.1)
    sides = [bereaved(near, best, cosine.shape, 0.1, side) for side in (True, False)]
    assert not any(len(side.pair) for side in sides)
    assert not false_by_kinship(best, *sides, 5).any()
