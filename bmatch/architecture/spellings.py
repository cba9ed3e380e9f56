"""Tables of models by the names that other projects give to their tensors.

A project's names are told part by part: what transformers calls the same tensor, or the tensors
whose rows lie in it one below the other, or the stack of experts whose axes it has in another
order. From that and the table in transformers' names follows a table in the project's, and all that
is done with tables is done with it. Only the stream is told; a block's own spaces are not.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from bmatch.architecture.axes import ResidualAxes
from bmatch.architecture.layout import Word
from bmatch.architecture.rules import Family, Rule
from bmatch.architecture.templates import Templates, numberless

_BLOCKS = "model.layers.{layer}."
_EITHER, _ROWS, _FORM = " | ", " + ", " : "


@dataclass(frozen=True)
class Spelling:
    """What a project calls the tensors of models that transformers has, too.

    Names are on the left, those of transformers on the right. ``a | b`` stands for either, ``*``
    for ``weight`` and ``bias``, ``{}`` for any number. On the right ``a + b`` are rows, one below
    the other, and ``a : E F D`` are axes of `a`: ``E`` its first, ``D`` the stream's, ``F`` the one
    that is left, ``any`` one of which no length is told; ``a + b : E F D`` holds a part of `b`.

    Attributes
    ----------
    project : str
    mark : str
        A tensor that every model of the project has, and none of transformers.
    blocks : str
        The list of blocks.
    whole, block : mapping of str to str
        Of tensors beside blocks, below ``model.``; and within them.
    stacks : bool
        Whether blocks may be one tensor, on an axis before all others.
    turned : tuple of str
        How names end whose last two axes other versions have in the other order.
    """

    project: str
    mark: str
    blocks: str
    whole: Mapping[str, str]
    block: Mapping[str, str]
    stacks: bool = False
    turned: tuple[str, ...] = ()

    def spelled(self, axes: ResidualAxes, names: Iterable[str]) -> Spelled:
        """A model's table in this spelling.

        Parameters
        ----------
        axes : ResidualAxes
            In transformers' names.
        names : iterable of str
            What a checkpoint has: it tells which of several names are in use, and whether blocks
            are stacked.

        Raises
        ------
        ValueError
            If the model has tensors of which no name is known, or no length tells which axis of a
            tensor the stream's is.
        """
        there = {numberless(name) for name in names}
        numbered = any(name.startswith(f"{self.blocks}.{{}}.") for name in there)
        stacked = self.stacks and not numbered
        entries = self._entries(axes, stacked)
        found = [entry for entry in entries if numberless(entry.name) in there]
        used = {source.name for entry in found for source in entry.sources}
        for entry in entries:  # what is there under another name is not missing under this one
            made_of = {source.name for source in entry.sources}
            if not made_of <= used:
                found.append(entry)
                used |= made_of
        unknown = [rule.name for rule in axes.rules if rule.required and rule.name not in used]
        if unknown:
            few = ", ".join(unknown[:3]) + (", ..." if len(unknown) > 3 else "")
            raise ValueError(
                f"what {self.project} calls the tensors of a {axes.model_type} is not known: {few}"
            )
        ways = Counter(entry.key for entry in found)
        family = Family(
            rules=tuple(entry.rule(required=ways[entry.key] == 1) for entry in found),
            kinds=tuple(kind for kind in axes.family.kinds if kind.key == "D"),
            lists=((self.blocks, "L"),),
            blocks=self.blocks,
            prefix="",
            heads=tuple(e.name for e in found if e.sources[0].name in axes.family.heads),
            norm=axes.family.norm,
        )
        same = {entry.name: entry.sources[0].name for entry in found if entry.same and not stacked}
        made = Spelled(replace(axes, family=family), same)
        self._require_told(made.axes, there)
        return made

    def _entries(self, axes: ResidualAxes, stacked: bool) -> list[_Entry]:
        known = {rule.name: rule for rule in axes.rules}
        place = f"{self.blocks}." if stacked else f"{self.blocks}.{{layer}}."
        blocks = _entries(self.block, place, _BLOCKS, known)
        if stacked:
            blocks = (replace(entry, shape=f"L {entry.shape}") for entry in blocks)
        return [*_entries(self.whole, "", "model.", known), *blocks]

    def _require_told(self, axes: ResidualAxes, there: set[str]) -> None:
        for rule in axes.rules:
            if self.turned and rule.name.endswith(self.turned) and numberless(rule.name) in there:
                lengths = {axes.sizes.get(word.length) for word in rule.words[-2:]}
                if len(lengths) == 1:
                    raise ValueError(
                        f"versions of {self.project} have the axes of {rule.name} in one order or "
                        f"the other, and where both are {axes.dim} long nothing tells which"
                    )


@dataclass(frozen=True)
class Spelled:
    """A table in the names of a project.

    Attributes
    ----------
    axes : ResidualAxes
    same : mapping of str to str
        Templates of the tensors that transformers has as they are, and what it calls them.
    """

    axes: ResidualAxes
    same: Mapping[str, str]

    def in_transformers(self, name: str) -> str:
        """What transformers calls a tensor; its own name where that has none like it."""
        template = self._templates.find(name)
        if template is None:
            return name
        number = re.search(r"\.(\d+)\.", name)
        return self.same[template].replace("{layer}", number[1] if number else "")

    @cached_property
    def _templates(self) -> Templates:
        return Templates(self.same, {})


@dataclass(frozen=True)
class _Entry:
    """A template, those of which it is one, what it is made of, its shape; if it is just that."""

    name: str
    key: str
    sources: tuple[Rule, ...]
    shape: str
    same: bool

    def rule(self, *, required: bool) -> Rule:
        return Rule(self.name, self.shape, required and all(s.required for s in self.sources))


def _entries(
    told: Mapping[str, str], place: str, source: str, known: Mapping[str, Rule]
) -> Iterator[_Entry]:
    for names, meanings in told.items():
        for kind in ("weight", "bias") if "*" in names else ("",):
            key = names.replace("*", kind)
            for sources, form in _made(meanings.replace("*", kind), source, known):
                same = len(sources) == 1 and not set("EF") & set(form)
                for name in key.split(_EITHER):
                    yield _Entry(place + name, key, sources, _shape(sources, form), same)


def _made(
    meanings: str, place: str, known: Mapping[str, Rule]
) -> Iterator[tuple[tuple[Rule, ...], str]]:
    """The first meaning of which the table has all parts, and the axes that it tells, if any."""
    for meaning in meanings.split(_EITHER):
        parts, _, form = meaning.partition(_FORM)
        full = [name if name in known else place + name for name in parts.split(_ROWS)]
        if all(name in known for name in full):
            yield tuple(known[name] for name in full), form
            return


def _shape(sources: tuple[Rule, ...], form: str) -> str:
    first, *rest = sources[0].words
    if not form:
        rows = [_told(source.words[0]) for source in sources]
        return " ".join(["|".join(rows), *map(_told, rest)])
    letters = {"E": first, **{"D" if word.space == "D" else "F": word for word in rest}}
    return " ".join(_told(letters[x]) if x in letters else x for x in form.split())


def _told(word: Word) -> str:
    """A word that tells of no space but the stream."""
    return str(word) if word.space == "D" else "|".join(piece.length for piece in word.pieces)
