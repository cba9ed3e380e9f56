"""Modules as people write them, each with one operation that might be taken for another.

Each gets the group of what it computes, or the operation is named; never a larger group. The
oracle is another draw of weights, of all signs, and other tokens: what a table claims holds there.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from plain_moves import moved
from torch import nn
from torch.nn import functional

from bmatch import architecture

WIDTH, VOCABULARY, HEADS = 16, 40, 4
HALF = WIDTH // 2
SLOPE = torch.linspace(1, 2, WIDTH)
B, ONE, S = "signed_permutation", "permutation_global_sign", "permutation"


class Norm(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(WIDTH))

    def forward(self, x):
        return self.weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)


class Block(nn.Module):
    """An MLP behind a norm."""

    def __init__(self):
        super().__init__()
        self.norm = Norm()
        self.up = nn.Linear(WIDTH, 12, bias=False)
        self.down = nn.Linear(12, WIDTH, bias=False)

    def forward(self, x):
        return x + self.down(torch.tanh(self.up(self.norm(x))))


class Model(nn.Module):
    """Embeddings, two blocks with something between them, and a head."""

    def __init__(self, between):
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, WIDTH)
        self.first, self.between, self.second = Block(), between, Block()
        self.norm, self.head = Norm(), nn.Linear(WIDTH, VOCABULARY, bias=False)

    def forward(self, tokens):
        x = self.between(self.first(self.embedding(tokens)))
        return self.head(self.norm(self.second(x)))


class Does(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


TOKENS = torch.arange(VOCABULARY).reshape(2, -1)


def derived(between):
    torch.manual_seed(0)
    module = between() if isinstance(between, type) else Does(between)
    model = Model(module).eval()
    return model, architecture.derive(model, {"tokens": TOKENS})


def stream(axes):
    """Sizes and groups of the spaces of the embedding."""
    spaces = [s for s in axes.spaces if any(m.tensor == "embedding.weight" for m in s.members)]
    return [(space.size, space.group) for space in spaces]


def require_valid(model, axes):
    """What is claimed holds under weights, signs and tokens that derivation has not seen."""
    for seed in (11, 12, 13):
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for tensor in model.parameters():
                tensor.copy_(torch.randn(tensor.shape, generator=generator))
            tokens = torch.randint(VOCABULARY, (2, 9), generator=generator)
            before = model(tokens)
            kept = {name: tensor.clone() for name, tensor in model.state_dict().items()}
            for k, space in enumerate(axes.spaces):
                model.load_state_dict(moved(model, [space], 7 * seed + k))
                after = model(tokens)
                model.load_state_dict(kept)
                assert (after - before).abs().max() < 2e-3 * before.abs().max(), space.name


@torch.library.custom_op("bmatch_tests::running", mutates_args=())
def running(x: torch.Tensor) -> torch.Tensor:
    return x.cummax(-1)[0]


def an_operator_of_ones_own(x):
    return running(x)


def running_largest(x):
    """From the third coordinate on mostly one number."""
    return (x - 4 * torch.arange(WIDTH)).cummax(-1)[0]


def by_numpy(x):
    return torch.from_numpy(np.maximum.accumulate(x.numpy(), -1))


def counts(x):
    places = (x.abs() * 3).long().flatten().clamp(max=WIDTH - 1)
    return x * (1 + torch.bincount(places, minlength=WIDTH))


def one_decides(x):
    return x * 2 if x[0, 0, 0] > 0 else x * 3


def one_scales(x):
    return x * x[..., 0].mean().item()


def one_scales_beside_a_number(x):
    return x * (1 + x[..., :1].abs())


def how_many_decide(x):
    return x * 2 if len((x[..., :2] > 0).nonzero()) > 40 else x * 3


def half_in_place(x):
    x = x.clone()
    x[..., :HALF].mul_(2)
    return x


def half_put_back(x):
    out = torch.empty_like(x)
    out[..., :HALF] = 2 * x[..., :HALF]
    out[..., HALF:] = 3 * x[..., HALF:]
    return out


def flipped_in_place(x):
    x = x.clone()
    x[..., ::2].neg_()
    return x


def one_set_to_zero(x):
    x = x.clone()
    x[..., 0] = 0
    return x


def windows(x):
    return x * x.unfold(-1, 2, 1).sum(-1).abs().sum(-1, keepdim=True)


def windows_of_kernels(x):
    rows = functional.conv1d(x.reshape(-1, 1, WIDTH), torch.ones(1, 1, 3), padding=1)
    return x * rows.abs().sum(-1).view(*x.shape[:2], 1)


def codes(x):
    table = torch.tensor([1.0, 3.0])
    return x * table[(x[..., :4] > 0).long()].sum(-1, keepdim=True)


def largest_kept(x):
    kept = torch.zeros_like(x).scatter(-1, x.abs().topk(4, -1)[1], 1.0)
    return x * kept


def masked(x):
    mask = torch.cat([torch.tensor([-1e9]), torch.arange(1.0, WIDTH)])
    return x * (x.abs() + mask).softmax(-1)


def signs_copied(x):
    return torch.copysign(x.abs(), x)


class LearnedCodes(nn.Module):
    """A table read by the sign of each coordinate, and a number for each."""

    def __init__(self):
        super().__init__()
        self.table = nn.Parameter(torch.randn(2, 5))

    def forward(self, x):
        return x * self.table[(x > 0).long()].sum(-1).abs() * SLOPE


class Normalised(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(WIDTH)

    def forward(self, x):
        return self.norm(x.transpose(1, 2)).transpose(1, 2)


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)

    def forward(self, x):
        return x + self.attention(x, x, x, need_weights=False)[0]


class Grouped(nn.Module):
    """Two query heads for each head of keys and values."""

    def __init__(self):
        super().__init__()
        self.q, self.o = (nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(2))
        self.k, self.v = (nn.Linear(WIDTH, HALF, bias=False) for _ in range(2))

    def forward(self, x):
        q, k, v = (
            part(x).unflatten(-1, (-1, WIDTH // HEADS)).transpose(1, 2)
            for part in (self.q, self.k, self.v)
        )
        out = functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        return x + self.o(out.transpose(1, 2).reshape(x.shape))


WHOLE, HALVES = [(WIDTH, B)], [(HALF, B), (HALF, B)]
TRAPS = {  # spaces of the embedding, and what is named
    an_operator_of_ones_own: ([], ("running",)),
    running_largest: ([], ("cummax",)),
    by_numpy: ([], ("numpy",)),
    counts: ([], ()),
    one_decides: ([(WIDTH - 1, B)], ()),
    one_scales: ([(WIDTH - 1, B)], ()),
    one_scales_beside_a_number: ([(WIDTH - 1, B)], ()),
    how_many_decide: ([(WIDTH - 2, B)], ()),
    half_in_place: (HALVES, ()),
    half_put_back: (HALVES, ()),
    flipped_in_place: (HALVES, ()),
    one_set_to_zero: ([(WIDTH - 1, B)], ()),
    windows: ([(2, S)], ()),
    windows_of_kernels: ([(2, S)], ()),
    codes: ([(WIDTH - 4, B), (4, S)], ()),
    largest_kept: (WHOLE, ()),
    masked: ([], ()),
    signs_copied: ([], ("signbit",)),
    LearnedCodes: ([], ()),
    Normalised: (WHOLE, ()),
    Attention: (WHOLE, ()),
    Grouped: (WHOLE, ()),
}


@pytest.mark.parametrize("trap", TRAPS, ids=lambda trap: getattr(trap, "__name__", str(trap)))
def test_a_trap_gets_no_more_than_its_group(trap):
    model, axes = derived(trap)
    print(stream(axes), axes.unknown, axes.refuted)
    spaces, named = TRAPS[trap]
    assert stream(axes) == spaces
    assert axes.unknown == named
    assert axes.refuted == () or trap is by_numpy
    require_valid(model, axes)


class Counting(nn.Module):
    """Another factor each time."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def forward(self, x):
        self.count += 1
        return x * self.count


def left_on(x):
    return functional.dropout(x, 0.5, training=True)


def noisy(x):
    return x - torch.empty_like(x).exponential_().log()


@pytest.mark.parametrize(
    ("between", "told"),
    [
        (left_on, r"draws numbers at random \(bernoulli_\): run twice on the same inputs"),
        (noisy, r"draws numbers at random \(exponential_\): run twice on the same inputs"),
        (Counting, r"this Model changes as it runs: run twice on the same inputs"),
    ],
)
def test_a_module_that_gives_something_else_each_time_is_refused(between, told):
    with pytest.raises(ValueError, match=told):
        derived(between)


def sparse(x):
    return (torch.diag(SLOPE).to_sparse() @ x.flatten(0, 1).T).T.view(x.shape)


def made_sparse(x):
    return x * x.clamp(min=0).to_sparse().to_dense()


def nested(x):
    return x + torch.nested.nested_tensor(list(x)).to_padded_tensor(0.0)


def by_lists(x):
    return torch.tensor(x.tolist())


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize(
    ("between", "named"),
    [
        (sparse, {"mm"}),
        (made_sparse, {"_to_dense", "_to_sparse"}),
        (nested, {"_nested_tensor_from_tensor_list", "to_padded_tensor"}),
        (by_lists, {"tolist"}),
    ],
)
def test_what_labels_cannot_follow_is_named(between, named):
    model, axes = derived(between)
    assert named <= {*axes.unknown}
    assert stream(axes) == []
    require_valid(model, axes)


def two_added(x):
    return x * (x[..., :1] + x[..., 1:2])


def place_of_the_largest(x):
    return x * x.abs().argmax(-1, keepdim=True)


def area(x):
    return x * torch.trapezoid(x, dim=-1)[..., None]


@pytest.mark.parametrize(
    ("between", "named"),
    [
        (two_added, "slice"),
        (place_of_the_largest, "argmax"),
        (area, "select"),
    ],
)
def test_an_operation_that_refutes_the_stream_is_named(between, named):
    model, axes = derived(between)
    (told,) = axes.refuted
    assert told.startswith("residual: changes an output by ")
    assert told.endswith(f"; the first operation that gives other numbers is {named}")
    assert stream(axes) == []
    require_valid(model, axes)


def test_conditions_that_one_draw_has_met_are_no_property(monkeypatch):
    """Of what labels do not show, other weights and other gauges tell."""
    monkeypatch.setattr("bmatch.architecture.deriving.WITNESSES", ())
    _, alone = derived(lambda x: x * 2 if int(x[0, 0].abs().argmax()) < HALF else x * 3)
    monkeypatch.undo()
    _, axes = derived(lambda x: x * 2 if int(x[0, 0].abs().argmax()) < HALF else x * 3)
    assert stream(axes) == []
    assert len(alone.spaces) >= len(axes.spaces)


def test_a_layer_of_torch_is_followed_as_what_it_computes():
    class Layer(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 20, batch_first=True)

        def forward(self, x):
            return self.layer(x)

    model, axes = derived(Layer)
    assert axes.unknown == ()
    assert stream(axes) == [(WIDTH, ONE)]
    assert torch.backends.mha.get_fastpath_enabled()
    assert sum(space.size for space in axes.spaces) > 2 * WIDTH
    require_valid(model, axes)
