"""A picture for a small model that reads pictures beside its text.

Their towers write to the text's stream, so a run has to go through both. Models differ in how they
are given a picture: each known way is tried, and the model tells how many tokens it takes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch

_TEXT = (5, 7)
"""Tokens before and after the picture's."""


def with_picture(model: Any, tokens: torch.Tensor) -> dict[str, Any]:
    """Arguments of a model with a picture among tokens; no picture where it takes none.

    Parameters
    ----------
    model : transformers model
        Small, on the CPU.
    tokens : int64 tensor [batch, tokens]
        Of text.
    """
    plain = {"input_ids": tokens}
    token = getattr(model.config, "image_token_id", None)
    vision = getattr(model.config, "vision_config", None)
    reader = model
    if vision is None:  # one tower for both
        vision, reader = model.config, getattr(model, "base_model", None)
    reads = getattr(reader, "get_image_features", None)
    if token is None or reads is None:
        return plain
    before, after = tokens[:1, : _TEXT[0]], tokens[:1, -_TEXT[1] :]
    for picture in _pictures(vision):
        with contextlib.suppress(Exception), torch.no_grad():  # another way than this model's
            found = features(reads(**picture))
            seen = torch.full((1, sum(len(rows) for rows in found)), token)
            ids = torch.cat([before, seen, after], dim=1)
            given = {"input_ids": ids, **picture}
            if "image_grid_thw" in picture:
                given["mm_token_type_ids"] = (ids == token).int()
            model(**given)
            return given
    return plain


def _pictures(vision: Any) -> Iterator[dict[str, torch.Tensor]]:
    """A random picture in each way in which models take one."""
    generator = torch.Generator().manual_seed(2)
    channels = getattr(vision, "num_channels", getattr(vision, "in_channels", 3))
    size, patch = (getattr(vision, f"{kind}_size", None) for kind in ("image", "patch"))
    patch = patch if isinstance(patch, int) else 7
    size = size if isinstance(size, int) else 4 * patch
    pixels = torch.randn((1, channels, size, size), generator=generator)
    sizes = torch.tensor([[size, size]])
    yield {"pixel_values": pixels}
    yield {"pixel_values": pixels, "image_sizes": sizes}
    yield {"pixel_values": pixels[None]}
    yield {"pixel_values": pixels[None].repeat(1, 2, 1, 1, 1), "image_sizes": sizes}
    side = 2 * int(getattr(vision, "spatial_merge_size", 1))
    numbers = channels * int(getattr(vision, "temporal_patch_size", 1)) * patch**2
    patches = torch.randn((side * side, numbers), generator=generator)
    yield {"pixel_values": patches, "image_grid_thw": torch.tensor([[1, side, side]])}
    yield {"pixel_values": patches}


def features(out: Any) -> list[torch.Tensor]:
    """What stands for a picture among embeddings: ``[tokens, width]`` for each."""
    found = getattr(out, "pooler_output", out)
    tensors = [found] if isinstance(found, torch.Tensor) else list(found)
    return [tensor.flatten(0, -2) for tensor in tensors]
