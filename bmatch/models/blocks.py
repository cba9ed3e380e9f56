"""Where the blocks of a model are whose stream is read, and the part of it that runs them."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from operator import attrgetter
from typing import Any

import torch

from bmatch.architecture.axes import ResidualAxes
from bmatch.architecture.wrappers import is_sharded


def stream_blocks(model: Any, axes: ResidualAxes) -> Sequence[torch.nn.Module]:
    """The blocks, in order: of the text's tower, and of an encoder rather than of its decoder.

    Parameters
    ----------
    model : transformers model
    axes : ResidualAxes
        Its table.

    Raises
    ------
    ValueError
        If there is no list of so many blocks each of which carries the stream.
    """
    base = model.base_model
    if axes.family.blocks and not model.config.is_encoder_decoder:
        blocks: Sequence[torch.nn.Module] = attrgetter(axes.family.blocks)(base)
        return blocks
    carrying = {id(p) for name, p in model.named_parameters() if _carries(axes, name)}
    for part in _parts(model):
        for module in part.modules():  # outer lists before those that they hold
            if not isinstance(module, torch.nn.ModuleList) or len(module) != axes.num_layers:
                continue
            if all(any(id(p) in carrying for p in block.parameters()) for block in module):
                return list(module)
    raise ValueError(
        f"no list of {axes.num_layers} blocks of {axes.model_type} carries its stream, so between "
        "which of them it is read is not known"
    )


def _carries(axes: ResidualAxes, name: str) -> bool:
    rule = axes.rule(name)
    return rule is not None and bool(rule.axes)


def _parts(model: Any) -> Iterator[torch.nn.Module]:
    """Where to look: an encoder, else what is behind the text's embeddings, else everywhere."""
    if model.config.is_encoder_decoder:
        yield model.get_encoder()
    yield model.get_decoder()
    yield model


def run_blocks(
    model: Any,
    blocks: Sequence[torch.nn.Module],
    tokens: torch.Tensor,
    attention_mask: torch.Tensor | None,
) -> None:
    """Run tokens ``[B, T]`` through these blocks, without the unembedding where that can be.

    Raises
    ------
    ValueError
        If there are more than the model has positions for, or it reads no tokens.
    """
    if model.main_input_name != "input_ids":
        raise ValueError(
            f"a {model.config.model_type} reads {model.main_input_name}, not tokens, so its stream "
            "is not read here: match activations that are kept in files"
        )
    base, beside = model.base_model, dict[str, Any](use_cache=False)
    whole = is_sharded(model)  # FSDP2 gathers what is in no block as the model itself is called
    if whole:
        base = model
        if "logits_to_keep" in inspect.signature(model.forward).parameters:
            beside["logits_to_keep"] = 1
    if model.config.is_encoder_decoder:
        encoder = model.get_encoder()
        if not whole and any(module is blocks[0] for module in encoder.modules()):
            base, beside = encoder, {}
        else:
            beside["decoder_input_ids"] = tokens
    try:
        base(input_ids=tokens, attention_mask=attention_mask, **beside)
    except (IndexError, RuntimeError) as error:
        text = model.config.get_text_config(decoder=True)
        most = getattr(text, "max_position_embeddings", None)
        if not isinstance(most, int) or tokens.shape[1] <= most:
            raise
        raise ValueError(
            f"sequences of {tokens.shape[1]} tokens are longer than the {most} positions of this "
            f"{model.config.model_type}: a sequence length of at most {most} is needed"
        ) from error
