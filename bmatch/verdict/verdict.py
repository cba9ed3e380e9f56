"""Related or not, and how many coordinates are right: the verdict on a match."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bmatch.matching import GaugeMatch, Verdict
from bmatch.verdict.calibration import probability
from bmatch.verdict.evidence import Evidence

RELATED = 0.5
"""The share of coordinates expected to be right from which on a gauge relates two models."""
STABLE = 0.5
"""The share of matches that stay when tokens are drawn anew, below which chance decides them."""
KIN_LOG10_P = -6.0
"""Below it weights show kin, whatever activations do."""


def judged(match: GaugeMatch, evidence: Evidence) -> GaugeMatch:
    """The match with the probability of each coordinate, the verdict, and both in the metadata.

    ``related`` where at least half of the coordinates are expected to be right. Of the others,
    ``too few tokens`` where weights show kin all the same, or, if they were not read, where most
    matches change when tokens are drawn anew; else ``not related``, as where weights were read and
    no rows of them come in one order.
    """
    chance = probability(evidence.features(), evidence.kind)
    expected = float(np.mean(chance)) if len(chance) else 0.0
    match.gauge.metadata.update(
        verdict=(verdict := _verdict(expected, evidence)),
        expected_recovered=f"{expected:.4f}",
    )
    if evidence.decoy is not None:
        match.gauge.metadata["decoys"] = f"{evidence.recovered_by_decoys:.4f}"
    if evidence.bootstrap is not None:
        match.gauge.metadata["bootstrap"] = f"{np.mean(evidence.bootstrap):.4f}"
    if evidence.witness is not None:
        match.gauge.metadata["witness"] = f"{evidence.witness.share:.4f}"
    return replace(match, probability=chance, verdict=verdict)


def _verdict(expected: float, evidence: Evidence) -> Verdict:
    if expected >= RELATED:
        return "related"
    if evidence.witness is not None:
        return "too few tokens" if evidence.witness.log10_p <= KIN_LOG10_P else "not related"
    if evidence.incomparable:
        return "not related"
    stays = 0.0 if evidence.bootstrap is None else float(np.mean(evidence.bootstrap))
    return "too few tokens" if stays < STABLE else "not related"


def sentence(match: GaugeMatch) -> str:
    """The verdict in words.

    Parameters
    ----------
    match : GaugeMatch
        That `judged` has returned.
    """
    assert match.probability is not None
    share = f"{match.expected_recovered:.0%} of the coordinates are expected to be right"
    if match.verdict == "related":
        sure = int(np.count_nonzero(match.probability >= 0.9))
        return f"related: {share}, {sure} of {match.gauge.dim} with a probability of 0.9 or more"
    if match.verdict == "not related":
        return f"not related: no gauge relates the two models ({share})"
    return (
        f"too few tokens: they do not tell the coordinates apart ({share}); give more text with "
        "--text and --tokens"
    )
