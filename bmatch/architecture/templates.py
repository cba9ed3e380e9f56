"""Names of tensors as templates: ``{layer}`` for the number of a block, ``{}`` for any number."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping


def numberless(name: str) -> str:
    """A tensor's name with ``{}`` in place of the numbers of modules, and of ``{layer}``."""
    return re.sub(r"(?<=\.)(\d+|\{layer\})(?=\.)", "{}", name)


def placed(template: str, name: str) -> str:
    """A template with the numbers that stand in a name in the same places."""
    parts = template.split(".")
    given = name.split(".")
    for k, part in enumerate(parts[: len(given)]):
        parts[k] = re.sub(r"^\{(layer)?\}", given[k], part)
    return ".".join(parts)


class Templates:
    """Finds the template that a name is of.

    Parameters
    ----------
    names : iterable of str
        Templates.
    lists : mapping of str to int
        How many modules there are in a list, by what stands before ``.{layer}``.
    """

    def __init__(self, names: Iterable[str], lists: Mapping[str, int]) -> None:
        self._lists = lists
        self._alike: dict[str, list[str]] = defaultdict(list)
        for name in names:
            self._alike[numberless(name)].append(name)
        for alike in self._alike.values():  # a number that is written before one that may be any
            alike.sort(key=lambda name: name.count("{"))

    def find(self, name: str) -> str | None:
        """The template; None if there is none."""
        parts = name.split(".")
        alike = self._alike.get(numberless(name), ())
        return next((t for t in alike if self._fits(parts, t.split("."))), None)

    def _fits(self, parts: list[str], wanted: list[str]) -> bool:
        for k, (part, place) in enumerate(zip(parts, wanted, strict=True)):
            if place == "{layer}":
                count = self._lists.get(".".join(wanted[:k]))
                if count is not None and int(part) >= count:
                    return False
            elif place not in ("{}", part):
                return False
        return True
