"""The answer to the lineage question: what is B to A?

Two tests ask the weights, each with its null hypothesis: whether hidden units are numbered alike
(`numbering`), and whether coordinates of the stream correlate more than rotated ones would
(`bmatch.verdict.witness`). The first sees through any rotation of the stream, the second through
any numbering of hidden units. Twice the smaller p-value is that of both. A copy that was rotated
and renumbered passes both; but embeddings, whose rows are tokens, are rotated as a whole, and where
a rotation takes them to the target's up to rounding, no test is needed.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np

from bmatch.architecture.deriving import derivation
from bmatch.architecture.spaces import Axes
from bmatch.gauge import SignedPermutation
from bmatch.groups import smaller
from bmatch.jobs.progress import Progress, silent
from bmatch.lineage.difference import Difference, difference
from bmatch.lineage.numbering import Coins, numbering
from bmatch.lineage.rotation import residual_of_rotation
from bmatch.matching import match
from bmatch.models.activations import require_same_width
from bmatch.models.checkpoint import Checkpoint, open_checkpoint
from bmatch.models.weight_evidence import Weights, weights_if_comparable
from bmatch.verdict.witness import Witness, witness_of

Answer: TypeAlias = Literal[
    "identical", "in another gauge", "renumbered", "noised", "trained", "rotated", "kin", "stranger"
]
LOG10_P = -6.0
"""Above it, nothing is claimed: at most one stranger in a million is called kin."""
UNLIKE = 1.2
"""Two matrices of one size that have nothing in common differ by 1.4 times their norm."""
ROTATED = 0.5
"""What a rotation may leave of the embeddings of a rotated copy, relative to their norm."""
ROUNDING = 0.01
"""What rounding to 8 bits or more may leave of them. A rotation has a quarter as many parameters as
embeddings of twice as many rows as columns have entries, at most, so it cannot bring strangers'
together."""


@dataclass(frozen=True, eq=False)
class Lineage:
    """What B is to A.

    Attributes
    ----------
    answer : str
        ``identical``; ``in another gauge``: equal bit for bit after it was carried; ``renumbered``:
        some tensors are, others have their hidden units in another order; ``noised``; ``trained``;
        ``rotated``; ``kin``: from one origin, the way unknown; or ``stranger``.
    log10_p : float
        Decimal logarithm of the p-value of "strangers".
    coins : Coins or None
        Of the numbering of hidden units; None where the architecture's spaces are not known.
    witness : Witness or None
        Of the coordinates; None where no rows of the two are the same.
    gauge : SignedPermutation or None
        From A to B, where the test of the coordinates rejects strangers.
    difference : Difference or None
        What the gauge leaves.
    rotation : float or None
        What the best rotation leaves of the embeddings, relative to their norm.
    """

    answer: Answer
    log10_p: float
    coins: Coins | None
    witness: Witness | None
    gauge: SignedPermutation | None
    difference: Difference | None
    rotation: float | None


def related_checkpoints(
    a: str | os.PathLike[str], b: str | os.PathLike[str], progress: Progress = silent
) -> Lineage:
    """Ask two checkpoint folders whether B comes from A: what ``bmatch related`` does.

    Parameters
    ----------
    a, b : path
        Folders in the format of transformers, with safetensors weights. No model is made, no token
        is read.
    progress : callable, optional
        How to show how far it has come.

    Raises
    ------
    FileNotFoundError, ValueError
        If a checkpoint is incomplete, damaged or holds NaN, or the widths differ.
    """
    source, target = open_checkpoint(a), open_checkpoint(b)
    return lineage(target, source, _spaces(source), progress)


def lineage(target: Any, source: Any, spaces: Axes | None, progress: Progress = silent) -> Lineage:
    """Ask two models, or checkpoints, whether the target comes from the source.

    Parameters
    ----------
    target, source
        As for `bmatch.models.weight_evidence.correlate_weights`.
    spaces : Axes or None
        Gauge spaces of the architecture; without them hidden units are not asked.
    progress : callable, optional
        How to show how far it has come.

    Raises
    ------
    ValueError
        If the widths differ, or a weight is not finite.
    """
    ours, theirs = Weights.of(target), Weights.of(source)
    require_same_width(ours.axes, theirs.axes)
    coins = None if spaces is None else numbering(ours, theirs, spaces)
    witness, gauge = _coordinates(target, source, ours, theirs, progress)
    p = [test.log10_p for test in (coins, witness) if test is not None]
    log10_p = min(0.0, min(p) + np.log10(len(p))) if p else 0.0
    rotation = residual_of_rotation(ours, theirs)
    remains = None if gauge is None else difference(ours, theirs, gauge, progress)
    answer = _answer(log10_p, gauge, remains, rotation)
    return Lineage(answer, float(log10_p), coins, witness, gauge, remains, rotation)


def _spaces(checkpoint: Checkpoint) -> Axes | None:
    """Of the config's own architecture; None where none can be derived."""
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(
            checkpoint.folder, local_files_only=True, trust_remote_code=False
        )
        return derivation(config).axes
    except Exception:  # each class of transformers has checks, and errors, of its own
        return None


def _coordinates(
    target: Any, source: Any, ours: Weights, theirs: Weights, progress: Progress
) -> tuple[Witness | None, SignedPermutation | None]:
    """The test of the coordinates, and the gauge, if it is to be believed."""
    read = weights_if_comparable(target, source, progress)
    if read is None:
        return None, None
    found = read.correlation
    group = smaller(ours.axes.group, theirs.axes.group)
    gauge = match(found, group).gauge.to(None)
    witness = witness_of(found.numpy(), gauge, group)
    return witness, gauge if witness.log10_p <= LOG10_P else None


def _answer(
    log10_p: float,
    gauge: SignedPermutation | None,
    remains: Difference | None,
    rotation: float | None,
) -> Answer:
    if remains is not None and gauge is not None and remains.exact:
        return "identical" if gauge == SignedPermutation.identity(gauge.dim) else "in another gauge"
    if rotation is not None and rotation <= ROUNDING and remains is None:
        return "rotated"
    if log10_p > LOG10_P:
        return "stranger"
    if remains is None:
        return "rotated" if rotation is not None and rotation <= ROTATED else "kin"
    if remains.equal_matrices and remains.apart > UNLIKE:
        return "renumbered"
    return "noised" if remains.white else "trained"


def sentence(found: Lineage) -> str:
    """The answer in words."""
    chance = (
        "strangers are never so alike by chance"
        if found.log10_p < -300
        else f"the chance that strangers are so alike is at most 1e{found.log10_p:.0f}"
    )
    d = found.difference
    words = {
        "identical": "B is A: all tensors are equal bit for bit",
        "in another gauge": "B is A in another gauge: carried there, A equals it bit for bit",
        "renumbered": "B is A in another gauge, with hidden units numbered anew",
        "noised": "B is A with noise on its weights",
        "trained": "B is A trained further, or trained from the same origin",
        "rotated": "B is A in a rotated basis: no gauge of its norms leads there",
        "kin": "B and A have one origin, but no gauge and no rotation leads from one to the other",
        "stranger": "B is a stranger to A, as far as weights tell",
    }
    text = words[found.answer]
    if found.answer in ("noised", "trained", "renumbered") and d is not None:
        text += f" ({d.equal} of {d.tensors} tensors are equal bit for bit; the others' matrices "
        text += f"differ by {d.apart:.1%} of their norm)"
    if found.answer == "rotated":
        text += f" (what the rotation leaves of the embeddings: {found.rotation:.1%})"
        if found.log10_p > LOG10_P:
            return text  # which rounding explains, and no chance
    if found.answer == "stranger":
        return f"{text}: p = {min(1.0, 10**found.log10_p):.2g}"
    return text if found.answer in ("identical", "in another gauge") else f"{text}; {chance}"
