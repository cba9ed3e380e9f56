"""The first operation that gives other numbers, among those that give the same in another order."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bmatch.architecture.changed import first_changed

TOKENS = torch.arange(10)[None]
ORDER, SIGN = torch.tensor([1, 2, 3, 0]), torch.tensor([1.0, -1, 1, -1])


class Model(nn.Module):
    """A stream of four coordinates that a function reads."""

    def __init__(self, function):
        super().__init__()
        self.embedding, self.head = nn.Embedding(10, 4), nn.Linear(4, 7)
        self.function = function

    def forward(self, tokens):
        return self.head(self.function(self.embedding(tokens)))


def moved(model):
    tensors = [model.embedding.weight, model.head.weight]
    kept = [tensor.detach().clone() for tensor in tensors]
    with torch.no_grad():
        for tensor in tensors:
            tensor.copy_(tensor[:, ORDER] * SIGN)

    def put_back():
        with torch.no_grad():
            for tensor, before in zip(tensors, kept, strict=True):
                tensor.copy_(before)

    return put_back


@pytest.mark.parametrize(
    ("function", "named"),
    [
        (lambda x: torch.tanh(x) * x.square().mean(-1, keepdim=True), None),
        (lambda x: torch.exp(-x.abs()) * x, None),
        (lambda x: torch.tanh(2 * x).cumsum(-1), "cumsum"),
        (lambda x: x.relu().neg(), "relu"),
        (lambda x: x * x.flip(-1), "mul"),
        (lambda x: x.softmax(-1), "_softmax"),
        (lambda x: x * (x[..., 0] > 0)[..., None], "select"),
    ],
)
def test_the_first_that_changes_is_named(function, named):
    torch.manual_seed(0)
    model = Model(function)
    kept = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    run = lambda model: model(TOKENS)  # noqa: E731
    assert first_changed(model, [run], lambda: moved(model)) == named
    assert all(torch.equal(kept[name], tensor) for name, tensor in model.state_dict().items())


def test_one_of_several_runs_and_what_is_not_run_twice():
    torch.manual_seed(0)
    model = Model(lambda x: x if x.shape[1] > 5 or x[0, 0, 0] > 9 else x.sinh().cosh())
    runs = [lambda model: model(TOKENS), lambda model: model(TOKENS[:, :3])]
    assert first_changed(model, runs[:1], lambda: moved(model)) is None
    assert first_changed(model, runs, lambda: moved(model)) == "select"


def test_tensors_are_put_back_where_a_run_fails():
    torch.manual_seed(0)
    model = Model(lambda x: x)
    before = model.embedding.weight.detach().clone()
    calls = []

    def run(model):
        calls.append(None)
        if len(calls) == 2:
            raise RuntimeError("no memory")
        return model(TOKENS)

    with pytest.raises(RuntimeError, match="no memory"):
        first_changed(model, [run], lambda: moved(model))
    assert torch.equal(model.embedding.weight, before)
