"""The runs of a small model that read its parameters: on tokens, and on what else it may be given.

Some parameters are only read beside more than tokens: an encoder's states, segments, positions that
are to be predicted, entities; or by a method of the model of its own.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from bmatch.architecture.reads import names_read
from bmatch.architecture.shrink import values_of
from bmatch.architecture.solve import outputs, tensors
from bmatch.architecture.tiny import inputs_for

_WIDTHS = ("cross_attention_hidden_size", "encoder_hidden_size", "hidden_size", "d_model")
"""Fields that may tell how wide the states of an encoder are."""
_PREDICTED, _ENTITIES, _MENTION = 5, 4, 3
"""Numbers of positions, of entities, and of the tokens that an entity has at most."""


@dataclass(frozen=True)
class Run:
    """A run of a model: arguments, and the method that takes them."""

    inputs: Mapping[str, Any]
    method: str = "forward"

    def __call__(self, model: Any) -> list[torch.Tensor]:
        """What it gives that has to stay as it is: see `outputs`."""
        call = model if self.method == "forward" else getattr(model, self.method)
        with torch.no_grad():
            return outputs(call(**self.inputs))


def runs_of(model: Any) -> tuple[Run, ...]:
    """The run of a small model of transformers on tokens, and those that read what it does not.

    Parameters
    ----------
    model : module
        On the CPU; left as it is.
    """
    first = Run(inputs_for(model))
    unread = tensors(model).keys() - names_read(model, lambda: first(model))
    runs = [first]
    for other in _others(model, first.inputs) if unread else ():
        try:
            left = unread - names_read(model, lambda run=other: run(model))  # type: ignore[misc]
        except Exception:  # another way than this model's: of whatever kind a class raises
            continue
        if left != unread:
            runs.append(other)
            unread = left
        if not unread:
            break
    return tuple(runs)


def _others(model: Any, given: Mapping[str, Any]) -> Iterator[Run]:
    """Each known way to give a model more than it was given, by the names of what it takes."""
    tokens = given.get("input_ids")
    if tokens is None:
        return
    batch, count = tokens.shape
    generator = torch.Generator().manual_seed(4)
    takes = inspect.signature(model.forward).parameters
    if "encoder_hidden_states" in takes:
        values = values_of(model.config)
        widths = [values[f] for f in _WIDTHS if isinstance(values.get(f), int)]
        for width in dict.fromkeys(widths):
            states = torch.randn((batch, count - 1, width), generator=generator)
            yield Run({**given, "encoder_hidden_states": states})
    halves = (torch.arange(count) >= count // 2).long().expand(batch, -1)
    if "token_type_ids" in takes:
        yield Run({**given, "token_type_ids": halves})
    if {"perm_mask", "target_mapping"} <= takes.keys():
        hidden = torch.zeros((batch, count, count))
        hidden[:, :, -_PREDICTED:] = 1
        wanted = torch.eye(count)[-_PREDICTED:].expand(batch, -1, -1)
        both = {"perm_mask": hidden, "target_mapping": wanted}
        yield Run({**given, **both})
        yield Run({**given, **both, "token_type_ids": halves})
    if {"entity_ids", "entity_position_ids"} <= takes.keys():
        most = min(int(getattr(model.config, "entity_vocab_size", _ENTITIES)), 96)
        which = torch.randint(most, (batch, _ENTITIES), generator=generator)
        places = torch.randint(count, (batch, _ENTITIES, _MENTION), generator=generator)
        yield Run({**given, "entity_ids": which, "entity_position_ids": places})
    mask = torch.ones((batch, count))
    for name in sorted(vars(type(model))):  # of its own class
        if name.startswith("predict_"):
            takes = inspect.signature(getattr(model, name)).parameters
            if list(takes) == ["tokens", "attention_mask"]:
                yield Run({"tokens": tokens, "attention_mask": mask}, name)
