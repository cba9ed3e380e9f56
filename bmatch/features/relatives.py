"""How far relatives get where the partner is missing: features whose partner is taken away.

The directions of a family lie close to each other, as those of a feature that a larger dictionary
splits do. A feature without a partner then meets the partners of its siblings, and may look
matched. How often, and how well, is seen at features that have one: some features are taken away
with their candidates, all others are matched anew, and what the bereaved are matched with is false,
and has been through the same competition.

Once source features are taken away, and once target features. The bereaved of the target stand for
all features of the target that have no partner; those of the source for what such features rob: a
target feature that is matched with one of them and not with its own partner, which is there.

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
    asked : int64 [r]
        The pairs of the optimum of which a feature was taken away.
    pair : int64 [s]
        Of these, the one that the bereaved had.
    robbed : int64 [s]
        The pair that the feature had which it got instead, -1 if none.
    evidence : float64 [s, 4]
        Of the new pair (see `Optimum.evidence`).
    """

    asked: npt.NDArray[np.int64]
    pair: npt.NDArray[np.int64]
    robbed: npt.NDArray[np.int64]
    evidence: npt.NDArray[np.float64]


def bereaved(
    near: Pairs,
    best: Optimum,
    shape: tuple[int, int],
    limit: float,
    of_target: bool = True,
    seed: int = 0,
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
    of_target : bool
        Whether the bereaved are the target's and the source's are taken away; else the reverse.
    seed : int
        Of parts.
    """
    count = len(best.target)
    pair_of_target, pair_of_source = (
        _numbers(side, size) for side, size in zip(best[:2], shape, strict=True)
    )
    order = np.random.Generator(np.random.PCG64(seed)).permutation(count)
    asked, pairs, robbed = [], [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    evidence = [np.empty((0, 4))]
    for part in np.array_split(order, min(_PARTS, count)) if count else []:
        asked.append(part)
        lost = np.zeros(count + 1, bool)  # the last for features without a pair
        lost[part] = True
        kept = ~lost[(pair_of_source[near.source] if of_target else pair_of_target[near.target])]
        left = Pairs(near.target[kept], near.source[kept], near.cosine[kept])
        without = optimum(left, shape, limit)
        own, other = pair_of_target[without.target], pair_of_source[without.source]
        if not of_target:
            own, other = other, own
        pairs.append(own[lost[own]])
        robbed.append(other[lost[own]])
        evidence.append(without.evidence()[lost[own]])
        if sum(map(len, asked)) >= _ENOUGH:
            break
    return Bereaved(
        np.concatenate(asked or [order]),
        np.concatenate(pairs),
        np.concatenate(robbed),
        np.concatenate(evidence),
    )


def _numbers(features: npt.NDArray[np.int64], size: int) -> npt.NDArray[np.int64]:
    """The pair of each feature of a side, [size]; -1 where it has none."""
    found = np.full(size, -1)
    found[features] = np.arange(len(features))
    return found


def false_by_kinship(
    best: Optimum, of_target: Bereaved, of_source: Bereaved, m: int
) -> npt.NDArray[np.float64]:
    """The chance of each pair to be no partners but relatives, or strangers, [k].

    A pair counts for the samples as long as it is rather partners than not: what a feature without
    a partner gets *after* its best is less than what such features get.

    Parameters
    ----------
    best : Optimum
    of_target, of_source : Bereaved
    m : int
        Features of the source.
    """
    count = len(best.target)
    theft = of_source.robbed >= 0
    pair, robbed = of_source.pair[theft], of_source.robbed[theft]
    false = np.concatenate([of_target.evidence, of_source.evidence[theft]])
    chance = np.zeros(count)
    if not len(false):
        return chance
    evidence = best.evidence()
    weights = discriminant(false, evidence)
    score, taken = evidence @ weights, of_target.evidence @ weights
    stolen = of_source.evidence[theft] @ weights
    order = np.argsort(-score, kind="stable")
    partners = np.ones(count, bool)
    for _ in range(_ROUNDS):
        expected = np.zeros(count)
        sample = taken[partners[of_target.pair]]
        if len(sample):
            low = float(np.median(sample))
            number = min((np.sum(score <= low) + 1) / float(np.mean(sample <= low)), count)
            expected += number * exceeding(sample, score[order])
        sample = stolen[partners[pair] & partners[robbed]]
        alone = m - float(np.sum(1.0 - chance))
        rate = len(sample) / max(int(partners[of_source.asked].sum()), 1)
        expected += alone * rate * exceeding(sample, score[order])
        chance[order] = local_shares(np.maximum.accumulate(expected))
        before, partners = partners, chance < 0.5
        if np.array_equal(before, partners) or not partners.any():
            break
    return chance
