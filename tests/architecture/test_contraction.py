"""Matrix products and convolutions: what meets what, and what is summed over."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from bmatch import architecture
from bmatch.architecture.constraints import Axis
from bmatch.architecture.solve import traced

CHANNELS = 6


class Convolved(nn.Module):
    """Linear, a convolution over positions, linear."""

    def __init__(self, groups, kernel=3, padding=2):
        super().__init__()
        self.read = nn.Linear(4, CHANNELS)
        self.conv = nn.Conv1d(CHANNELS, CHANNELS, kernel, groups=groups, padding=padding)
        self.write = nn.Linear(CHANNELS, 3)

    def forward(self, x):
        return self.write(self.conv(self.read(x).transpose(1, 2)).transpose(1, 2))


def spaces(module, *shape):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    found = architecture.derive(module, {"x": x})
    assert found.unknown == found.refuted == ()
    return {frozenset((m.tensor, m.axis) for m in s.members): s for s in found.spaces}


def test_a_depthwise_convolution_carries_its_channels():
    (space,) = spaces(Convolved(CHANNELS), 2, 7, 4).values()
    assert (space.size, space.group) == (CHANNELS, "signed_permutation")
    carried = {(m.tensor, m.axis) for m in space.members}
    assert {
        ("read.weight", 0),
        ("conv.weight", 0),
        ("conv.bias", 0),
        ("write.weight", 1),
    } <= carried


def test_a_full_convolution_ends_one_space_and_starts_another():
    found = spaces(Convolved(1), 2, 7, 4)
    before = found[frozenset({("read.weight", 0), ("read.bias", 0), ("conv.weight", 1)})]
    after = found[frozenset({("conv.weight", 0), ("conv.bias", 0), ("write.weight", 1)})]
    assert (before.size, after.size) == (CHANNELS, CHANNELS)
    assert len(found) == 2


def test_channels_that_a_group_reads_are_one_index_in_all_its_kernels():
    """Each in its group; a plain convolution has one group."""
    for groups in (1, 2):
        module = Convolved(groups)
        trace = traced(module, {"x": torch.randn(1, 7, 4)})
        c = trace.constraints
        number = {axis: k for k, axis in enumerate(c.axes)}
        atoms = np.arange(1, c.num_atoms)

        def of(*axis, c=c, number=number, atoms=atoms):
            return c.find(atoms[c.axis_of(atoms) == number[Axis(*axis)]])

        channels = of("read.weight", 0)
        size = CHANNELS // groups
        for slab in range(CHANNELS):
            first = slab // size * size
            read = channels[first : first + size]
            assert np.array_equal(of("conv.weight", 1, slab), read)


def test_groups_of_a_convolution_move_as_blocks():
    """The two groups, and in each of them the channels before and those after."""
    found = architecture.derive(Convolved(2), {"x": torch.randn(2, 7, 4)})
    assert sorted(space.size for space in found.spaces) == [2, 3, 3, 3, 3]
    assert found.refuted == ()


class Product(nn.Module):
    """Two linear maps of the input and what an operation makes of both."""

    def __init__(self, operation):
        super().__init__()
        self.one, self.other = nn.Linear(4, 5), nn.Linear(4, 5)
        self.operation = operation

    def forward(self, x):
        return self.operation(self.one(x), self.other(x))


@pytest.mark.parametrize(
    "operation",
    [
        lambda a, b: a @ b.T,
        lambda a, b: torch.einsum("ik,jk->ij", a, b),
        lambda a, b: torch.bmm(a[None], b.T[None]),
        lambda a, b: torch.addmm(torch.ones(3, 3), a, b.T),
        lambda a, b: torch.baddbmm(torch.ones(1, 3, 3), a[None], b.T[None], beta=2),
        lambda a, b: torch.stack([torch.mv(a, row) for row in b]),
        lambda a, b: torch.stack([torch.dot(one, other) for one, other in zip(a, b, strict=True)]),
        lambda a, b: (a * b).sum(-1),
    ],
)
def test_products_tie_what_they_sum_over(operation):
    (space,) = spaces(Product(operation), 3, 4).values()
    assert (space.size, space.group) == (5, "signed_permutation")
    assert {m.tensor for m in space.members} == {
        *("one.weight", "one.bias", "other.weight", "other.bias"),
    }


def test_a_transposed_convolution_has_no_rule():
    class Up(nn.Module):
        def __init__(self):
            super().__init__()
            self.read, self.conv = nn.Linear(4, 5), nn.ConvTranspose1d(5, 2, 3)

        def forward(self, x):
            return self.conv(self.read(x).transpose(1, 2))

    found = architecture.derive(Up(), {"x": torch.linspace(0, 1, 24).view(1, 6, 4)})
    assert found.unknown == ("transposed convolution",)
    assert found.spaces == ()


class BeforeTheFirst(nn.Module):
    """A linear map of each row of a stream, and of zeros in place of the row before the first."""

    def __init__(self, bias, before):
        super().__init__()
        self.read = nn.Linear(4, CHANNELS)
        self.map = nn.Linear(CHANNELS, 5, bias=bias)
        self.before = before

    def forward(self, x):
        first = self.map(torch.full((1, CHANNELS), self.before))
        return torch.cat([first, self.map(self.read(x))])


@pytest.mark.parametrize("bias", [True, False])
def test_zeros_demand_nothing_of_what_they_meet(bias):
    """Each coordinate flips by itself, which ones in place of zeros forbid."""

    def group(before):
        found = spaces(BeforeTheFirst(bias, before), 7, 4)
        (space,) = (s for names, s in found.items() if ("map.weight", 1) in names)
        return space.group

    assert group(0.0) == "signed_permutation"
    assert group(1.0) == "permutation"
