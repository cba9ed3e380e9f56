"""Twins of the kernels that serve both streams at once, made of what the CPU runs."""

from __future__ import annotations

import torch

from bmatch.correlation.statistics import CentredSums, Statistics
from bmatch.kernels import reference


def pilot_shifts(target, source, seen, most):
    """Twin of `kernels.pilot.pilot_shifts`."""
    kept = None if seen is None else seen.diff(prepend=seen.new_zeros(1)) > 0
    pilot = reference.pilot_tokens(target.shape[1], kept, most, target.device)
    return torch.cat([reference.pilot_shift(values, pilot) for values in (target, source)], 1)


def move(means, squares, shift, sums, seen, count):
    """Twin of `kernels.batch_sums.move`."""
    d1 = means[0].shape[1]
    statistics = Statistics(0, 1, 1)
    statistics.target_mean, statistics.source_mean = means
    statistics.target_square, statistics.source_square = squares
    total, square = sums[:, 0], sums[:, 1]
    about_mean = (square - total.square() / count).clamp_min(0.0)
    target, source = (
        CentredSums(*(part[:, side] for part in (shift.double(), total, about_mean)))
        for side in (slice(None, d1), slice(d1, None))
    )
    return torch.cat(statistics.move(slice(None), seen, count, target, source), 2)
