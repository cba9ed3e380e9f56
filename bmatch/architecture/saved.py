"""Names that transformers gives tensors in files, where they are not those of the model.

Some models keep all experts in one tensor, and their files each expert's apart; others were
renamed. transformers turns the one into the other by rules of its own, and labels sent through them
tell which axis of what comes out carries the stream.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from bmatch.architecture.rules import Rule
from bmatch.architecture.templates import Templates, numberless


def saved_rules(tiny: Any, rules: Mapping[str, Rule]) -> dict[str, Rule | None]:
    """How tensors under names of files carry the stream.

    Parameters
    ----------
    tiny : module
        A small model of the structure.
    rules : mapping of str to Rule
        Of the tensors of such a model, by their names in it.

    Returns
    -------
    dict of str to Rule or None
        By names with ``{}`` in place of numbers, but for one that tells apart what carries the
        stream in other ways: rules for names that only files have, and None for names that files
        have no tensor of.
    """
    try:
        from transformers.core_model_loading import revert_weight_conversion
    except ImportError:  # before transformers 5 files had the names of the model
        return {}
    # Other layers and experts than the small model has stand at the same places in lists.
    by_place: dict[str, set[Rule]] = {}
    for name, rule in rules.items():
        by_place.setdefault(numberless(name), set()).add(replace(rule, name="", required=False))
    templates = Templates(rules, {})

    def rule_of(name: str) -> Rule | None:
        alike = by_place.get(numberless(name), set())
        template = templates.find(name)
        return next(iter(alike)) if len(alike) == 1 else rules.get(template or "")

    weights = {name: _labels(tensor, rule_of(name)) for name, tensor in tiny.state_dict().items()}
    saved = revert_weight_conversion(tiny, dict(weights))
    found: dict[str, dict[str, str | None]] = {}
    for name, labels in saved.items():
        if name not in weights:
            found.setdefault(numberless(name), {})[name] = _shape(labels)
    result: dict[str, Rule | None] = {
        numberless(name): None for name in weights if name not in saved
    }
    for shapes in found.values():
        for template, shape in _told_apart(shapes).items():
            result[template] = Rule(template, shape, required=False)
    return result


def _told_apart(shapes: Mapping[str, str | None]) -> dict[str, str]:
    """Shapes by templates, of names that differ in their numbers: in one of these, if in any.

    None where what a tensor carries is not known, or no number tells it.
    """
    numbers = [k for k, part in enumerate(next(iter(shapes)).split(".")) if part.isdigit()]
    for kept in (None, *numbers):
        found: dict[str, set[str | None]] = {}
        for name, shape in shapes.items():
            parts = numberless(name).split(".")
            if kept is not None:
                parts[kept] = name.split(".")[kept]
            found.setdefault(".".join(parts), set()).add(shape)
        if all(len(ways) == 1 for ways in found.values()):
            told = {template: ways.pop() for template, ways in found.items()}
            return {template: shape for template, shape in told.items() if shape is not None}
    return {}


def _labels(tensor: torch.Tensor, rule: Rule | None) -> torch.Tensor:
    """Along the axis that carries the stream its coordinates, from 1 on, negative for gains.

    NaN where no rule of a file could tell: for two axes, for one that has the stream several times,
    and for tensors that have no rule.
    """
    if rule is None or sum(len(word.odd) for word in rule.words if word.space == "D") > 1:
        return torch.full(tensor.shape, torch.nan)
    labels = torch.zeros(tensor.shape)
    for axis, signed in rule.axes:
        places = torch.arange(1.0, tensor.shape[axis] + 1)
        labels += _along(places if signed else -places, axis, tensor.ndim)
    return labels


def _shape(labels: torch.Tensor) -> str | None:
    """The words of a rule for a tensor of such labels; None if no rule has them."""
    words = ["any"] * labels.ndim
    if not labels.any():
        return " ".join(words)
    for axis, size in enumerate(labels.shape):
        places = torch.arange(1.0, size + 1)
        for sign, word in ((1, "D"), (-1, "+D")):
            if torch.equal(labels, _along(sign * places, axis, labels.ndim).expand(labels.shape)):
                words[axis] = word
                return " ".join(words)
    return None


def _along(values: torch.Tensor, axis: int, ndim: int) -> torch.Tensor:
    return values.view([-1 if k == axis else 1 for k in range(ndim)])
