"""The kernels' twins in plain torch, in float64: what they compute, without how."""

from __future__ import annotations

import torch


def add_cross_moments(products: torch.Tensor, target: torch.Tensor, source: torch.Tensor) -> None:
    """Twin of `cross_moments.add_cross_moments`."""
    if target.ndim == 2:
        target, source = target[None], source[None]
    y, x = target.double(), source.double()
    for i in range(len(y)):
        for j in range(len(x) - i):
            products += y[i].T @ x[j]


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
        centred = split_planes(values, shift, mask, planes).float().sum(0)
    return centred.double().sum(0), centred.double().square().sum(0)


def split_planes(
    values: torch.Tensor,
    shift: torch.Tensor,
    mask: torch.Tensor | None = None,
    planes: int = 2,
) -> torch.Tensor:
    """Twin of `centred.split_planes`, without its padding."""
    rest = _centred(values, shift, mask)
    out = []
    for _ in range(planes):
        out.append(rest.bfloat16())
        rest = rest - out[-1].float()
    return torch.stack(out)


def finalise(
    comoment: torch.Tensor,
    target_scale: torch.Tensor,
    source_scale: torch.Tensor,
) -> torch.Tensor:
    """Twin of `finalise.finalise`."""
    correlation = comoment * target_scale[:, None]
    correlation *= source_scale
    return correlation.float().clamp_(-1.0, 1.0)


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


def _centred(values: torch.Tensor, shift: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    centred = values.float() - shift
    return centred if mask is None else torch.where(mask[:, None], centred, 0.0)
