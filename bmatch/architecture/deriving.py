"""From any model, or a config without weights, to its proved gauge spaces."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from typing import Any, NamedTuple

import torch

from bmatch.architecture.altered import FORMS, altered, is_from_elsewhere
from bmatch.architecture.forward_runs import Run, runs_of
from bmatch.architecture.proof import (
    LARGER,
    Proof,
    confirmed,
    proved_in,
    require_repeatable,
)
from bmatch.architecture.reads import Slab, slabs
from bmatch.architecture.scale import scaled
from bmatch.architecture.solve import follow, solved, started, tensors, traced
from bmatch.architecture.spaces import Axes, Member, Space
from bmatch.architecture.tiny import (
    MOST_PARAMETERS,
    inputs_for,
    randomise,
    run_plainly,
    tiny_model,
)
from bmatch.architecture.wrappers import unwrapped

SEEDS = 8
"""Weights that are tried until every expert is asked."""
WITNESSES = (1, 2, 3)
"""Other weights under which spaces that were proved are tried: numbers that were equal by chance,
and conditions that were met, are no property of a model."""
_CLOSER = 4
"""From this one on biases of routers, as all vectors, differ less: else they choose alone."""


def derive(model_or_config: Any, inputs: Mapping[str, Any] | None = None) -> Axes:
    """Every gauge space of a model, found in one traced run and proved on its outputs.

    A model of transformers, or its config alone, is derived from a tiny copy of its structure: the
    full weights are neither read nor made. Any other module is run as it is, with weights at
    random; so is a model of transformers of which somebody has changed a part (a module, a method
    of one, a hook), since its class would make the copy without the change; and a small one of a
    class from elsewhere, which may be written for its own sizes.

    Parameters
    ----------
    model_or_config
        A transformers model, its config, or a `torch.nn.Module`.
    inputs : mapping, optional
        Arguments of `forward`, on the CPU: needed for modules that are no transformers models.
        With them, every module is run as it is.

    Returns
    -------
    Axes
        With names and sizes of the model that was given. Spaces that the proof has refuted are
        told in it, as are operations without a rule.

    Raises
    ------
    ValueError
        If a module comes without inputs, a model that somebody has changed is large, or no tiny
        model of the structure can be made.
    """
    given = unwrapped(model_or_config)
    if isinstance(given, torch.nn.Module):
        if inputs is not None:
            return _as_it_is(given, inputs)
        if not hasattr(given, "_from_config"):
            raise ValueError(
                "a module that is no transformers model needs inputs: a mapping of the arguments "
                "of its forward method"
            )
        if _is_another(given):
            return _as_it_is(given, inputs_for(given))
    return derivation(given).axes


def of_changed(model: Any) -> Derivation | None:
    """The spaces of a model of transformers that computes something else than its type does.

    None where it is what transformers' class makes of its config; so is one whose linear maps
    another library holds (adapters, few bits).

    Raises
    ------
    ValueError
        As `derive`.
    """
    if _is_another(model, forms=FORMS):
        return Derivation(_as_it_is(model, inputs_for(model)), model, model)
    return derivation(model) if is_from_elsewhere(model, forms=FORMS) else None


def _is_another(given: Any, *, forms: tuple[str, ...] = ()) -> bool:
    """Whether a model has to be run as it is: somebody changed it, or wrote it for its own size.

    Raises
    ------
    ValueError
        If it is large.
    """
    change = altered(given, _as_made(given), forms=forms)
    count = sum(parameter.numel() for parameter in given.parameters())
    if change is not None and count > MOST_PARAMETERS:
        raise ValueError(
            f"this {type(given).__name__} is not what its class makes of its config "
            f"({change}), so it has to be run as it is, and it has {count} parameters, more "
            f"than {MOST_PARAMETERS}: give a small one that is changed alike, or, if the "
            "change does not matter to what it computes, its config"
        )
    small = count <= MOST_PARAMETERS
    return change is not None or (is_from_elsewhere(given, forms=forms) and small)


def _as_it_is(given: torch.nn.Module, inputs: Mapping[str, Any]) -> Axes:
    """The spaces of a module from a run of itself, on a copy with weights at random."""
    module = copy.deepcopy(given).float().cpu().eval()
    if hasattr(module, "_from_config"):
        run_plainly(module.config)
    randomise(module)
    trace, runs = traced(module, inputs), [Run(inputs)]
    require_repeatable(module, runs, sorted(trace.drawn))
    axes, _ = proved_in(module, solved(trace, module), runs, tell=True)
    for seed in WITNESSES:
        randomise(module, seed)
        axes = confirmed(module, axes, runs, seed, tell=True)
    return axes


def _as_made(given: Any) -> torch.nn.Module:
    """What the class of a model of transformers makes of its config, without weights."""
    return _made(_Plan(type(given), given.config.to_json_string(use_diff=False), given.config))


@dataclass(frozen=True)
class _Plan:
    """A class of transformers and the config of a model; the same values are the same plan."""

    kind: Any
    values: str
    config: Any = field(compare=False)


@lru_cache(maxsize=2)  # checkpoints of a run, or of two, are looked at in turn
def _made(plan: _Plan) -> torch.nn.Module:
    config = copy.deepcopy(plan.config)
    run_plainly(config)
    with torch.device("meta"):
        made: torch.nn.Module = plan.kind._from_config(config)
    return made


class Derivation(NamedTuple):
    """The spaces of a model of transformers, and the models that they came from."""

    axes: Axes
    full: torch.nn.Module  # without weights, if a config was given
    tiny: torch.nn.Module  # of the same structure, with weights at random


def derivation(given: Any) -> Derivation:
    """Derive and prove the spaces of a model of transformers, or of its config."""
    config, build = _builder(given)
    tiny = tiny_model(config, build)
    axes, _ = proved_spaces(tiny)
    full = given
    if not isinstance(given, torch.nn.Module):
        with torch.device("meta"):
            full = build(copy.deepcopy(config))
    axes = scaled(axes, _shapes(tiny), _shapes(full), _heads(tiny.config, config))
    return Derivation(axes, full, tiny)


def proved_spaces(
    tiny: torch.nn.Module, wanted: Callable[[Space], bool] = lambda _: True
) -> tuple[Axes, Proof]:
    """The spaces of a tiny model of transformers, and their proof; its weights are drawn anew.

    Spaces that are not wanted are left out.

    Under some weights no token goes to one of the experts, and nothing tells what it carries:
    others are drawn then. Where no draw reads all, what each of several demands has to hold, and
    the spaces are proved under each; what is left is told as unread. Slabs that are read under none
    carry the stream as the others of their tensors do: experts without weights, or such as a table
    of tokens names.
    """
    runs = runs_of(tiny)
    draws, ever = _draws(tiny, runs[0].inputs)
    trace = started(tiny)
    for seed in draws:
        _draw(tiny, seed)
        for run in runs:
            follow(trace, partial(run, tiny))
    found = with_whole_slabs(solved(trace, tiny), ever)
    missed = _read_in_part(found, _shapes(tiny), ever)
    kept = tuple(space for space in found.spaces if wanted(space))
    unread = tuple(sorted({*found.unread, *missed}))
    return _proved(tiny, replace(found, spaces=kept, unread=unread), draws, runs)


def _draws(tiny: torch.nn.Module, tokens: Mapping[str, Any]) -> tuple[list[int], set[Slab]]:
    """The numbers of draws under which all slabs are read that any run reads, and those.

    The first reads the most; most often it reads all.
    """
    found: dict[int, set[Slab]] = {}
    for seed in range(SEEDS):
        _draw(tiny, seed)
        found[seed], there = slabs(tiny, tokens)
        if found[seed] == there:
            return [seed], there
    ever = set().union(*found.values())
    chosen: list[int] = []
    left = set(ever)
    while left or not chosen:
        best = max(found, key=lambda seed: len(found[seed] & left))
        chosen.append(best)
        left -= found[best]
    return chosen, ever


def _proved(
    tiny: torch.nn.Module, axes: Axes, draws: Sequence[int], runs: Sequence[Run]
) -> tuple[Axes, Proof]:
    """Proved under each of several draws of weights, and one more; the first is left in the module.

    Larger groups have to change what a model gives under one of them.
    """
    proofs: list[Proof] = []
    for seed in draws:
        _draw(tiny, seed)
        changed = _largest(proof.larger for proof in proofs)
        known = {name for name, change in changed.items() if change > LARGER}
        axes, proof = proved_in(tiny, axes, runs, known=known)
        proofs.append(proof)
    for witness in [seed for seed in WITNESSES if seed not in draws][:1]:
        _draw(tiny, witness)
        axes = confirmed(tiny, axes, runs, witness)
    _draw(tiny, draws[0])
    return axes, Proof(
        _largest(proof.alone for proof in proofs),
        max(proof.together for proof in proofs),
        _largest(proof.larger for proof in proofs),
    )


def _largest(found: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """By the names of spaces, of several proofs."""
    most: dict[str, float] = {}
    for differences in found:
        for name, difference in differences.items():
            most[name] = max(difference, most.get(name, difference))
    return most


def _draw(tiny: torch.nn.Module, seed: int) -> None:
    randomise(tiny, seed, spread=0.4 if seed < _CLOSER else 0.1)


def with_whole_slabs(axes: Axes, read: Set[tuple[str, int]]) -> Axes:
    """With the residual stream on all slabs of tensors of which it has some, all alike.

    Parameters
    ----------
    axes : Axes
    read : set of tuple of str and int
        Slabs that any run has read: a tensor of which the stream is not on all of these is left.
    """
    stream = axes.residual
    if stream is None:
        return axes
    alike: dict[tuple[str, int], set[Member]] = {}
    for member in stream.members:
        if member.slab is not None:
            place = member.tensor, member.axis
            alike.setdefault(place, set()).add(replace(member, slab=None))
    missed = {name for name, _ in read - {(m.tensor, m.slab) for m in stream.members}}
    whole = {p for p, ways in alike.items() if len(ways) == 1 and p[0] not in missed}
    members = dict.fromkeys(
        replace(m, slab=None) if (m.tensor, m.axis) in whole else m for m in stream.members
    )
    spaces = tuple(replace(s, members=tuple(members)) if s is stream else s for s in axes.spaces)
    return replace(axes, spaces=spaces, alike=tuple(sorted({name for name, _ in whole})))


def _read_in_part(axes: Axes, shapes: Mapping[str, tuple[int, ...]], read: Set[Slab]) -> set[str]:
    """Tensors of which the residual stream's space has some slabs, and others were not read."""
    slabs: dict[str, set[int]] = {}
    for member in axes.residual.members if axes.residual is not None else ():
        if member.slab is not None:
            slabs.setdefault(member.tensor, set()).add(member.slab)
    for name, slab in read:
        if name in slabs and slab is not None:
            slabs[name].add(slab)
    return {name for name, found in slabs.items() if len(found) < shapes[name][0]}


def _shapes(model: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in tensors(model).items()}


def _builder(given: Any) -> tuple[Any, Callable[[Any], torch.nn.Module]]:
    """A config, and how models are made of configs of its kind."""
    if isinstance(given, torch.nn.Module):
        return given.config, type(given)._from_config  # type: ignore[attr-defined]
    return given, auto_class(given).from_config


def auto_class(config: Any) -> Any:
    """The class of transformers that makes and loads language models of such configs.

    Raises
    ------
    ValueError
        If there is none.
    """
    import transformers
    from transformers.models.auto import modeling_auto as auto

    kinds = [
        (transformers.AutoModelForCausalLM, auto.MODEL_FOR_CAUSAL_LM_MAPPING),
        (transformers.AutoModelForSeq2SeqLM, auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING),
        (transformers.AutoModelForSpeechSeq2Seq, auto.MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING),
        (transformers.AutoModelForImageTextToText, auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING),
        (transformers.AutoModelForMaskedLM, auto.MODEL_FOR_MASKED_LM_MAPPING),
        (transformers.AutoModel, auto.MODEL_MAPPING),
    ]
    if getattr(config, "is_encoder_decoder", False):  # of which a causal model is one half
        kinds[:3] = [*kinds[1:3], kinds[0]]
    for kind, mapping in kinds:
        if type(config) in mapping:
            return kind
    raise ValueError(
        f"no model of transformers belongs to a {type(config).__name__}: give a model, or a config"
    )


def _heads(tiny: Any, full: Any) -> Callable[[int], int | None]:
    """From a number of heads in the tiny config to that of the full one."""
    small, large = (c.get_text_config(decoder=True).to_dict() for c in (tiny, full))

    def find(count: int) -> int | None:
        fields = [k for k, v in small.items() if re.search("head|group", k) and v == count]
        counts = {large[k] for k in fields if isinstance(large.get(k), int) and large[k] > 1}
        return counts.pop() if len(counts) == 1 else None

    return find
