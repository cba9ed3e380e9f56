"""Tables as files: JSON with one line a tensor, read without torch or transformers.

A file holds for configs of one structure. Its sizes are expressions of the config's fields, and
what the config leaves out is as transformers' class had it when the file was written.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

from bmatch.architecture.axes import ResidualAxes
from bmatch.architecture.expressions import evaluate, fields_of, lists_of
from bmatch.architecture.rules import Family, Kind, Rule

FOLDER = Path(__file__).parent / "data"
"""Tables that come with bmatch: ``MODEL_TYPE.json``."""

NAMED = {"D": "hidden_size", "L": "num_hidden_layers", "V": "vocab_size"}
"""Sizes that every table has, and what configs mostly call them."""


Spellings: TypeAlias = Mapping[str, Mapping[str, str]]
"""By names of fields that tell a list in another way, the kind that an entry there stands for."""


@dataclass(frozen=True)
class Stored:
    """A table for all configs of one structure.

    Attributes
    ----------
    model_type : str
    family : Family
    sizes : dict of str to str
        Expressions for what `NAMED` lists.
    structure : dict of str to list
        Values of fields, or of the entries of lists, for which the table holds; other fields are
        sizes, or nothing to it.
    equal : list of list of str
        Fields that have to be equal.
    left_out, null : dict of str to str or list of str
        What fields are that a config leaves out, or has as null.
    aliases : dict of str to str
        Other names of fields.
    spelled : dict of str to dict
        Lists of kinds, and other fields that may tell them: what each entry there is here. By a
        list's own name what its entries are called in older files.
    tied : bool
        Whether embeddings are tied where the config does not say.
    transformers : str
        Its version.
    proved : dict of str to float
        Largest changes of an output, as the largest output: under every space alone, all at once,
        and the next larger group of the stream.
    """

    model_type: str
    family: Family
    sizes: Mapping[str, str]
    structure: Mapping[str, list[Any]]
    equal: list[list[str]]
    left_out: Mapping[str, str | list[str]]
    null: Mapping[str, str]
    aliases: Mapping[str, str]
    spelled: Mapping[str, Spellings]
    tied: bool
    transformers: str
    proved: Mapping[str, float]

    def fits(self, config: Mapping[str, Any]) -> bool:
        """Whether a config has the structure that the table was derived for."""
        fields = self._fields(config)
        for field, accepted in self.structure.items():
            given = fields.get(field)
            values = given if isinstance(given, (list, tuple)) else [given]
            if field in fields and not all(_among(value, accepted) for value in values):
                return False
        # A size that is null where the class has another meaning for that: no such tensors.
        if any(name in fields and fields[name] is None for name in self._named()):
            return False
        return all(fields.get(one) == fields.get(other) for one, other in self.equal)

    def table(self, config: Mapping[str, Any]) -> ResidualAxes:
        """The table in the sizes of a config.

        Raises
        ------
        ValueError
            If width, blocks or vocabulary are no positive numbers.
        """
        fields = self._fields(config)
        sizes: dict[str, int] = {}
        for word, expression in self.sizes.items():
            value = evaluate(expression, fields)
            if value is None:
                lists = lists_of(expression)
                bad = [
                    name
                    for name in fields_of(expression)
                    if evaluate(f"len({name})" if name in lists else name, fields) is None
                ]
                raise ValueError(
                    f"the config of this {self.model_type} is damaged: it has no {bad[0]}"
                )
            sizes[word] = value
        for expression in self._lengths():
            value = evaluate(expression, fields)
            if value is not None:
                sizes[expression] = value
        tied = config.get("tie_word_embeddings")
        return ResidualAxes(
            self.model_type, self.family, sizes, bool(self.tied if tied is None else tied)
        )

    def _named(self) -> set[str]:
        """The fields that sizes go by."""
        expressions = [*self.sizes.values(), *self._lengths()]
        return {name for expression in expressions for name in fields_of(expression)}

    def _lengths(self) -> Iterator[str]:
        words = (word for rule in self.family.rules for word in rule.words)
        lengths = {piece.length for word in words for piece in word.pieces}
        lengths |= {kind.size for kind in self.family.kinds}
        lengths |= {length for _, length in self.family.lists}
        yield from (x for x in lengths if x not in self.sizes and x != "any" and not x.isdigit())

    def _fields(self, config: Mapping[str, Any]) -> dict[str, Any]:
        fields = {self.aliases.get(key, key): value for key, value in _flat(config).items()}
        for field, spellings in self.spelled.items():
            for other, kinds in spellings.items():
                told = fields.get(other)
                free = other == field or fields.get(field) is None
                if free and isinstance(told, (str, list, tuple)):
                    fields[field] = [kinds.get(entry, entry) for entry in told]
        absent = [(f, e) for f, e in self.left_out.items() if f not in fields]
        absent += [(f, e) for f, e in self.null.items() if f in fields and fields[f] is None]
        for _ in absent:  # one may be as another is
            for field, expression in absent:
                value: Any = expression
                if isinstance(expression, str):
                    value = evaluate(expression, fields)
                if value is not None:
                    fields[field] = value
        return fields


def _flat(config: Mapping[str, Any]) -> dict[str, Any]:
    """With the fields of configs inside of it as ``part.field``."""
    found = dict(config)
    for name, value in config.items():
        if isinstance(value, Mapping):
            found |= {f"{name}.{key}": inner for key, inner in _flat(value).items()}
    return found


def _among(value: Any, accepted: list[Any]) -> bool:
    return any(type(value) is type(other) and value == other for other in accepted)


def shipped() -> list[str]:
    """Types of models whose tables come with bmatch."""
    return sorted(path.stem for path in FOLDER.glob("*.json"))


@cache
def stored(model_type: str) -> Stored | None:
    """The table of a type that comes with bmatch; None if there is none."""
    if not model_type.replace("-", "_").isidentifier():
        return None
    path = FOLDER / f"{model_type}.json"
    return from_text(path.read_text(encoding="utf-8")) if path.is_file() else None


def from_text(text: str) -> Stored:
    """What `to_text` has written.

    Raises
    ------
    ValueError, KeyError, TypeError
        If it is anything else.
    """
    content = json.loads(text)
    rules = [Rule(name, shape) for name, shape in content["tensors"].items()]
    rules += [Rule(name, shape, required=False) for name, shape in content["optional"].items()]
    family = Family(
        rules=tuple(rules),
        kinds=tuple(
            Kind(key, kind["name"], kind["group"], kind["size"])
            for key, kind in content["spaces"].items()
        ),
        lists=tuple(content["lists"].items()),
        blocks=content["blocks"],
        prefix=content["prefix"],
        heads=tuple(content["heads"]),
        norm=content["norm"],
        **{key: tuple(told) for key, told in content.get("not_carried", {}).items()},
    )
    config = content["config"]
    return Stored(
        content["model_type"],
        family,
        content["sizes"],
        config["structure"],
        config["equal"],
        config["left_out"],
        config["null"],
        config["aliases"],
        config.get("spelled", {}),
        config["tied"],
        content["transformers"],
        content["proved"],
    )


def to_text(table: Stored) -> str:
    """A table as JSON, one line a tensor, a space, a field."""
    family = table.family
    content: dict[str, Any] = {
        "model_type": table.model_type,
        "transformers": table.transformers,
        "proved": dict(table.proved),
        "sizes": dict(table.sizes),
        "config": {
            "structure": dict(table.structure),
            "equal": table.equal,
            "left_out": dict(table.left_out),
            "null": dict(table.null),
            "aliases": dict(table.aliases),
            **({"spelled": dict(table.spelled)} if table.spelled else {}),
            "tied": table.tied,
        },
        "prefix": family.prefix,
        "blocks": family.blocks,
        "lists": dict(family.lists),
        "heads": list(family.heads),
        "norm": family.norm,
        "spaces": {
            kind.key: {"name": kind.name, "group": kind.group, "size": kind.size}
            for kind in family.kinds
        },
        "tensors": {rule.name: rule.shape for rule in family.rules if rule.required},
        "optional": {rule.name: rule.shape for rule in family.rules if not rule.required},
    }
    untold = {key: list(getattr(family, key)) for key in ("unknown", "refuted", "left_out")}
    if any(untold.values()):
        content["not_carried"] = untold
    return "{\n" + ",\n".join(_lines(content)) + "\n}\n"


def _lines(content: Mapping[str, Any]) -> Iterator[str]:
    for key, value in content.items():
        if isinstance(value, dict) and value and key != "proved":
            inside = ",\n".join(f"    {json.dumps(k)}: {json.dumps(v)}" for k, v in value.items())
            yield f"  {json.dumps(key)}: {{\n{inside}\n  }}"
        else:
            yield f"  {json.dumps(key)}: {json.dumps(value)}"
