"""Lists that name the kind of each layer: other lists of the same kinds, and other spellings.

Where no number says how many layers there are, or how many of one kind, such a list does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bmatch.architecture.shrink import LAYERS, flat_values, parts_of, with_fields
from bmatch.architecture.stored import Spellings


def lists_of_kinds(values: Mapping[str, Any]) -> dict[str, list[str]]:
    """The fields among a config's flat values that name kinds, as their entries."""
    return {
        field: list(value)
        for field, value in values.items()
        if isinstance(value, (list, tuple)) and value
        if all(isinstance(entry, str) and entry.isidentifier() for entry in value)
    }


def other_lists(values: Mapping[str, Any], field: str) -> Iterator[dict[str, Any]]:
    """Changes of a config to longer lists of the same kinds, in other shares of each.

    Numbers of layers that are as the list is long are changed with it.
    """
    given = list(values[field])
    place = field.rpartition(".")[0]
    numbers = [
        other
        for other, value in values.items()
        if other.rpartition(".")[0] == place and LAYERS.match(other.rpartition(".")[2])
        if type(value) is int and value == len(given)
    ]
    kinds = dict.fromkeys(given)
    for more in (given, *([kind] * times for kind in kinds for times in (1, 2))):
        entries = [*given, *more]
        yield {field: entries, **dict.fromkeys(numbers, len(entries))}


def counts_of(field: str, entries: Sequence[str]) -> list[str]:
    """Expressions for how long a list is, and how many entries of each kind, if several, it has."""
    kinds = list(dict.fromkeys(entries))
    of_kinds = [f"{field}.count({kind!r})" for kind in kinds] if len(kinds) > 1 else []
    return [f"len({field})", *of_kinds]


def spellings_of(config: Any, field: str) -> Spellings:
    """Other ways in which a config's class takes a list, as older files have it.

    By the list's own name older names of kinds. By those of other fields what the class computes
    from the list and reads in its place: a string with a letter for each entry, say.
    """

    def read(**told: Any) -> list[str] | None:
        try:
            return list(flat_values(with_fields(config, {**changes, **told}))[field])
        except Exception:  # each class has checks, and errors, of its own
            return None

    place, _, _ = field.rpartition(".")
    changes = next(other_lists(flat_values(config), field))
    entries = changes[field]
    part = with_fields(config, changes)
    for name in place.split(".") if place else ():
        part = parts_of(part)[name]
    found = {}
    older = {
        old: new
        for old, new in _older_names().items()
        if new in entries and read(**{field: [old if e == new else e for e in entries]}) == entries
    }
    if older:
        found[field] = older
    for name, computed in vars(type(part)).items():
        if not isinstance(computed, property):
            continue
        other = f"{place}.{name}" if place else name
        told = getattr(part, name, None)
        if isinstance(told, (str, list, tuple)) and len(told) == len(entries):
            stands_for = dict(zip(told, entries, strict=True))
            plain = [stands_for[entry] for entry in told]
            if plain == entries == read(**{field: ..., other: told}):
                found[other] = stands_for
    return found


def _older_names() -> Mapping[str, str]:
    """What kinds of layers were once called, and are."""
    from transformers import configuration_utils

    found: Mapping[str, str] = getattr(configuration_utils, "_LEGACY_LAYER_TYPE_REMAP", {})
    return found
