"""What remains between two checkpoints when one has been carried into the coordinates of the other.

Nothing, bit for bit, is a proof that one is the other in another gauge. Where something remains,
its largest singular values tell noise from training: those of independent entries end at ``s
(sqrt(m) + sqrt(n))`` for a standard deviation s, and what training moves lies in few directions,
far above.

V. A. Marchenko, L. A. Pastur, "Distribution of eigenvalues for some sets of random matrices",
Mathematics of the USSR-Sbornik 1 (1967).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from bmatch.gauge import SignedPermutation
from bmatch.jobs.progress import Progress, silent
from bmatch.models.weight_evidence import Weights

ASKED = 8
"""Matrices whose singular values are looked at."""
WHITE = 1.15
"""Up to so many times the largest singular value of noise, a difference is taken for noise."""


@dataclass(frozen=True)
class Difference:
    """What remains of the target when the source, carried by a gauge, is taken away.

    Attributes
    ----------
    tensors, equal : int
        Tensors that both have, and how many of them are equal bit for bit, after rounding to the
        target's dtype.
    equal_matrices : int
        Matrices among these.
    alone : int
        Tensors that one of them has alone.
    apart : float
        Median over the other matrices of the difference's Frobenius norm over that of the matrix; 0
        where there are none.
    spike : float or None
        Median over matrices of the largest singular value of the difference over what noise of its
        size has; None where no matrix differs.
    """

    tensors: int
    equal: int
    equal_matrices: int
    alone: int
    apart: float
    spike: float | None

    @property
    def exact(self) -> bool:
        """Whether the target is the carried source, bit for bit."""
        return self.equal == self.tensors and not self.alone

    @property
    def white(self) -> bool:
        """Whether what remains looks like independent noise."""
        return self.spike is not None and self.spike <= WHITE


def difference(
    target: Weights, source: Weights, gauge: SignedPermutation, progress: Progress = silent
) -> Difference:
    """Carry the source tensor by tensor and compare.

    Parameters
    ----------
    target, source : Weights
    gauge : SignedPermutation
        From source to target coordinates, NumPy arrays.
    progress : callable, optional
        How to show how far it has come.
    """
    theirs = set(source.names)
    names = [name for name in target.names if name in theirs]
    alone = len(target.names) + len(source.names) - 2 * len(names)
    equal = equal_matrices = 0
    apart = []
    asked = set(_asked(target, names))
    spikes = []
    for name in progress(names, "Comparing"):
        y = target.read(name).detach().cpu()
        x = source.read(name).detach().cpu()
        if y.shape != x.shape:
            alone += 2
            continue
        moved = source.axes.transform(name, x, gauge).to(y.dtype)
        if torch.equal(moved, y):
            equal += 1
            equal_matrices += y.ndim > 1
        elif y.ndim > 1:
            remains = y.float() - moved.float()
            apart.append(float(remains.norm() / y.float().norm().clamp(min=1e-30)))
            if name in asked:
                spikes.append(_spike(remains))
    return Difference(
        len(names),
        equal,
        equal_matrices,
        alone,
        float(np.median(apart)) if apart else 0.0,
        float(np.median(spikes)) if spikes else None,
    )


def _asked(weights: Weights, names: list[str]) -> list[str]:
    """Matrices of the blocks, spread over the depth; embeddings have rows hardly trained."""
    found = []
    for name in names:
        rule = weights.axes.rule(name)
        if rule is not None and rule.role == "stream" and ".weight" in name and "layers." in name:
            found.append(name)
    step = max(1, len(found) // ASKED)
    return found[::step] or names


def _spike(remains: torch.Tensor) -> float:
    matrix = remains.flatten(0, -2)
    rows, columns = matrix.shape
    largest = float(torch.svd_lowrank(matrix, q=min(4, rows, columns), niter=6)[1][0])
    spread = float(matrix.square().mean().sqrt())
    return largest / (spread * (math.sqrt(rows) + math.sqrt(columns)))
