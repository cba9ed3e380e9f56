"""Rows written among others, and rows picked out of them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bmatch import architecture

WIDTH = 6
PLACES = torch.tensor([False, True, False, True, True])


class Mixed(nn.Module):
    """Embeddings of which some rows are what a linear layer makes of other input."""

    def __init__(self, write, after):
        super().__init__()
        self.embed, self.other = nn.Embedding(9, WIDTH), nn.Linear(4, WIDTH)
        self.head = nn.Linear(WIDTH, 3, bias=False)
        self.write, self.after = write, after

    def forward(self, tokens, x):
        return self.head(self.after(self.write(self.embed(tokens), self.other(x))))


def by_mask(rows, others):
    return rows.masked_scatter(PLACES[:, None], others)


def by_put(rows, others):
    rows = rows.clone()
    rows[PLACES] = others
    return rows


def by_copy(rows, others):
    return rows.index_copy(0, PLACES.nonzero()[:, 0], others)


def checked(rows, others):
    """The numbers of all that is replaced, picked entry by entry, are counted."""
    whole = PLACES[:, None].expand_as(rows)
    assert rows[whole].numel() == others.numel()
    return rows.masked_scatter(whole, others)


@pytest.mark.parametrize("write", [by_mask, by_put, by_copy, checked])
@pytest.mark.parametrize(
    ("after", "odd"), [(nn.Identity(), True), (nn.ReLU(), False)], ids=["plain", "relu"]
)
def test_rows_left_and_rows_written_flip_together(write, after, odd):
    torch.manual_seed(0)
    given = {"tokens": torch.tensor([3, 1, 4, 1, 5]), "x": torch.randn(3, 4)}
    found = architecture.derive(Mixed(write, after), given)
    assert found.unknown == found.refuted == ()
    (space,) = found.spaces
    assert (space.size, space.group) == (WIDTH, "signed_permutation" if odd else "permutation")
    assert {(m.tensor, m.axis, m.odd) for m in space.members} == {
        ("embed.weight", 1, (odd,)),
        ("other.weight", 0, (odd,)),
        ("other.bias", 0, (odd,)),
        ("head.weight", 1, (odd,)),
    }


class Bags(nn.Module):
    """A stream with sums of rows of a table at given places, as positions are interpolated."""

    def __init__(self, mode, shape, after):
        super().__init__()
        self.read, self.table = nn.Linear(4, WIDTH), nn.Parameter(torch.randn(*shape, WIDTH))
        self.head, self.mode, self.after = nn.Linear(WIDTH, 3, bias=False), mode, after

    def forward(self, x):
        rows = self.table.flatten(0, -2)
        taken = torch.tensor([[0, 3], [1, 5], [4, 4]])
        weights = torch.tensor([[0.5, 0.5], [0.3, 0.7], [-0.2, 1.2]])
        how = {"per_sample_weights": weights} if self.mode == "sum" else {}
        summed = nn.functional.embedding_bag(taken, rows, mode=self.mode, **how)
        return self.head(self.after(self.read(x) + summed))


@pytest.mark.parametrize(
    ("after", "odd"), [(nn.Identity(), True), (nn.ReLU(), False)], ids=["plain", "relu"]
)
@pytest.mark.parametrize("shape", [(6,), (3, 2)], ids=["matrix", "grid"])
@pytest.mark.parametrize("mode", ["sum", "mean"])
def test_sums_of_rows_of_a_table(mode, shape, after, odd):
    """Each coordinate by itself; a grid has slabs, whose columns move together."""
    torch.manual_seed(0)
    module = Bags(mode, shape, after)
    found = architecture.derive(module, {"x": torch.randn(3, 4)})
    assert found.unknown == found.refuted == ()
    (space,) = found.spaces
    assert (space.size, space.group) == (WIDTH, "signed_permutation" if odd else "permutation")
    assert {(m.tensor, m.axis, m.slab, m.odd) for m in space.members} == {
        ("table", len(shape), None, (odd,)),
        ("read.weight", 0, None, (odd,)),
        ("read.bias", 0, None, (odd,)),
        ("head.weight", 1, None, (odd,)),
    }


def test_largest_rows_of_a_table_have_no_rule():
    torch.manual_seed(0)
    found = architecture.derive(Bags("max", (6,), nn.Identity()), {"x": torch.randn(3, 4)})
    assert found.unknown
    assert found.spaces == ()


class AddedAtOnePlace(nn.Module):
    """Rows that two maps make, added to a stream: both of a token, at one place."""

    def __init__(self, add, after):
        super().__init__()
        self.read, self.one, self.two = (
            nn.Linear(4, WIDTH),
            nn.Linear(4, WIDTH),
            nn.Linear(4, WIDTH),
        )
        self.head = nn.Linear(WIDTH, 3, bias=False)
        self.add, self.after = add, after

    def forward(self, x):
        rows = torch.cat([self.one(x), self.two(x)])
        return self.head(self.add(self.read(x), self.after(rows)))


PLACE = torch.tensor([0, 1, 2, 0, 1, 2])


@pytest.mark.parametrize(
    ("after", "odd"), [(nn.Identity(), True), (nn.ReLU(), False)], ids=["plain", "relu"]
)
@pytest.mark.parametrize(
    "add",
    [
        lambda stream, rows: stream.index_add(0, PLACE, rows),
        lambda stream, rows: stream.scatter_add(0, PLACE[:, None].expand_as(rows), rows),
        lambda stream, rows: torch.zeros_like(stream).index_add_(0, PLACE, rows) + stream,
    ],
)
def test_all_that_is_added_at_one_place_moves_with_it(add, after, odd):
    torch.manual_seed(0)
    found = architecture.derive(AddedAtOnePlace(add, after), {"x": torch.randn(3, 4)})
    assert found.unknown == found.refuted == ()
    (space,) = found.spaces
    assert (space.size, space.group) == (WIDTH, "signed_permutation" if odd else "permutation")
    written = {m.tensor for m in space.members if m.axis == 0 and m.tensor.endswith("weight")}
    assert written == {"read.weight", "one.weight", "two.weight"}


def test_entries_that_are_put_once_and_several_times():
    def added(place):
        def add(stream, rows):
            return stream.index_put((place,), rows[: len(place)], accumulate=True)

        torch.manual_seed(0)
        given = {"x": torch.randn(3, 4)}
        return architecture.derive(AddedAtOnePlace(add, nn.Identity()), given)

    assert added(PLACE[:3]).unknown == ()
    several = added(PLACE)
    assert several.unknown == ("index_put",)
    assert all(space.size != WIDTH for space in several.spaces)
