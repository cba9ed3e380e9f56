"""A table for all configs of a class of models: derived under small ones, and proved under each.

A field that is no size is tried with other values: flags turned, activations exchanged, what is
null given a number. Where the table holds, or only has more tensors, it is one for these, too.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch

from bmatch.architecture.counting import Counted
from bmatch.architecture.derived import blocks_of, family_of
from bmatch.architecture.deriving import proved_spaces
from bmatch.architecture.describing import carried_by
from bmatch.architecture.expressions import fields_of
from bmatch.architecture.forward_runs import runs_of
from bmatch.architecture.layer_kinds import lists_of_kinds, spellings_of
from bmatch.architecture.measuring import Measured
from bmatch.architecture.overlap import merged, without_lengths, without_requiring
from bmatch.architecture.proof import LARGER, Proof, proved_in
from bmatch.architecture.rules import HEADS, RESIDUAL, Family
from bmatch.architecture.shrink import flat_values, parts_of, values_of, with_twice_the_experts
from bmatch.architecture.solve import spaces_of, tensors
from bmatch.architecture.spaces import Axes, Space
from bmatch.architecture.stored import NAMED, Stored
from bmatch.architecture.survey import config_and_class
from bmatch.architecture.tiny import covering, generic_model, inputs_for, run_plainly

ACTIVATIONS = ("silu", "gelu", "gelu_new", "gelu_pytorch_tanh", "relu")
"""Activations that a table is tried with."""

_IRRELEVANT = re.compile(  # fields that say nothing of what tensors carry
    r"model_type|.*drop.*|.*token_id.*|.*_idx|.*init.*|use_cache|output_.*|return_dict|id2label"
    r"|label2id|problem_type|chunk_size_feed_forward|is_(encoder_)?decoder|is_encoder_decoder"
    r"|rope_.*|.*eps(ilon)?|pretraining_tp|.*loss.*|.*aux.*|torch.*|dtype|architectures|_.*"
    r"|transformers_version|summary_.*|task_specific_params|finetuning_task|classifier.*"
    r"|.*jitter.*|.*router_logits|time_step.*|rescale_.*|use_mamba.*|use_associative_scan"
    r"|per_layer_config"  # fields of single layers: lengths that differ are of any number
)


def _is_irrelevant(field: str) -> bool:
    return bool(_IRRELEVANT.fullmatch(_last(field)))


def _last(field: str) -> str:
    """The name of a field in the config that has it."""
    return field.rpartition(".")[2]


class Type:
    """A type of model, derived from small configs of its class."""

    def __init__(self, model_type: str) -> None:
        self.config, self.build = config_and_class(model_type)
        small = with_twice_the_experts(covering(self.config, self.build))
        self.grouped = False
        groups = _grouped(small)
        if groups is not None:
            try:  # as few classes as there are take one head for each head alone
                spaces_of(model := generic_model(groups, self.build), inputs_for(model))
                small, self.grouped = groups, True
            except Exception:  # of whatever kind a class raises
                pass
        self.measured = _with_sizes(Measured(small, self.build))
        self._axes: dict[str, tuple[Any, Axes, Proof]] = {}
        self._counted: dict[Any, str | None] = {}

    def derived(self, changes: Mapping[str, Any]) -> tuple[Any, Axes, Proof]:
        """A small model with changed fields, its spaces, and their proof."""
        key = repr(sorted(changes.items()))
        if key not in self._axes:
            model = generic_model(self.measured.changed(changes), self.build)
            shapes = {name: tuple(t.shape) for name, t in model.state_dict().items()}
            split = self.measured.split

            def wanted(space: Space) -> bool:
                return space.name == RESIDUAL or carried_by(space, shapes, split) is not None

            self._axes[key] = (model, *proved_spaces(model, wanted))
        return self._axes[key]

    def holds(self, changes: Mapping[str, Any]) -> bool:
        """Whether the spaces of the small model are those of one with changed fields, too."""
        plain, axes, _ = self.derived({})
        model = generic_model(self.measured.changed(changes), self.build)
        if _shapes(plain) != _shapes(model):
            return False
        kept, proof = proved_in(model, axes, runs_of(model))
        return kept.spaces == axes.spaces and proof.larger.get(RESIDUAL, 1.0) > LARGER

    def family(self, changes: Mapping[str, Any]) -> Family:
        """The rules for the small model with changed fields; lengths are expressions."""
        model, axes, _ = self.derived(changes)
        measured = self.measured
        if measured.shapes(changes) != measured.shapes({}):
            measured = Measured(measured.changed(changes), self.build)
        axis = {
            name: [measured.length(measured.split(name)[0], k) or "any" for k in range(t.ndim)]
            for name, t in model.state_dict().items()
        }
        text = model.config.get_text_config(decoder=True)

        counted = Counted(self.derived, measured, self.measured.split, changes, self._counted)
        family = family_of(
            axes,
            model,
            model,
            blocks=blocks_of(model.base_model, getattr(text, "num_hidden_layers", 0)),
            lists=tuple(measured.lists.items()),
            split=measured.split,
            lengths=axis,
            size=counted.units,
            cut=counted.pieces,
        )
        for rule in family.rules:
            if measured.split(rule.name)[0] != rule.name:
                raise ValueError(f"blocks differ in how {rule.name} carries the stream")
        return family


def _shapes(model: Any) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in tensors(model).items()}


def derive_type(model_type: str) -> Stored:
    """Derive and prove the table of a type, and find for which configs it holds.

    Raises
    ------
    ValueError
        If the stream has no gauge, or models of the class have tensors that the table does not
        tell of.
    """
    import transformers

    kind = Type(model_type)
    measured, config = kind.measured, kind.config
    family = kind.family({})
    if kind.grouped:  # a key for each query is a case of several, though spaces may lie otherwise
        field = next(f for f in measured.values if _KEYS.fullmatch(_last(f)))
        family = merged(family, kind.family({field: 2 * measured.values[field]}), inner=True)
    structure = {
        field: _entries(value)
        for field, value in measured.values.items()
        if _is_structure(field, value)
    }
    for field, value in _variants(measured.values):
        try:
            if not kind.holds({field: value}):
                family = merged(family, kind.family({field: value}))
        except Exception:  # no config of the class, or one of another table
            continue
        if measured.values[field] is None:
            structure.pop(field, None)  # any number
        elif value not in structure[field]:
            structure[field].append(value)
    sizes = {word: _named(word, kind) for word in NAMED}
    lengths = [word.length for r in family.rules if r not in HEADS for word in r.words]
    lengths += [k.size for k in family.kinds] + [n for _, n in family.lists] + [*sizes.values()]
    expressions = [x for x in lengths if x not in (*NAMED, "any")]
    used = {field for x in expressions for field in fields_of(x)}
    text = config.get_text_config(decoder=True)
    kinds = [field for field in lists_of_kinds(measured.values) if field in structure]
    _, axes, proof = kind.derived({})
    equal, fixed = _conditions(measured, config)
    table = Stored(
        model_type,
        family,
        sizes,
        {**structure, **fixed},
        equal,
        {f: found for f in sorted(used) if (found := measured.left_out(f))},
        {f: found for f in sorted(used) if (found := measured.null(f))},
        _aliases(config),
        {f: ways for f in kinds if (ways := spellings_of(measured.changed({}), f))},
        bool(getattr(text, "tie_word_embeddings", False)),
        transformers.__version__,
        {
            "alone": _rounded(max(proof.alone[space.name] for space in axes.spaces)),
            "together": _rounded(proof.together),
            "larger": _rounded(proof.larger.get("residual", 0.0)),
        },
    )
    return _whole(table, kind)


def _aliases(config: Any) -> dict[str, str]:
    """Other names of fields, of configs that it holds, too."""
    found = dict(getattr(config, "attribute_map", None) or {})
    for name, part in parts_of(config).items():
        found |= {f"{name}.{a}": f"{name}.{b}" for a, b in _aliases(part).items()}
    return found


_KEYS = re.compile(r"num_(key_value|kv)_heads|n_head_kv")


def _grouped(small: Any) -> Any:
    """The config with several query heads for each key head, if it has one for each; else None."""
    values = values_of(small)
    keys = [f for f in values if _KEYS.fullmatch(_last(f)) and type(values[f]) is int]
    heads = getattr(small, "num_attention_heads", None)
    if len(keys) != 1 or values[keys[0]] != heads or heads % 2:
        return None
    return type(small)(**{**values, keys[0]: heads // 2})


_UNWRITTEN = ("head_dim",)
"""Fields that models read where configs have them, though not all config classes name them."""


def _with_sizes(measured: Measured) -> Measured:
    """With numbers in fields that are null, or not named, and are sizes."""
    before = measured.shapes({}) or {}
    found = {}
    aliases = _aliases(measured.changed({}))
    unwritten = (field for field in _UNWRITTEN if field not in aliases)
    for field, value in {**dict.fromkeys(unwritten), **measured.values}.items():
        if value is None and not _is_irrelevant(field):
            after = measured.shapes({field: 24})
            if after is None or after == before or after.keys() != before.keys():
                continue
            try:  # what is not named is not always heeded everywhere
                model = generic_model(measured.changed({field: 24}), measured.build)
                model(**inputs_for(model))
            except Exception:  # of whatever kind a class raises
                continue
            found[field] = 24
    return Measured(measured.changed(found), measured.build) if found else measured


def _is_structure(field: str, value: Any) -> bool:
    number = type(value) in (int, float)
    # Numbers of layers in a list are no kinds of layers; where there are none there is one kind.
    number |= isinstance(value, (list, tuple)) and {type(v) for v in value} == {int}
    return not number and not _is_irrelevant(field)


def _entries(value: Any) -> list[Any]:
    if not isinstance(value, (list, tuple)):
        return [value]
    return [entry for k, entry in enumerate(value) if entry not in value[:k]]


def _variants(values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Fields with other values that a table may hold for, too."""
    for field, value in values.items():
        if _is_irrelevant(field):
            continue
        if isinstance(value, bool):
            yield field, not value
        elif isinstance(value, str) and value in ACTIVATIONS:
            yield from ((field, other) for other in ACTIVATIONS if other != value)
        elif value is None:
            yield field, 24
            yield field, 24.0


def _named(word: str, kind: Type) -> str:
    """The field for the width, the number of blocks, or the vocabulary.

    Of the config that the stream's width is a field of, where a config holds others.
    """
    measured, aliases = kind.measured, _aliases(kind.config)
    _, axes, _ = kind.derived({})
    stream = axes.residual
    for place in ("", *(f"{name}." for name in parts_of(kind.config))):
        fields = [aliases.get(f := f"{place}{NAMED[w]}", f) for w in ("D", word)]
        known = all(field in measured.fields for field in fields)
        if not known or stream is None or stream.size != measured.fields[fields[0]]:
            continue
        lengths = (measured.length(measured.split(m.tensor)[0], m.axis) for m in stream.members)
        if not place or fields[0] in lengths:
            return fields[1]
    if word == "L" and not parts_of(kind.config) and (found := measured.computed(NAMED[word])):
        return found
    raise ValueError(f"configs have no field {NAMED[word]} that is the stream's")


def _conditions(measured: Measured, config: Any) -> tuple[list[list[str]], dict[str, list[Any]]]:
    """Fields that have to be equal, or as they are: else there are other tensors."""

    def names(changes: Mapping[str, Any]) -> set[str]:
        return {measured.split(name)[0] for name in measured.shapes(changes) or {}}

    base = names({})
    equal: list[list[str]] = []
    fixed: dict[str, list[Any]] = {}
    for field, value in measured.fields.items():
        if names({field: 2 * value}) <= base or any(field in pair for pair in equal):
            continue
        twins = [
            other
            for other, same in measured.fields.items()
            if other != field
            and same == value
            and measured.shapes({field: 2 * value, other: 2 * value}) is not None
            and names({field: 2 * value, other: 2 * value}) <= base
        ]
        if twins:
            equal.append([field, twins[0]])
        else:
            fixed[field] = [flat_values(config)[field]]
    return equal, fixed


def _whole(table: Stored, kind: Type) -> Stored:
    """The table without lengths that are other than it says in models of other sizes.

    Raises
    ------
    ValueError
        If it does not tell of all tensors.
    """
    models = [(config, shapes) for config, shapes in kind.measured.samples() if _is_even(config)]
    try:
        full = Measured.of(kind.config, kind.build)
    except Exception:  # a class's own defaults are not always those of a model
        if not models:
            raise
    else:
        if not table.fits(kind.config.to_dict()):
            raise ValueError("the table does not hold for the class's own config")
        models.append((kind.config, full))
    sized = [(config, shapes) for config, shapes in models if table.fits(config.to_dict())]
    models = [m for m in sized if _has_spaces(table, *m) or _runs(m[0], kind)]
    contents = [(config.to_dict(), shapes) for config, shapes in models]
    wrong: set[tuple[str, int]] = set()
    for content, shapes in contents:
        axes = table.table(content)
        missed = {
            r.name for r in axes.rules if r.required and not shapes.keys() >= {*axes.names(r)}
        }
        table = replace(table, family=without_requiring(table.family, missed))
        axes = table.table(content)
        axes.require_names(shapes)
        wrong |= {(axes.row(name).name, axis) for name, axis in axes.other_lengths(shapes)}
    if wrong:
        table = replace(table, family=without_lengths(table.family, wrong))
    for content, shapes in contents:
        table.table(content).require_shapes(shapes)
        table.table(content).spaces(shapes)
    return table


def _has_spaces(table: Stored, config: Any, shapes: Mapping[str, Any]) -> bool:
    """Whether all spaces have places in tensors of these shapes, where the table knows them."""
    axes = table.table(config.to_dict())
    try:
        axes.spaces({name: shape for name, shape in shapes.items() if axes.rule(name)})
    except ValueError:
        return False
    return True


def _runs(config: Any, kind: Type) -> bool:
    """Whether there is a model of a config that may be made but not run: a width twice told."""
    if config is kind.config:
        return True
    plain = copy.deepcopy(config)
    run_plainly(plain)
    model = kind.build(plain).float().eval()
    try:
        with torch.no_grad():
            model(**inputs_for(model))
    except RuntimeError:  # sizes that do not go together
        return False
    return True


def _is_even(config: Any) -> bool:
    """Whether as many query heads belong to each key head."""
    parts = [config, *parts_of(config).values()]
    return all(map(_has_even_groups, parts))


def _has_even_groups(config: Any) -> bool:
    keys = [v for f, v in values_of(config).items() if _KEYS.fullmatch(f) and type(v) is int]
    heads = getattr(config, "num_attention_heads", None)
    return type(heads) is not int or all(heads % count == 0 for count in keys)


def _rounded(value: float) -> float:
    return float(f"{value:.1e}")
