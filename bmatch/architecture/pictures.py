"""A picture for a small model that reads pictures beside its text.

Their towers write to the text's stream, so a run has to go through both. Models differ in how they
are given a picture: each known way is tried, and the model tells how many tokens it takes.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator
from typing import Any

import torch

from bmatch.architecture.shrink import parts_of

_TEXT = (5, 7)
"""Tokens before and after the picture's."""


def with_picture(model: Any, given: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Arguments of a model with a picture among tokens; as they are where it takes none.

    Parameters
    ----------
    model : transformers model
        Small, on the CPU.
    given : dict
        ``input_ids``, int64 ``[batch, tokens]``, and what else it is given, one for each of these.
    """
    single = {name: tensor[:1] for name, tensor in given.items()}
    token: Any = getattr(model.config, "image_token_id", None)
    readers = (model, getattr(model, "base_model", None))
    reads = next(filter(None, (getattr(r, "get_image_features", None) for r in readers)), None)
    if token is None and reads is None and getattr(model.config, "vision_config", None) is None:
        return given
    for picture in _pictures(_of_pictures(model.config)):
        with contextlib.suppress(Exception), torch.no_grad():  # another way than this model's
            if reads is None:  # beside the text, with no tokens for it
                both = {**single, **picture}
                if "image_attention_mask" in inspect.signature(model.forward).parameters:
                    seen_by = (*single["input_ids"].shape, 1)  # each token sees the one picture
                    both["image_attention_mask"] = torch.ones(seen_by)
            else:
                seen = sum(len(rows) for rows in features(reads(**picture)))
                ids = _among(single["input_ids"], torch.full((1, seen), token))
                both = {**single, **picture, "input_ids": ids}
                if "image_grid_thw" in picture:
                    both["mm_token_type_ids"] = (ids == token).int()
            model(**both)
            return both
    return given


def _among(tokens: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
    """Tokens with those of a picture among them."""
    return torch.cat([tokens[:, : _TEXT[0]], seen, tokens[:, -_TEXT[1] :]], dim=1)


def _of_pictures(config: Any) -> Any:
    """The config of the tower: its own or that of a part; of one tower for both, the whole."""
    held = [getattr(part, "vision_config", None) for part in (config, *parts_of(config).values())]
    return next(filter(None, held), config)


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
    for tiles in (2, 3):  # the whole, and each of its parts
        yield {"pixel_values": pixels[None].repeat(1, tiles, 1, 1, 1), "image_sizes": sizes}
    side = 2 * int(getattr(vision, "spatial_merge_size", 1))
    numbers = channels * int(getattr(vision, "temporal_patch_size", 1)) * patch**2
    patches = torch.randn((side * side, numbers), generator=generator)
    yield {"pixel_values": patches}
    grid = torch.tensor([[1, side, side]])
    yield {"pixel_values": patches, "image_grid_thw": grid}
    merged = getattr(vision, "merge_kernel_size", (2, 2))
    high, wide = 2 * merged[0], 2 * merged[1]
    apart = torch.randn((high * wide, channels, patch, patch), generator=generator)
    yield {"pixel_values": apart, "image_grid_thw": torch.tensor([[1, high, wide]])}


def features(out: Any) -> list[torch.Tensor]:
    """What stands for pictures or sounds among embeddings: ``[tokens, width]`` for each."""
    found = getattr(out, "pooler_output", out)
    if found is None:
        found = out.last_hidden_state
    tensors = [found] if isinstance(found, torch.Tensor) else list(found)
    return [tensor.flatten(0, -2) for tensor in tensors]
