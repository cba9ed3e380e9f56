"""The kernels' twins in plain torch, in float64: what they compute, without how."""

from __future__ import annotations

import torch

_SLICE = 1 << 17  # numbers scaled at once by `finalise`


def add_cross_moments(products: torch.Tensor, target: torch.Tensor, source: torch.Tensor) -> None:
    """Twin of `cross_moments.add_cross_moments`."""
    y, x = target.double(), source.double()
    planes = y.shape[1]
    for i in range(planes):
        for j in range(planes - i):
            products += y[:, i].mT @ x[:, j]


def add_partial_sums(total: torch.Tensor, partial: torch.Tensor) -> None:
    """Twin of `partial_sums.add_partial_sums`."""
    total += partial.sum(1, dtype=torch.float64)


def column_sums(
    values: torch.Tensor,
    shift: torch.Tensor,
    mask: torch.Tensor | None = None,
    planes: int | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Twin of `centred.column_sums`."""
    if planes is None:
        centred = _centred(values, shift, mask)
    else:
        centred = split_planes(values, shift, mask, planes).float().sum(1)
    return centred.double().sum(1), centred.double().square().sum(1)


def split_planes(
    values: torch.Tensor,
    shift: torch.Tensor,
    mask: torch.Tensor | None = None,
    planes: int = 2,
) -> torch.Tensor:
    """Twin of `centred.split_planes`."""
    rest = _centred(values, shift, mask)
    out = []
    for _ in range(planes):
        out.append(rest.bfloat16())
        rest = rest - out[-1].float()
    return torch.stack(out, 1)


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


def scan_rows(cost: torch.Tensor, sense: int, room: int) -> tuple[torch.Tensor, ...]:
    """Twin of `row_scan.scan_rows`; its lists hold the least of all, its bounds are the next."""
    costs = cost.double()
    costs = (costs, -costs, -costs.abs())[sense]
    valid = (costs > -torch.inf).all(1)
    costs = torch.where(costs.isnan(), torch.inf, costs)
    padded = torch.cat([costs, costs.new_full((len(costs), room + 1), torch.inf)], 1)
    least, order = padded.sort(dim=1, stable=True)
    col = torch.where(least < torch.inf, order, -1).int()
    bound = least[:, room]
    return least[:, 0], least[:, 1], col[:, 0], valid, least[:, :room], col[:, :room], bound


def _centred(values: torch.Tensor, shift: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    centred = values.float() - shift[:, None]
    return centred if mask is None else torch.where(mask[:, None], centred, 0.0)
