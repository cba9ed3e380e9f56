"""All that is known of a match without the truth, as figures of each coordinate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from bmatch.arrays import as_array
from bmatch.matching import GaugeMatch
from bmatch.models.weight_evidence import WeightCorrelation
from bmatch.verdict.bootstrap import TokenBlocks, agreement
from bmatch.verdict.calibration import Kind
from bmatch.verdict.decoys import recovered, taken
from bmatch.verdict.witness import Witness, witness_of

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


class Streams(Protocol):
    """What `bmatch.streams.correlate_streams` returns."""

    @property
    def correlation(self) -> torch.Tensor:
        """Of target with source coordinates, float32 [D, D]."""

    @property
    def blocks(self) -> TokenBlocks:
        """Of its tokens."""

    @property
    def decoys(self) -> torch.Tensor:
        """Of target coordinates with decoys, float32 [D, D]."""


def gather(
    match: GaugeMatch,
    streams: Streams | None,
    weights: WeightCorrelation | None,
    asked: bool = False,
) -> Evidence:
    """Find out what can be known of a match.

    Parameters
    ----------
    match : GaugeMatch
        Of the correlation of streams, of weights, or of a mean of both.
    streams : StreamCorrelation or None
        None where no tokens were read.
    weights : WeightCorrelation or None
        If weights were read and are comparable.
    asked : bool
        Whether they were read.

    Raises
    ------
    ValueError
        If there are neither streams nor weights.
    """
    read = streams if streams is not None else weights
    if read is None:
        raise ValueError("a verdict needs the correlation of streams, or that of weights")
    gauge, group = match.gauge.to(None), match.group
    found = as_array(read.correlation)
    bootstrap = decoy = None
    if streams is not None:
        bootstrap = agreement(streams.blocks, gauge, group)
        decoy = taken(found, as_array(streams.decoys), group)
    return Evidence(
        match.margin,
        np.abs(found[np.arange(gauge.dim), gauge.perm]).astype(np.float64),
        bootstrap,
        decoy,
        None if weights is None else witness_of(as_array(weights.correlation), gauge, group),
        asked and weights is None,
    )
