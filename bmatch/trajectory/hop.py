"""A hop: the local gauge from one checkpoint to the next, and what is known of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bmatch.gauge import SignedPermutation
from bmatch.jobs.resume import Part
from bmatch.matching import GaugeMatch
from bmatch.trajectory.stops import Stop


@dataclass(frozen=True, eq=False)
class Hop:
    """The gauge between two checkpoints of a path.

    Attributes
    ----------
    source, target : Stop
    gauge : SignedPermutation
        From source to target coordinates; its metadata tell what was read and the verdict.
    margin : float64 [d]
        How much a target coordinate would lose by another partner.
    margin_exact : bool [d]
        Where that is no mere lower bound.
    probability : float64 [d]
        That partner and sign of a target coordinate are right (see `bmatch.verdict`).
    by_weights : SignedPermutation or None
        What weights alone say; None where they were not asked, no rows are the same, or they are
        all the evidence that there is.
    positive_fraction, mean_abs_off_diagonal : float
        As of `GaugeMatch`.
    """

    source: Stop
    target: Stop
    gauge: SignedPermutation
    margin: npt.NDArray[np.float64]
    margin_exact: npt.NDArray[np.bool_]
    probability: npt.NDArray[np.float64]
    by_weights: SignedPermutation | None
    positive_fraction: float
    mean_abs_off_diagonal: float

    @classmethod
    def of(cls, part: Part, source: Stop, target: Stop) -> Hop:
        """From what `part_of` made, perhaps in another process or on another day.

        Raises
        ------
        KeyError, ValueError
            If it is no such part.
        """
        tensors, header = part
        note = dict(header)
        figures = [float(note.pop(name)) for name in _FIGURES]
        note.update(
            source=source.name,
            target=target.name,
            source_sha256=source.digest,
            target_sha256=target.digest,
            model_type=source.axes.model_type,
        )
        weights = None
        if "weights_perm" in tensors:
            weights = SignedPermutation(tensors["weights_perm"], tensors["weights_sign"])
        return cls(
            source,
            target,
            SignedPermutation(tensors["perm"], tensors["sign"], note),
            tensors["margin"],
            tensors["margin_exact"],
            tensors["probability"],
            weights,
            *figures,
        )

    @property
    def verdict(self) -> str:
        """``related``, ``not related`` or ``too few tokens``."""
        return self.gauge.metadata["verdict"]

    @property
    def score(self) -> float:
        """Mean matched correlation, signs applied."""
        return float(self.gauge.metadata["score"])

    @property
    def expected_recovered(self) -> float:
        """The share of coordinates that are right, as `probability` has it."""
        return float(np.mean(self.probability))

    @property
    def changed(self) -> int:
        """Coordinates that went to another place or changed their sign."""
        gauge = self.gauge
        return int(np.count_nonzero((gauge.perm != np.arange(gauge.dim)) | (gauge.sign == -1)))

    @property
    def strength(self) -> tuple[float, float]:
        """By which hops are compared: what is expected to be right, then the median margin."""
        return self.expected_recovered, float(np.median(self.margin))

    def figures(self) -> dict[str, Any]:
        """What tables and headers tell of it."""
        told = {
            "source": self.source.name,
            "target": self.target.name,
            "steps": [self.source.step, self.target.step],
            "source_sha256": self.source.digest,
            "target_sha256": self.target.digest,
            "verdict": self.verdict,
            "expected_recovered": round(self.expected_recovered, 4),
            "score": self.score,
            "margin_least": round(float(self.margin.min(initial=np.inf)), 6),
            "margin_median": round(float(np.median(self.margin)), 6),
            "changed": self.changed,
            "mean_abs_off_diagonal": round(self.mean_abs_off_diagonal, 6),
        }
        if self.by_weights is not None:
            told["agrees_with_weights"] = round(self.gauge.agreement(self.by_weights), 4)
        return told


_FIGURES = ("positive_fraction", "mean_abs_off_diagonal")


def part_of(match: GaugeMatch, by_weights: SignedPermutation | None) -> Part:
    """What is kept of a match that was judged: arrays and a header, without names of checkpoints.

    Of the same two checkpoints, reads and options it is the same, bit for bit.
    """
    assert match.probability is not None
    gauge = match.gauge.to(None)
    tensors: dict[str, npt.NDArray[Any]] = {
        "perm": gauge.perm,
        "sign": gauge.sign,
        "margin": match.margin,
        "margin_exact": match.margin_exact,
        "probability": match.probability,
    }
    if by_weights is not None:
        tensors |= {"weights_perm": by_weights.perm, "weights_sign": by_weights.sign}
    figures = {name: repr(float(getattr(match, name))) for name in _FIGURES}
    return tensors, {**gauge.metadata, **figures}
