"""All that is known of a match without the truth, as figures of each coordinate."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bmatch.matching import GaugeMatch
from bmatch.verdict.bootstrap import TokenBlocks, agreement
from bmatch.verdict.decoys import recovered, taken
from bmatch.verdict.witness import Witness, testimony

LEAST_MARGIN = 1e-4
"""Margins below it are alike."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """What was found out about a match.

    Attributes
    ----------
    margin, magnitude : float64 [D]
        Of `GaugeMatch`, and matched correlations without signs.
    bootstrap : float64 [D] or None
        How often a match stays when blocks of tokens are drawn anew; None of too few tokens.
    decoy : bool [D]
        Rows that take a decoy where they may.
    witness : Witness or None
        None where no weights were read.
    """

    margin: npt.NDArray[np.float64]
    magnitude: npt.NDArray[np.float64]
    bootstrap: npt.NDArray[np.float64] | None
    decoy: npt.NDArray[np.bool_]
    witness: Witness | None

    @property
    def recovered_by_decoys(self) -> float:
        """The share of rows with a true partner, as decoys have it."""
        return recovered(float(np.mean(self.decoy)))

    def features(self) -> npt.NDArray[np.float64]:
        """One row a coordinate, in the order of `calibration.FEATURES`: float64 [D, 7] or [D, 5]."""
        d = len(self.margin)
        columns = [
            np.log10(np.clip(self.margin, LEAST_MARGIN, 2.0)),
            self.magnitude,
            np.zeros(d) if self.bootstrap is None else self.bootstrap,
            np.full(d, self.recovered_by_decoys),
            self.decoy.astype(float),
        ]
        if self.witness is not None:
            columns += [self.witness.best.astype(float), np.full(d, self.witness.share)]
        return np.column_stack(columns)


def gather(
    match: GaugeMatch,
    correlation: npt.NDArray[np.float32],
    blocks: TokenBlocks,
    decoys: npt.NDArray[np.float32],
    weights: npt.NDArray[np.float32] | None,
) -> Evidence:
    """Find out what can be known of a match.

    Parameters
    ----------
    match : GaugeMatch
        Of `correlation`.
    correlation, decoys : float32 [D, D]
        Of target coordinates with those of the source, and with decoys.
    blocks : TokenBlocks
    weights : float32 [D, D] or None
        The correlation of weights, if they were read.
    """
    gauge = match.gauge.to(None)
    return Evidence(
        match.margin,
        np.abs(correlation[np.arange(gauge.dim), gauge.perm]).astype(np.float64),
        agreement(blocks, gauge, match.group),
        taken(correlation, decoys, match.group),
        None if weights is None else testimony(weights, gauge, match.group),
    )
