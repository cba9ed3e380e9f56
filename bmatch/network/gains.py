"""What each pair of units would add to the objective, and the best choice of pairs.

The objective is the sum over tensors of <A, g B>, each scaled to entries of mean square 1: with
noise in proportion to a tensor's scale this is the likelihood of g. For one space, all others held,
it is a sum over matched pairs of units; its maximum is an assignment problem.
"""

from __future__ import annotations

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
            for odd, held in ((False, gains._even), (True, gains._odd)):
                if held is not None:
                    total.add_products(held, torch.eye(self.size), odd, 1.0)
        return total

    def best(self, group: Group) -> Choice:
        """The best element of a group, by exact assignment."""
        scale = self.size / max(self.entries, 1.0)
        zero = torch.zeros(self.size, self.size)
        even = zero if self._even is None else self._even
        odd = zero if self._odd is None else self._odd
        if group == "signed_permutation":
            found = match(((even + odd.abs()) * scale).numpy(), "permutation")
            perm = np.asarray(found.gauge.perm)
            sign = np.where(odd.numpy()[np.arange(self.size), perm] < 0, -1, 1)
            return Choice(SignedPermutation(perm, sign), found)
        plus = match(((even + odd) * scale).numpy(), "permutation")
        if group == "permutation_global_sign" and self._odd is not None:
            minus = match(((even - odd) * scale).numpy(), "permutation")
            if minus.assignment.objective > plus.assignment.objective:
                perm = np.asarray(minus.gauge.perm)
                return Choice(SignedPermutation(perm, np.full(self.size, -1)), minus)
        return Choice(plus.gauge, plus)


class Choice(NamedTuple):
    """An element of a space's group, and the assignment that it comes from."""

    element: SignedPermutation
    match: GaugeMatch
