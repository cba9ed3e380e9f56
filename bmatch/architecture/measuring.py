"""Sizes of a model as expressions of its config, found by changing fields of small configs.

A field that is doubled tells by what it multiplies: a length that doubles has it as a factor. Sums
of products (q, k and v in one) are told apart by doubling fields together. What no number tells may
be the length of a list of kinds, or how many entries of one kind it has: longer lists tell. What an
expression says is then compared with models under many fields changed at once.
"""

from __future__ import annotations

import copy
import itertools
import math
import random
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeAlias

import torch

from bmatch.architecture.describing import Split, splitter
from bmatch.architecture.expressions import evaluate
from bmatch.architecture.layer_kinds import counts_of, lists_of_kinds, other_lists
from bmatch.architecture.shrink import flat_values, with_fields

Changes: TypeAlias = Mapping[str, Any]
Quantity: TypeAlias = Callable[[Changes], int | None]
"""Something of a model with changed fields; None where there is no such model, or no one number."""

PROBES = 8
"""Configs with many fields changed that expressions are compared on."""
_NO_SIZES = re.compile(r".*token_id|.*_idx|.*seed")


class Measured:
    """Shapes of the models of one class, by what is changed in a small config.

    Parameters
    ----------
    config
        Of a small model.
    build : callable
        From a config to a model.
    """

    def __init__(self, config: Any, build: Callable[[Any], torch.nn.Module]) -> None:
        self._config, self.build = config, build
        self.values = flat_values(config)
        self.fields = {
            key: value
            for key, value in self.values.items()
            if type(value) is int and value > 0 and not _NO_SIZES.fullmatch(key.rpartition(".")[2])
        }
        self._kinds = lists_of_kinds(self.values)
        self._lengths: dict[tuple[str, int], str | None] = {}
        self._known: dict[str, dict[str, tuple[int, ...]] | None] = {}
        counted = {path: self._expression(self._count(path)) for path in self._paths()}
        self.lists = {
            path: found for path, found in counted.items() if found and not found.isdigit()
        }
        outer = [path for path in self.lists if "#" not in path]
        inner = [path.replace("#", "{layer}", 1) for path in self.lists if path not in outer]
        self.lists = {path: self.lists[path] for path in outer}
        self.split: Split = splitter(outer, [path.replace("#", "{}") for path in inner])

    def changed(self, changes: Mapping[str, Any]) -> Any:
        """The config with other values."""
        return with_fields(self._config, changes)

    def shapes(self, changes: Mapping[str, Any]) -> dict[str, tuple[int, ...]] | None:
        """Shapes of a model's tensors by name; None if there is no model of this config."""
        key = repr(sorted(changes.items(), key=str))
        if key not in self._known:
            try:
                self._known[key] = self.of(self.changed(changes), self.build)
            except Exception:  # each class has checks, and errors, of its own
                self._known[key] = None
        return self._known[key]

    @staticmethod
    def of(config: Any, build: Callable[[Any], torch.nn.Module]) -> dict[str, tuple[int, ...]]:
        """Shapes of the tensors of one model by name."""
        with torch.device("meta"):
            model = build(copy.deepcopy(config))
        return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}

    def samples(self) -> Iterator[tuple[Any, dict[str, tuple[int, ...]]]]:
        """Configs with many fields changed at once, and the shapes of their models."""
        for probe in (*self._probes(PROBES), *self._lists()):
            shapes = self.shapes(probe)
            if shapes is not None:
                yield self.changed(probe), shapes

    def length(self, template: str, axis: int) -> str | None:
        """The length of an axis of all tensors of a template; None if none was found."""
        key = template, axis
        if key not in self._lengths:
            self._lengths[key] = self._expression(self._length(template, axis))
        return self._lengths[key]

    def computed(self, name: str) -> str | None:
        """A number that configs compute, as an expression of fields; None if it has none."""

        def number(changes: Changes) -> int | None:
            try:
                value = getattr(self.changed(changes), name, None)
            except Exception:  # each class has checks, and errors, of its own
                return None
            return value if type(value) is int else None

        found = self._expression(number)
        return found if found and not found.isdigit() else None  # a list may say how many

    def left_out(self, field: str) -> str | list[str] | None:
        """What a field is that a config leaves out: a number, an expression of others, a list."""
        if field in self._kinds:
            given = flat_values(type(self._config)()).get(field)
            return None if given is None else list(given)
        probes = [{}, *self._probes(PROBES)]
        found = [self._filled({**probe, field: ...}).get(field) for probe in probes]
        if all(type(value) is int for value in found):
            for candidate in (str(found[0]), *self._candidates(field)):
                values = [evaluate(candidate, {**self.fields, **probe}) for probe in probes]
                if values == found:
                    return candidate
        default = flat_values(type(self._config)()).get(field)
        if type(default) is int and {*found} <= {None, default}:  # lists are as long as layers are
            return str(default)
        return self._as_good_as(field, ...)

    def _filled(self, changes: Mapping[str, Any]) -> dict[str, Any]:
        """What a config comes to; empty if its class does not take it."""
        try:
            return flat_values(self.changed(changes))
        except Exception:  # each class has checks, and errors, of its own
            return {}

    def null(self, field: str) -> str | None:
        """What a field comes to that is null: as good as which expression of others."""
        return self._as_good_as(field, None)

    def _as_good_as(self, field: str, absent: Any) -> str | None:
        if self.shapes({field: absent}) is None:
            return None
        for candidate in self._candidates(field):
            right = 0
            for probe in [{}, *self._probes(PROBES)]:
                rest = {key: value for key, value in probe.items() if key != field}
                value = evaluate(candidate, {**self.fields, **rest})
                null = self.shapes({**rest, field: absent})
                if value and null is not None:
                    if null != self.shapes({**rest, field: value}):
                        break
                    right += 1
            else:
                if right > 2:
                    return candidate
        return None

    def _candidates(self, field: str) -> list[str]:
        others = [name for name in self.fields if name != field]
        ratios = [f"{a}//{b}" for a, b in itertools.permutations(others, 2)]
        return [*others, *ratios, *(f"{times}*{name}" for times in (2, 3, 4) for name in others)]

    def _paths(self) -> list[str]:
        """Lists of modules, with ``#`` for numbers further up."""
        found: dict[str, None] = {}
        for name in self.shapes({}) or {}:
            parts = name.split(".")
            for k, part in enumerate(parts):
                if part.isdigit():
                    found[_numbered(parts[:k])] = None
        return list(found)

    def _count(self, path: str) -> Quantity:
        depth = len(path.split("."))

        def count(changes: Changes) -> int | None:
            shapes = self.shapes(changes)
            if shapes is None:
                return None
            parts = [name.split(".") for name in shapes]
            numbers = [
                int(p[depth])
                for p in parts
                if len(p) > depth and p[depth].isdigit() and _numbered(p[:depth]) == path
            ]
            return max(numbers, default=-1) + 1 or None

        return count

    def _length(self, template: str, axis: int) -> Quantity:
        def length(changes: Changes) -> int | None:
            shapes = self.shapes(changes)
            if shapes is None:
                return None
            found = {s[axis] for n, s in shapes.items() if self.split(n)[0] == template}
            return found.pop() if len(found) == 1 else None

        return length

    def _expression(self, quantity: Quantity) -> str | None:
        """The one expression of fields that a quantity is under all changes; None if none is."""
        base = quantity({})
        if base is None:
            return None
        found = self._of_numbers(quantity, base)
        if found is None or found.isdigit():
            return self._of_entries(quantity, base) or found
        return found

    def _of_entries(self, quantity: Quantity, base: int) -> str | None:
        """The one count of a list's entries that a quantity is; None if it is none, or several."""
        found = []
        for field, given in self._kinds.items():
            probes = [*other_lists(self.values, field), *self._probes(PROBES)]
            there = [(value, probe) for probe in probes if (value := quantity(probe)) is not None]
            if {value for value, _ in there} <= {base}:
                continue
            pairs = [(base, self.values)]
            pairs += [(value, {**self.values, **self._filled(probe)}) for value, probe in there]
            found += [
                expression
                for expression in counts_of(field, given)
                if all(value == evaluate(expression, fields) for value, fields in pairs)
            ]
        return found[0] if len(found) == 1 else None

    def _of_numbers(self, quantity: Quantity, base: int) -> str | None:
        doubled = {f: quantity({f: 2 * v}) for f, v in self.fields.items()}
        moved = {f: value for f, value in doubled.items() if value not in (None, base)}
        expression = str(base) if not moved else self._product(base, moved)
        if expression is None and len(moved) <= 4:
            expression = self._sum(quantity, {f: (n or 0) < base for f, n in moved.items()})
        if expression is None:
            return None
        # A field that cannot be changed by itself may be what seems to be a number.
        if None in doubled.values() and re.search(r"(^|\+)\d\d*($|\+)", expression) and base > 1:
            return None
        for probe in (*self._probes(PROBES), *self._lists()):
            value = quantity(probe)
            if value is not None and value != evaluate(expression, {**self.fields, **probe}):
                return None
        return expression

    def _product(self, base: int, moved: Mapping[str, int | None]) -> str | None:
        over = [f for f, value in moved.items() if value == 2 * base]
        under = [f for f, value in moved.items() if value is not None and 2 * value == base]
        if len(over) + len(under) < len(moved):
            return None
        value = math.prod(self.fields[f] for f in over)
        times, rest = divmod(base * math.prod(self.fields[f] for f in under), value)
        if rest or not times:
            return None
        product = "*".join([*([] if times == 1 else [str(times)]), *over])
        return "//".join([product, *under]) if product else None

    def _sum(self, quantity: Quantity, under: Mapping[str, bool]) -> str | None:
        """A sum of products, each with every field at most once, by differences.

        Fields that are `under` others divide: to halve them doubles terms that have them.
        """
        if any(below and self.fields[f] % 2 for f, below in under.items()):
            return None
        more = {
            f: self.fields[f] // 2 if below else 2 * self.fields[f] for f, below in under.items()
        }
        subsets = [s for k in range(len(more) + 1) for s in itertools.combinations(more, k)]
        values = {some: quantity({f: more[f] for f in some}) for some in subsets}
        if None in values.values():
            return None
        # What doubling all of some fields adds is what all terms come to that have them all.
        added = {
            chosen: sum(
                (-1) ** (len(chosen) - len(some)) * (values[some] or 0)
                for some in subsets
                if set(some) <= set(chosen)
            )
            for chosen in subsets
        }
        terms = {
            chosen: sum(
                (-1) ** (len(more) - len(chosen)) * added[more]
                for more in subsets
                if set(more) >= set(chosen)
            )
            for chosen in subsets
        }
        return _written(terms, self.fields, under)

    def _lists(self) -> Iterator[Changes]:
        """Longer lists of kinds, one at a time."""
        for field in self._kinds:
            yield from other_lists(self.values, field)

    def _probes(self, count: int) -> list[dict[str, int]]:
        """Many fields changed at once, always the same ones."""
        chance = random.Random(0)
        alone = [f for f, v in self.fields.items() if self.shapes({f: 2 * v}) is not None]
        probes = []
        for _ in range(count):
            some = [f for f in alone if chance.random() < 0.6]
            probes.append({f: self.fields[f] * chance.choice((2, 4)) for f in some})
        return [probe for probe in probes if self.shapes(probe) is not None]


def _numbered(parts: Iterable[str]) -> str:
    return ".".join("#" if part.isdigit() else part for part in parts)


def _written(
    terms: Mapping[tuple[str, ...], int], fields: Mapping[str, int], under: Mapping[str, bool]
) -> str | None:
    """Terms by their fields, with what each comes to, as text."""
    found = []
    for chosen, value in sorted(terms.items(), key=lambda term: term[1] < 0):  # no sign in front
        above, below = ([f for f in chosen if under[f] is down] for down in (False, True))
        whole = value * math.prod(fields[f] for f in below)
        times, rest = divmod(whole, math.prod(fields[f] for f in above))
        if rest:
            return None
        if times:
            product = "*".join([*([] if times == 1 and above else [str(times)]), *above])
            found.append("//".join([product, *below]))
    text = "+".join(found).replace("+-", "-")
    return None if text.startswith("-") else text or None
