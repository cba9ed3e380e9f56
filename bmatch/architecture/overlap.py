"""What the tables of several configs of one class have in common."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from bmatch.architecture.layout import Word
from bmatch.architecture.rules import Family, Rule


def merged(one: Family, other: Family, *, inner: bool = False) -> Family:
    """The table for configs of both kinds: what only one has is optional.

    Parameters
    ----------
    one, other : Family
    inner : bool
        Leave out spaces inside blocks in which they differ.

    Raises
    ------
    ValueError
        If they differ in how a tensor carries a space.
    """
    if (one.prefix, one.blocks, one.lists) != (other.prefix, other.blocks, other.lists):
        raise ValueError("blocks are in other places")
    ours, theirs = ({rule.name: rule for rule in family.rules} for family in (one, other))
    both = ours.keys() & theirs.keys()
    kept = []
    for kind in one.kinds:
        twin = next((k for k in other.kinds if k.name == kind.name), None)
        if twin == kind and all(_alike(ours[name], theirs[name], kind.key) for name in both):
            kept.append(kind)
        elif not inner or kind.key == "D":
            raise ValueError(f"they differ in {kind.name}")
    keys = {kind.key for kind in kept}
    rules = []
    for name in [*ours, *(name for name in theirs if name not in ours)]:
        first, second = ours.get(name), theirs.get(name)
        rule = first or second
        assert rule is not None
        words = [w if w.space in keys else w.without_space() for w in rule.words]
        if first and second:
            words = [
                _of_both(w, v) if w.length == v.length else w.of_any_length()
                for w, v in zip(words, second.words, strict=True)
            ]
        required = bool(first and second and first.required and second.required)
        rules.append(Rule(name, " ".join(map(str, words)), required))
    heads = one.heads or other.heads  # none where embeddings are tied
    if other.heads:
        heads = tuple(head for head in heads if head in other.heads)
    return replace(one, rules=tuple(rules), kinds=tuple(kept), heads=heads)


def without_lengths(family: Family, wrong: Collection[tuple[str, int]]) -> Family:
    """A table with axes of any length, and without the spaces whose size that was."""
    told = [rule.words[a] for rule in family.rules for n, a in wrong if n == rule.name]
    sizes = {word.length for word in told}
    lost = {word.space for word in told if len(word.pieces) > 1}
    kinds = tuple(k for k in family.kinds if k.size not in sizes and k.key not in lost)
    keys = {kind.key for kind in kinds}
    rules = []
    for rule in family.rules:
        words = [w if w.space in keys else w.without_space() for w in rule.words]
        words = [
            word.of_any_length() if (rule.name, axis) in wrong else word
            for axis, word in enumerate(words)
        ]
        rules.append(replace(rule, shape=" ".join(map(str, words))))
    return replace(family, rules=tuple(rules), kinds=kinds)


def without_requiring(family: Family, names: Collection[str]) -> Family:
    """A table in which these rows are optional."""
    rules = (replace(r, required=r.required and r.name not in names) for r in family.rules)
    return replace(family, rules=tuple(rules))


def _alike(one: Rule, other: Rule, key: str) -> bool:
    """Whether two rows carry a space in the same parts of the same axes.

    Parts of one length are one piece: there may be fewer where q has as many heads as k and v.
    """
    for w, v in zip(one.words, other.words, strict=True):
        if key not in (w.space, v.space):
            continue
        if w.space != v.space or _parts(w) != _parts(v):
            return False
        counts = len(w.pieces), len(v.pieces)
        if max(counts) > 1 and (w.length != v.length or (min(counts) > 1 and w != v)):
            return False
    return True


def _parts(word: Word) -> list[bool | None]:
    return [flips for piece in word.pieces for flips in (piece.odd or (None,))]


def _of_both(one: Word, other: Word) -> Word:
    """Of two ways to write an axis that with more pieces, if it carries the same space."""
    more = len(other.pieces) > len(one.pieces) and one.space == other.space != ""
    return other if more else one
