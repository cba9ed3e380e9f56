"""Claims carried between two runs: what the gauge loses, beside what the models differ in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from bmatch.audit.claims import Claim
from bmatch.audit.recipes import Recipe
from bmatch.audit.shares import Share
from bmatch.audit.sweep import ClaimOf
from bmatch.gauge import SignedPermutation


@dataclass(frozen=True)
class Fidelity:
    """How a claim about one run fares in another.

    Attributes
    ----------
    fidelity : Share or None
        Of the items, those that the gauge carries where the truth carries them; None if the truth
        is not known.
    native : Share
        Of the carried items, those that the other model's own claim has: by the truth if it is
        known, else by the gauge. Below 1 where the models differ, however good the gauge is.
    """

    fidelity: Share | None
    native: Share

    def __add__(self, other: Fidelity) -> Fidelity:
        """Several pairs of runs together: token subsets of one pair are no new runs."""
        both = (self.fidelity, other.fidelity)
        known = None if both[0] is None or both[1] is None else both[0] + both[1]
        return Fidelity(known, self.native + other.native)


def fidelity(
    claim: ClaimOf,
    source: Any,
    target: Any,
    gauge: SignedPermutation,
    truth: SignedPermutation | None = None,
    *,
    rtol: float = 1e-3,
) -> Fidelity:
    """Carry a claim about one model to another by a gauge that was estimated.

    Parameters
    ----------
    claim : Recipe, or callable
        As for `gauge_sweep`.
    source, target
        Two models whose streams have one width.
    gauge : SignedPermutation
        From source to target coordinates.
    truth : SignedPermutation, optional
        The gauge that is known to be right, as a planted one is.
    rtol : float
        By how much weights may differ, as a share of the largest.

    Returns
    -------
    Fidelity

    Raises
    ------
    ValueError
        If the two gauges act on different widths, the claim names coordinates beyond them, or it
        is of given scores, which are those of one model.
    """
    if isinstance(claim, Recipe) and claim.given:
        raise ValueError("given scores are those of one model: name a measure, to take it of both")
    if truth is not None and truth.dim != gauge.dim:
        raise ValueError(f"gauge and truth act on {gauge.dim} and {truth.dim} coordinates")
    here = Claim.of(claim(source))
    carried = here.carried(gauge, "signed")
    right = carried if truth is None else here.carried(truth, "signed")
    native = right.found_in(Claim.of(claim(target)), rtol)
    # Item by item, as they stand in the list.
    same = [one == other for one, other in zip(carried.items(), right.items(), strict=True)]
    return Fidelity(
        None if truth is None else Share(sum(same), len(same)),
        Share(int(np.sum(native)), len(native)),
    )
