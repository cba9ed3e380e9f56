"""Formats as tables: the names of a file's tensors, and the shape of each in letters.

One letter an axis: ``d`` is the residual stream with its signs, ``+d`` without, every other letter
a length that is the same wherever it stands, ``_`` any length. ``o`` is the stream of another
place, where a transcoder writes. Names may hold ``{}`` for a number, ``{*}`` for anything.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache

from bmatch.transport.objects import Along


@dataclass(frozen=True)
class Format:
    """One variant of a package's files.

    Attributes
    ----------
    name : str
        Of the package, and what tells the variant from others.
    tensors : mapping of str to str
        Shapes in letters, by name.
    required : tuple of str
        Names without which it is not this variant.
    """

    name: str
    tensors: Mapping[str, str]
    required: tuple[str, ...]

    def lengths(self, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, int] | None:
        """What each letter stands for in a file; None if the file is not of this variant."""
        missing = set(self.required)
        lengths: dict[str, int] = {}
        for name, shape in shapes.items():
            template = self._template(name)
            letters = None if template is None else self.tensors[template].split()
            if letters is None or len(letters) != len(shape):
                return None
            missing.discard(template or "")
            for letter, length in zip(letters, shape, strict=True):
                key = letter.removeprefix("+")
                if key != "_" and lengths.setdefault(key, length) != length:
                    return None
        return None if missing else lengths

    def words(self, name: str) -> tuple[str, ...] | None:
        """The letters of a tensor's axes; None if the format has no tensor of this name."""
        template = self._template(name)
        return None if template is None else tuple(self.tensors[template].split())

    def _template(self, name: str) -> str | None:
        for template, pattern in _patterns(tuple(self.tensors)):
            if pattern.fullmatch(name):
                return template
        return None

    def moves(self, names: Iterable[str], spaces: Iterable[str] = ("d", "o")) -> dict[str, Along]:
        """How tensors of these names move, where the letters of `spaces` lie in the stream."""
        letters = frozenset(spaces)
        return {
            name: Along(
                tuple(
                    (axis, not letter.startswith("+"))
                    for axis, letter in enumerate(self.words(name) or ())
                    if letter.removeprefix("+") in letters
                )
            )
            for name in names
        }


@cache
def _patterns(templates: tuple[str, ...]) -> tuple[tuple[str, re.Pattern[str]], ...]:
    return tuple(
        (
            template,
            re.compile(re.escape(template).replace(r"\{\}", r"\d+").replace(r"\{\*\}", ".+")),
        )
        for template in templates
    )


def matching(
    formats: Iterable[Format], shapes: Mapping[str, tuple[int, ...]]
) -> Iterator[tuple[Format, dict[str, int]]]:
    """The variants that a file may be of, with what their letters stand for in it."""
    for known in formats:
        lengths = known.lengths(shapes)
        if lengths is not None:
            yield known, lengths
