"""Tiny models with generic weights, and inputs for them."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from typing import Any

import torch

from bmatch.architecture.pictures import with_picture
from bmatch.architecture.shrink import LAYERS, parts_of, shrunken, values_of, with_fields
from bmatch.architecture.sounds import with_sound
from bmatch.architecture.templates import numberless

MORE_LAYERS = (4, 8)
MOST_PARAMETERS = 4_000_000
TOKENS = (2, 24)


def tiny_model(config: Any, build: Callable[[Any], torch.nn.Module]) -> torch.nn.Module:
    """The model of a shrunken config on the CPU in float32, in eval mode, with generic weights.

    Parameters
    ----------
    config : transformers config
        Of a model of any size; left as it is.
    build : callable
        From a config to a model.

    Raises
    ------
    ValueError
        If it is still large: a size of its config is not known as one.
    """
    return generic_model(covering(config, build), build)


def covering(config: Any, build: Callable[[Any], torch.nn.Module]) -> Any:
    """A shrunken config with as many layers as it takes to have each kind of tensor.

    Which layers are of which kind may follow from periods and offsets, as where one layer in eight
    attends: periods of two are tried before more layers. Where several layers are one, with the
    same tensors, there are two of them: what they read and write is in the same coordinates.
    """
    try:
        small = shrunken(config)
    except Exception:  # sizes of a head that a class compares: each has errors of its own
        small = shrunken(config, wide_heads=True)
    layers = [key for key in values_of(small) if LAYERS.match(key)]
    wanted = kinds_of_tensors(config, build)
    if not wanted:  # a class's own defaults are not always those of a model
        return small
    changes: list[dict[str, Any]] = [{}]
    if periods := _periods_of_two(small):
        changes.append(periods)
    if len(layers) == 1:
        changes += [{layers[0]: count} for count in MORE_LAYERS]
    for change in changes:
        larger = with_fields(small, change) if change else small
        if wanted <= kinds_of_tensors(larger, build):
            return larger
    return small


def _periods_of_two(config: Any) -> dict[str, int]:
    """Changes after which every other layer is of a kind, where fewer were; the others stay."""
    values = values_of(config)
    found: dict[str, int] = {}
    for key, period in values.items():
        offset = key.removesuffix("period") + "offset"
        start = values.get(offset)
        if key.endswith("layer_period") and type(period) is type(start) is int and period > 2:
            found |= {key: 2, offset: start % 2}
    return found


def kinds_of_tensors(config: Any, build: Callable[[Any], torch.nn.Module]) -> set[str]:
    """By names without numbers, those once more of which one tensor has several.

    Empty if there is no model of this config.
    """
    try:
        with torch.device("meta"):
            named = build(copy.deepcopy(config)).state_dict(keep_vars=True)
    except Exception:  # each class has checks, and errors, of its own
        return set()
    places: dict[tuple[int, str], list[str]] = {}
    for name, tensor in named.items():
        places.setdefault((id(tensor), numberless(name)), []).append(name)
    several = {f"{kind} in several places" for (_, kind), n in places.items() if len(n) > 1}
    return {kind for _, kind in places} | several


def generic_model(small: Any, build: Callable[[Any], torch.nn.Module]) -> torch.nn.Module:
    """The model of a small config as it is, otherwise as `tiny_model`.

    Raises
    ------
    ValueError
        If it is large.
    """
    run_plainly(small)
    with torch.device("meta"):
        count = sum(parameter.numel() for parameter in build(small).parameters())
    if count > MOST_PARAMETERS:
        raise ValueError(
            f"the {small.model_type} could not be made small: with the sizes of its config that "
            f"are known as such cut down, it has {count} parameters and not {MOST_PARAMETERS}"
        )
    model = build(small).float().eval()
    randomise(model)
    return model


def run_plainly(config: Any) -> None:
    """Let a model of this config compute by small operations, and keep nothing between runs."""
    for part in _parts(config):
        part._attn_implementation = "eager"
        part._experts_implementation = "eager"
        if hasattr(part, "use_cache"):
            part.use_cache = False


def _parts(config: Any) -> list[Any]:
    return [config, *(part for held in parts_of(config).values() for part in _parts(held))]


def randomise(model: torch.nn.Module, seed: int = 0, *, spread: float = 0.4) -> None:
    """Generic weights: gains spread about 1, biases not zero, nothing left at its default."""
    generator = torch.Generator().manual_seed(seed)
    kept = set(model.state_dict())
    tensors: list[torch.Tensor] = [*model.parameters()]
    tensors += [b for n, b in model.named_buffers() if n in kept and b.is_floating_point()]
    with torch.no_grad():
        for tensor in tensors:
            dtype = tensor.dtype if tensor.is_complex() else None
            noise = torch.randn(tensor.shape, generator=generator, dtype=dtype)
            tensor.copy_(0.3 * noise if tensor.ndim > 1 else (1 + spread * noise).abs())


def inputs_for(model: Any, seed: int = 1) -> dict[str, Any]:
    """Random tokens for a language model, for both sides where it has an encoder and a decoder.

    With a picture and a sound where it takes any.
    """
    generator = torch.Generator().manual_seed(seed)
    config = model.config
    text = config.get_text_config(decoder=True) if hasattr(config, "get_text_config") else config
    size = int(getattr(text, "vocab_size", 0) or config.vocab_size)

    def tokens() -> torch.Tensor:
        return torch.randint(3, size, TOKENS, generator=generator)

    inputs = {"input_ids": tokens()}
    if getattr(config, "is_encoder_decoder", False):
        inputs["decoder_input_ids"] = tokens()
    if "global_attention_mask" in inspect.signature(model.forward).parameters:
        some = torch.zeros(TOKENS, dtype=torch.long)
        some[:, :2] = 1  # tokens that attend to all others have projections of their own
        inputs["global_attention_mask"] = some
    return with_sound(model, with_picture(model, inputs))
