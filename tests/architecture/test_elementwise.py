"""What operations entry by entry, and sums along axes, leave of the gauge of a stream."""

from __future__ import annotations

import pytest
import torch
from toy_models import WIDTH, Toy, tokens

from bmatch import architecture

HALVES = torch.arange(WIDTH) < WIDTH // 2
NOWHERE = torch.zeros(WIDTH, dtype=torch.bool)


def derived(stream):
    return architecture.derive(Toy(stream=lambda model, x: stream(x)), tokens())


@pytest.mark.parametrize(
    "function",
    [
        lambda x: -2 * x,
        lambda x: x.tanh() + x.sin(),
        lambda x: x**3 - x.clamp(-1, 1),
        lambda x: x.erf() / (1 + x.square()),
        lambda x: torch.where(x.abs() > 0.5, x, 0),
        lambda x: x.masked_fill(x.abs() > 0.5, 0.0) + x,
        lambda x: x * x.abs().amax(-1, keepdim=True),
        lambda x: x * x.abs().mean(),
        lambda x: x / x.norm(dim=-1, keepdim=True),
        lambda x: x.cumsum(1) + x.flip(1),
        lambda x: torch.view_as_real(torch.view_as_complex(torch.stack([x, x], -1)) * 1j)[..., 0],
        lambda x: x.clone().mul_(2).add_(x),
    ],
)
def test_signs_pass_through(function):
    space = derived(function).residual
    assert (space.size, space.group) == (WIDTH, "signed_permutation")
    assert next(m.odd for m in space.members if m.tensor == "head.weight") == (True,)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x + x.exp(),
        lambda x: x.sigmoid() * x,
        lambda x: torch.nn.functional.gelu(x),
        lambda x: torch.where(x > 0.1, x, 2 * x),
        lambda x: x.clamp(min=-0.5),
        lambda x: x.masked_fill(x < 0, 1.0),
        lambda x: x.abs() + x.masked_fill(NOWHERE, 0.0),
        lambda x: x.abs() + torch.where(NOWHERE, 0.0, x),
        lambda x: torch.maximum(x, -x) + x,
        lambda x: x.softmax(-1) + x,
        lambda x: x * x.logsumexp(-1, keepdim=True),
        lambda x: x + x.amax(-1, keepdim=True),
        lambda x: x + 0.5,
        lambda x: torch.sqrt(x.abs()) + x,
    ],
)
def test_signs_do_not_pass(function):
    space = derived(function).residual
    assert (space.size, space.group) == (WIDTH, "permutation")


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x - x.mean(-1, keepdim=True),
        lambda x: x / x.std(-1, keepdim=True),
        lambda x: x + x.sum(-1, keepdim=True),
    ],
)
def test_one_sign_for_all_passes(function):
    space = derived(function).residual
    assert (space.size, space.group) == (WIDTH, "permutation_global_sign")


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x * HALVES,
        lambda x: x + HALVES,
        lambda x: torch.where(HALVES, x, 3 * x),
        lambda x: x * x[..., : WIDTH // 2].square().mean(-1, keepdim=True),
        lambda x: torch.cat([x[..., : WIDTH // 2].tanh(), x[..., WIDTH // 2 :]], -1),
    ],
)
def test_what_tells_halves_apart_leaves_two_spaces(function):
    """Which of the two halves a unit is in cannot be changed."""
    found = derived(function)
    reading = [s for s in found.spaces if "embed.weight" in {m.tensor for m in s.members}]
    assert [space.size for space in reading] == [WIDTH // 2] * 2
    assert found.refuted == ()


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.cumsum(-1),
        lambda x: x + x.tril(),
        lambda x: x * torch.arange(1, WIDTH + 1),
        lambda x: x + torch.linspace(0, 1, WIDTH),
    ],
)
def test_an_order_fixes_all(function):
    assert all(space.size != WIDTH for space in derived(function).spaces)


def test_means_of_neighbours_keep_other_axes():
    """Along an axis whose order counts, and no other."""

    def pooled(x):
        return torch.nn.functional.avg_pool1d(x.transpose(1, 2), 3, 1, 1).transpose(1, 2)

    space = derived(pooled).residual
    assert (space.size, space.group) == (WIDTH, "signed_permutation")
    along = derived(lambda x: torch.nn.functional.avg_pool1d(x, 3, 1, 1))
    assert all(space.size != WIDTH for space in along.spaces)
