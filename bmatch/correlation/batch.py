"""A batch of paired tokens as it comes, checked before anything is computed of it."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from bmatch.arrays import NOT_MOVED


@dataclass(frozen=True, eq=False)
class Batch:
    """Paired tokens of every site, in a row.

    Attributes
    ----------
    target, source : floating [S, N, D1] and [S, N, D2]
    kept : bool [N], contiguous, or None
        Which tokens count; all if None.
    """

    target: torch.Tensor
    source: torch.Tensor
    kept: torch.Tensor | None

    @property
    def tokens(self) -> int:
        """N, whether they count or not."""
        return self.target.shape[1]

    def counted(self) -> int:
        """How many tokens count."""
        return self.tokens if self.kept is None else int(self.kept.sum())


def checked_batch(
    target: torch.Tensor,
    source: torch.Tensor,
    mask: torch.Tensor | None,
    shape: torch.Size,
    device: torch.device,
) -> Batch:
    """A batch [S, ..., D1], [S, ..., D2], [...] that fits comoments of `shape` [S, D1, D2].

    Raises
    ------
    ValueError
        If shapes or devices do not fit.
    TypeError
        If the activations are not floating point or the mask is not boolean.
    """
    sites, d1, d2 = shape
    target = _tokens("target", target, sites, d1, device)
    source = _tokens("source", source, sites, d2, device)
    if target.shape[:-1] != source.shape[:-1]:
        raise ValueError(
            f"target and source must pair the same tokens, got shapes {tuple(target.shape[1:])}"
            f" and {tuple(source.shape[1:])}"
        )
    kept = None if mask is None else _kept(mask, target.shape[1:-1], device)
    return Batch(target.reshape(sites, -1, d1), source.reshape(sites, -1, d2), kept)


def _tokens(
    name: str, values: torch.Tensor, sites: int, dim: int, device: torch.device
) -> torch.Tensor:
    if not values.is_floating_point():
        raise TypeError(f"{name} must be floating point, got {values.dtype}")
    if values.ndim < 2 or values.shape[-1] != dim:
        raise ValueError(
            f"{name} must have {dim} coordinates along its last dimension, got shape "
            f"{tuple(values.shape[1:])}"
        )
    if len(values) != sites:
        raise ValueError(
            f"{name} must have {sites} sites along its first dimension, got shape "
            f"{tuple(values.shape)}"
        )
    if values.device != device:
        raise ValueError(
            f"{name} is on {values.device} and the moments are on {device}: {NOT_MOVED}"
        )
    return values.resolve_neg()  # memory is read as it lies


def _kept(mask: torch.Tensor, tokens: torch.Size, device: torch.device) -> torch.Tensor:
    if mask.dtype != torch.bool:
        raise TypeError(f"mask must be boolean, True where a token counts; got {mask.dtype}")
    if mask.shape != tokens:
        raise ValueError(
            f"mask must have the leading shape {tuple(tokens)} of the batch, got "
            f"{tuple(mask.shape)}"
        )
    return mask.to(device).reshape(-1).contiguous()
