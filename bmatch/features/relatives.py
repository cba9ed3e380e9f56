"""How far relatives get where the partner is missing: features whose partner is taken away.

The directions of a family lie close to each other, as those of a feature that a larger dictionary
splits do. A feature without a partner then meets the partners of its siblings, and may look
matched. How often, and how well, is seen at features that have one: some source features are taken
away with their candidates, all others are matched anew, and what the bereaved are matched with is
false, has been through the same competition, and is as many as there are features.

Taken away is the competitor that decoys are made for in target-decoy competition (see
`bmatch.features.strangers`) and knockoffs: R. F. Barber, E. J. Candes, "Controlling the false
discovery rate via knockoffs", Annals of Statistics 43 (2015). That the lead over the next says more
than closeness is the ratio test of D. G. Lowe, "Distinctive image features from scale-invariant
keypoints", International Journal of Computer Vision 60 (2004). How many of the pairs are false is
told from the low end, where partners are few: J. D. Storey, "A direct approach to false discovery
rates", Journal of the Royal Statistical Society B 64 (2002).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from bmatch.features.discriminant import discriminant
from bmatch.features.optimum import Optimum, optimum
from bmatch.features.pairs import Pairs
from bmatch.features.strangers import exceeding, local_shares

_PARTS = 8  # of the pairs, one of which is taken away at a time
_ENOUGH = 4096  # features whose partner was taken away
_ROUNDS = 8  # in which pairs that are hardly partners leave the sample


class Bereaved(NamedTuple):
    """Pairs that features made whose partner was taken away.

    Attributes
    ----------
    pair : int64 [s]
        Which pair of the optimum the feature had.
    evidence : float64 [s, 4]
        Of what it got instead (see `Optimum.evidence`).
    """

    pair: npt.NDArray[np.int64]
    evidence: npt.NDArray[np.float64]


def bereaved(
    near: Pairs, best: Optimum, shape: tuple[int, int], limit: float, seed: int = 0
) -> Bereaved:
    """Take partners away, a part of them at a time, until enough features are seen.

    Parameters
    ----------
    near : Pairs
        All candidates.
    best : Optimum
        Of these.
    shape : (n, m)
    limit : float
    seed : int
        Of parts.
    """
    count = len(best.target)
    pair_of_target = np.full(shape[0], -1)
    pair_of_target[best.target] = np.arange(count)
    order = np.random.Generator(np.random.PCG64(seed)).permutation(count)
    pairs, evidence = [np.empty(0, np.int64)], [np.empty((0, 4))]
    asked = 0
    for part in np.array_split(order, min(_PARTS, count)) if count else []:
        gone = np.zeros(shape[1], bool)
        gone[best.source[part]] = True
        lost = np.zeros(count + 1, bool)  # the last for features without a pair
        lost[part] = True
        kept = ~gone[near.source]
        without = optimum(Pairs(*(column[kept] for column in near)), shape, limit)
        pair = pair_of_target[without.target]
        of_lost = lost[pair]
        pairs.append(pair[of_lost])
        evidence.append(without.evidence()[of_lost])
        asked += len(part)
        if asked >= _ENOUGH:
            break
    return Bereaved(np.concatenate(pairs), np.concatenate(evidence))


def false_by_kinship(best: Optimum, lost: Bereaved) -> npt.NDArray[np.float64]:
    """The chance of each pair to be no partners but relatives, or strangers, [k].

    A pair counts for the sample as long as it is rather partners than not: what a feature without
    a partner gets *after* its best is less than what such features get.
    """
    count = len(best.target)
    if not len(lost.pair):
        return np.zeros(count)
    evidence = best.evidence()
    weights = discriminant(lost.evidence, evidence)
    score, false_score = evidence @ weights, lost.evidence @ weights
    order = np.argsort(-score, kind="stable")
    chance = np.zeros(count)
    partners = np.ones(count, bool)
    for _ in range(_ROUNDS):
        told = partners[lost.pair]
        sample = false_score[told] if told.any() else false_score
        low = float(np.median(sample))
        false = min((np.sum(score <= low) + 1) / float(np.mean(sample <= low)), count)
        expected = np.maximum.accumulate(false * exceeding(sample, score[order]))
        chance[order] = local_shares(expected)
        before, partners = partners, chance < 0.5
        if np.array_equal(before, partners):
            break
    return chance
