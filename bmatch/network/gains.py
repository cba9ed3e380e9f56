"""What each pair of units would add to the objective, and the best choice of pairs.

The objective is the sum over tensors of <A, g B>, each scaled to entries of mean square 1: with
noise in proportion to a tensor's scale this is the likelihood of g. For one space, all others held,
it is a sum over matched pairs of units; its maximum is an assignment problem.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch

from bmatch.gauge import SignedPermutation
from bmatch.groups import Group
from bmatch.matching import GaugeMatch, match


class Gains:
    """Gains of a space: of entries that flip with their unit, and of those that do not.

    In units of the mean unit's share: a perfect match of tensors that are the same has 1.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.entries = 0.0
        self._even: torch.Tensor | None = None
        self._odd: torch.Tensor | None = None

    def add(self, a: torch.Tensor, b: torch.Tensor, odd: bool, weight: float = 1.0) -> None:
        """Count units' entries ``[size, k]`` of target and source, weighted products of them."""
        self.add_products(a, b, odd, weight)
        self.entries += a.numel()

    def add_products(self, a: torch.Tensor, b: torch.Tensor, odd: bool, weight: float) -> None:
        """As `add`, where the entries are counted elsewhere."""
        held = self._odd if odd else self._even
        if held is None:
            held = torch.zeros(self.size, self.size)
            if odd:
                self._odd = held
            else:
                self._even = held
        held.addmm_(a, b.T, alpha=weight)

    def value(self, element: SignedPermutation) -> float:
        """What an element of the space contributes, in units of the objective's sum."""
        rows, perm = torch.arange(self.size), torch.as_tensor(np.array(element.perm))
        total = 0.0
        if self._even is not None:
            total += float(self._even[rows, perm].double().sum())
        if self._odd is not None:
            signs = torch.as_tensor(np.array(element.sign)).double()
            total += float((signs * self._odd[rows, perm].double()).sum())
        return total

    def plus(self, other: Gains) -> Gains:
        """The gains of both."""
        total = Gains(self.size)
        total.entries = self.entries + other.entries
        for gains in (self, other):
            if gains._even is not None:
                total._even = gains._even + (0 if total._even is None else total._even)
            if gains._odd is not None:
                total._odd = gains._odd + (0 if total._odd is None else total._odd)
        return total

    def best(self, group: Group) -> Choice:
        """The best element of a group, by exact assignment."""
        if group == "signed_permutation":
            found = self._matched(torch.abs)
            perm = np.array(found.gauge.perm)
            sign = np.ones(self.size, np.int8)
            if self._odd is not None:
                matched = self._odd[torch.arange(self.size), torch.as_tensor(perm)]
                sign[(matched < 0).numpy()] = -1
            return Choice(SignedPermutation(perm, sign), found)
        plus = self._matched(torch.clone)
        if group == "permutation_global_sign" and self._odd is not None:
            minus = self._matched(torch.neg)
            if minus.assignment.objective > plus.assignment.objective:
                flipped = np.full(self.size, -1)
                return Choice(SignedPermutation(minus.gauge.perm, flipped), minus)
        return Choice(plus.gauge, plus)

    def _matched(self, of_odd: Callable[[torch.Tensor], torch.Tensor]) -> GaugeMatch:
        """The best pairs, by what becomes of the gains of entries that flip."""
        gains = torch.zeros(self.size, self.size) if self._odd is None else of_odd(self._odd)
        if self._even is not None:
            gains += self._even
        gains *= self.size / max(self.entries, 1.0)
        return match(gains.numpy(), "permutation")


class Choice(NamedTuple):
    """An element of a space's group, and the assignment that it comes from."""

    element: SignedPermutation
    match: GaugeMatch
