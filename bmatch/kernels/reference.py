"""The kernels' twins in plain torch, in float64: what they compute, without how."""

from __future__ import annotations

import numpy as np
import torch

_SLICE = 1 << 17  # numbers scaled at once by `finalise`


def pilot_tokens(
    tokens: int, kept: torch.Tensor | None, most: int, device: torch.device
) -> torch.Tensor:
    """Which tokens estimate the shift, spread over those that count: int64 [P], P <= most.

    They follow the golden ratio, so that no length of sequence makes them all first tokens; and the
    host does not wait for the device to learn how many count.
    """
    places = torch.arange(min(tokens, most), dtype=torch.float64, device=device)
    places = places.mul_((5**0.5 - 1) / 2).frac_()  # [P], in [0, 1)
    if kept is None:
        return (places * tokens).long()
    seen = kept.cumsum(0)
    ranks = (places * seen[-1:]).long() + 1
    return torch.searchsorted(seen, ranks).clamp_max_(tokens - 1)


def pilot_shift(values: torch.Tensor, pilot: torch.Tensor) -> torch.Tensor:
    """A centre for each channel of a batch: float32, or float64 of float64, [S, D].

    It is the median, which massive activations do not move, and 0 where the median is within three
    times the spread: such a shift would gain little, and what is not shifted need not be copied.
    With `pilot_tokens` the twin of `pilot.pilot_shifts`, for one stream; the CPU runs it.
    """
    sample = values.index_select(1, pilot)
    sample = sample.to(torch.promote_types(values.dtype, torch.float32))  # [S, P, D]
    if len(pilot) == 0:
        return sample.new_zeros((len(values), values.shape[2]))
    median = _median(sample)
    spread = _median((sample - median[:, None]).abs_())
    return torch.where(median.abs() > 3.0 * spread, median, 0.0).contiguous()


def _median(sample: torch.Tensor) -> torch.Tensor:
    """The lower median along the second dimension: [S, P, D] to [S, D]."""
    if sample.device.type != "cpu":
        return sample.median(1).values
    middle = (sample.shape[1] - 1) // 2  # NumPy takes a third of torch's time
    return torch.from_numpy(np.partition(sample.numpy(), middle, axis=1)[:, middle])


def findings(
    partial: torch.Tensor, shift: torch.Tensor, seen: torch.Tensor | None, tokens: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Twin of `batch_sums.findings`, with one block of channels."""
    sums = partial.sum(1, dtype=torch.float64)
    largest = sums[:, 1].nan_to_num(torch.inf, torch.inf).amax(1)
    count = largest.new_tensor([tokens]) if seen is None else seen[-1:].double()
    return sums, torch.cat([largest, shift.any(1).double(), count])


def add_cross_moments(
    products: torch.Tensor,
    target: torch.Tensor,
    source: torch.Tensor,
    factors: torch.Tensor | None = None,
) -> None:
    """Twin of `cross_moments.add_cross_moments`."""
    y, x = target.double(), source.double()
    planes = y.shape[1]
    for i in range(planes):
        for j in range(planes - i):
            products += y[:, i].mT @ x[:, j]
    if factors is not None:
        products += _outer_sum(factors, products.shape[1])


def add_partial_sums(
    total: torch.Tensor, partial: torch.Tensor, factors: torch.Tensor | None = None
) -> None:
    """Twin of `partial_sums.add_partial_sums`."""
    total += partial.sum(1, dtype=torch.float64)
    if factors is not None:
        total += _outer_sum(factors, total.shape[1])


def _outer_sum(factors: torch.Tensor, d1: int) -> torch.Tensor:
    """``left^T right`` of factors that hold them side by side: [S, 2, D1 + D2] to [S, D1, D2]."""
    product: torch.Tensor = factors[..., :d1].mT @ factors[..., d1:]
    return product


def column_sums(
    target: torch.Tensor,
    source: torch.Tensor,
    shift: torch.Tensor,
    mask: torch.Tensor | None = None,
    planes: int | None = None,
) -> torch.Tensor:
    """Twin of `centred.column_sums`, in one part."""
    if planes is None:
        streams = _centred(target, source, shift, mask)
    else:
        split = split_planes(target, source, shift, mask, planes)
        streams = [values.float().sum(1) for values in split]
    centred = torch.cat(streams, 2).double()
    return torch.stack([centred.sum(1), centred.square().sum(1)], 1)[:, None]


def split_planes(
    target: torch.Tensor,
    source: torch.Tensor,
    shift: torch.Tensor,
    mask: torch.Tensor | None = None,
    planes: int = 2,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Twin of `centred.split_planes`."""
    y, x = (_planes(rest, planes) for rest in _centred(target, source, shift, mask))
    return y, x


def _planes(rest: torch.Tensor, planes: int) -> torch.Tensor:
    out = []
    for _ in range(planes):
        out.append(rest.bfloat16())
        rest = rest - out[-1].float()
    return torch.stack(out, 1)


def scales(
    means: tuple[torch.Tensor, torch.Tensor],
    squares: tuple[torch.Tensor, torch.Tensor],
    count: int,
) -> torch.Tensor:
    """Twin of `finalise.scales`: the CPU runs it."""
    mean, square = torch.cat(means), torch.cat(squares)
    # What roundings of the mean leave where nothing varied.
    constant = square <= count * (1e-15 * mean).square()
    scale = torch.where(constant, 0.0, square.sqrt().reciprocal())
    return torch.where(square < torch.inf, scale, torch.nan)


def finalise(
    comoment: torch.Tensor,
    target_scale: torch.Tensor,
    source_scale: torch.Tensor,
) -> torch.Tensor:
    """Twin of `finalise.finalise`, in slices that stay in the cache: the CPU runs it."""
    d1, d2 = comoment.shape
    out = torch.empty((d1, d2), dtype=torch.float32, device=comoment.device)
    rows = max(1, _SLICE // d2)
    for start in range(0, d1, rows):
        piece = slice(start, start + rows)
        correlation = comoment[piece] * target_scale[piece, None]
        out[piece] = correlation.mul_(source_scale).clamp_(-1.0, 1.0)
    return out


def strongest(
    comoment: torch.Tensor,
    target_scale: torch.Tensor,
    source_scale: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Twin of `finalise.strongest`."""
    correlation = finalise(comoment, target_scale, source_scale)
    strength = correlation.abs()
    best = strength.amax(1, keepdim=True)
    columns = torch.arange(strength.shape[1], device=strength.device)
    source = torch.where(strength == best, columns, len(columns)).amin(1)
    value = correlation.gather(1, source[:, None])[:, 0]
    second = strength.scatter(1, source[:, None], 0.0).amax(1)
    return source, value, second


def scan_rows(cost: torch.Tensor, sense: int, length: int) -> tuple[torch.Tensor, ...]:
    """Twin of `row_scan.scan_rows`; its lists hold the least of all, its bounds are the next."""
    costs = cost.double()
    costs = (costs, -costs, -costs.abs())[sense]
    valid = (costs > -torch.inf).all(1)
    costs = torch.where(costs.isnan(), torch.inf, costs)
    padded = torch.cat([costs, costs.new_full((len(costs), length + 1), torch.inf)], 1)
    least, order = padded.sort(dim=1, stable=True)
    col = torch.where(least < torch.inf, order, -1).int()
    bound = least[:, length]
    return least[:, 0], least[:, 1], col[:, 0], valid, least[:, :length], col[:, :length], bound


def _centred(
    target: torch.Tensor, source: torch.Tensor, shift: torch.Tensor, mask: torch.Tensor | None
) -> list[torch.Tensor]:
    d1 = target.shape[2]
    streams = [target.float() - shift[:, None, :d1], source.float() - shift[:, None, d1:]]
    if mask is None:
        return streams
    return [torch.where(mask[:, None], centred, 0.0) for centred in streams]
