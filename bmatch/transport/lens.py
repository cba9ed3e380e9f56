"""TransformerLens' form of a model's weights, which it changes as it loads them."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch

_BLOCK = re.compile(r"blocks\.\d+\.(attn\.W_[QKVO]|mlp\.W_(in|out))")
_GAIN = re.compile(r"blocks\.\d+\.ln[12]\.w|ln_final\.w")
_CENTRED = 0.05  # of the means that chance would leave: rounding to bfloat16 leaves 0.002


def require_none_of_lens(weights: Mapping[str, torch.Tensor]) -> None:
    """Refuse a state dict of TransformerLens, with what it has done to the weights.

    Raises
    ------
    ValueError
        If the names are its own. Whether norms were folded (``fold_ln``) is told by their gains,
        which are gone then, or 1; whether writing weights were centred by the mean of rows.
    """
    if not any(map(_BLOCK.fullmatch, weights)):
        return
    told = []
    gains = [tensor for name, tensor in weights.items() if _GAIN.fullmatch(name)]
    if all(bool((gain == 1).all()) for gain in gains):
        told.append(
            "the gains of its norms are folded into what reads them (fold_ln), so that any "
            "rotation is a gauge and no signed permutation stands out"
        )
    rows = weights.get("embed.W_E")
    if rows is not None and _is_centred(rows):
        told.append(
            "what is written to the stream is centred (center_writing_weights), which signs of "
            "single coordinates do not commute with"
        )
    done = f": {', and '.join(told)}" if told else ""
    raise ValueError(
        f"these are weights as TransformerLens holds them{done}; carry the state dict of "
        "transformers' model, and load it with HookedTransformer.from_pretrained_no_processing("
        "name, hf_model=model)"
    )


def _is_centred(rows: torch.Tensor) -> bool:
    wide = rows.float()
    by_chance = wide.square().mean() / wide.shape[-1]
    return bool(wide.mean(-1).square().mean() <= _CENTRED**2 * by_chance)
