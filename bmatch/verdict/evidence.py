"""All that is known of a match without the truth, as figures of each coordinate."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bmatch.matching import GaugeMatch
from bmatch.verdict.bootstrap import TokenBlocks, agreement
from bmatch.verdict.calibration import Kind
from bmatch.verdict.decoys import recovered, taken
from bmatch.verdict.witness import Witness, testimony

LEAST_MARGIN = 1e-4
"""Margins below it are alike."""
LEAST_LOG10_P = -30.0
"""So are p-values below that."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """What was found out about a match.

    Attributes
    ----------
    margin, magnitude : float64 [D]
        Of `GaugeMatch`, and matched correlations without signs.
    bootstrap : float64 [D] or None
        How often a match stays when blocks of tokens are drawn anew; None of too few tokens.
    decoy : bool [D] or None
        Rows that take a decoy where they may; None where no tokens were read.
    witness : Witness or None
        None where no weights were read, or none are comparable.
    incomparable : bool
        Whether weights were read, and no rows of the two models come in one order.
    """

    margin: npt.NDArray[np.float64]
    magnitude: npt.NDArray[np.float64]
    bootstrap: npt.NDArray[np.float64] | None
    decoy: npt.NDArray[np.bool_] | None
    witness: Witness | None
    incomparable: bool = False

    @property
    def kind(self) -> Kind:
        """What was read."""
        if self.decoy is None:
            return "weights"
        return "activations" if self.witness is None else "activations and weights"

    @property
    def recovered_by_decoys(self) -> float:
        """The share of rows with a true partner, as decoys have it."""
        assert self.decoy is not None
        return recovered(float(np.mean(self.decoy)))

    def features(self) -> npt.NDArray[np.float64]:
        """One row a coordinate, float64 [D, k]: columns as `calibration.FEATURES` names them."""
        d = len(self.margin)
        columns = [np.log10(np.clip(self.margin, LEAST_MARGIN, 2.0)), self.magnitude]
        if self.decoy is not None:
            columns += [
                np.zeros(d) if self.bootstrap is None else self.bootstrap,
                np.full(d, self.recovered_by_decoys),
                self.decoy.astype(float),
            ]
        if self.witness is not None:
            columns += [
                self.witness.best.astype(float),
                np.full(d, self.witness.share),
                np.full(d, max(self.witness.log10_p, LEAST_LOG10_P) / LEAST_LOG10_P),
            ]
        return np.column_stack(columns)


def gather(
    match: GaugeMatch,
    correlation: npt.NDArray[np.float32] | None,
    blocks: TokenBlocks | None,
    decoys: npt.NDArray[np.float32] | None,
    weights: npt.NDArray[np.float32] | None,
    asked: bool = False,
) -> Evidence:
    """Find out what can be known of a match.

    Parameters
    ----------
    match : GaugeMatch
        Of the correlation of streams, of weights, or of a mean of both.
    correlation, decoys : float32 [D, D] or None
        Of target coordinates with those of the source, and with decoys, in the streams; None where
        no tokens were read.
    blocks : TokenBlocks or None
    weights : float32 [D, D] or None
        The correlation of weights, if they were read and are comparable.
    asked : bool
        Whether they were read.

    Raises
    ------
    ValueError
        If there is neither a correlation of streams nor one of weights.
    """
    matched = correlation if correlation is not None else weights
    if matched is None:
        raise ValueError("a verdict needs the correlation of streams, or that of weights")
    gauge = match.gauge.to(None)
    return Evidence(
        match.margin,
        np.abs(matched[np.arange(gauge.dim), gauge.perm]).astype(np.float64),
        None if blocks is None else agreement(blocks, gauge, match.group),
        None if correlation is None or decoys is None else taken(correlation, decoys, match.group),
        None if weights is None else testimony(weights, gauge, match.group),
        asked and weights is None,
    )
