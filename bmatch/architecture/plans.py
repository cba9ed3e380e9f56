"""A second source: what transformers' plans for tensor parallelism say of tensors.

A matrix that is split by columns (``colwise``: its outputs) reads what all processes hold whole,
and one that is split by rows (its inputs) writes it: mostly the residual stream.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from bmatch.architecture.rules import Family, Rule
from bmatch.architecture.templates import numberless


class Agreement(NamedTuple):
    """Names of tensors by what plan and table say of them.

    Attributes
    ----------
    same : tuple of str
        That read the stream, or write it, by both.
    other : tuple of str
        That do the opposite by the table.
    inside : tuple of str
        That do not carry the stream by the table, but a latent inside the block.
    """

    same: tuple[str, ...]
    other: tuple[str, ...]
    inside: tuple[str, ...]


def agreement(family: Family, plan: Mapping[str, str]) -> Agreement:
    """Compare a table with the ``base_model_tp_plan`` of a config class."""
    found: dict[str, list[str]] = {"same": [], "other": [], "inside": []}
    for pattern, style in plan.items():
        reads = {"colwise": True, "rowwise": False}.get(style.removeprefix("packed_"))
        if reads is None:
            continue
        place = family.prefix + pattern.replace("*", "{}")
        for rule in family.rules:
            if numberless(rule.name) in (place, f"{place}.weight"):
                found[_kind(rule, reads)].append(rule.name)
    return Agreement(*map(tuple, found.values()))


def _kind(rule: Rule, reads: bool) -> str:
    if not rule.axes:
        return "inside"
    # Linear layers have outputs before inputs, and experts in one tensor have their number first.
    read = rule.axes[0][0] == len(rule.words) - 1
    return "same" if read == reads else "other"
