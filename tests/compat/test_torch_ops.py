"""The solver as operators: their shapes before they run, whole graphs, and what they compute."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.optimize
import torch

import bmatch
from bmatch.compat import torch_ops

BATCH = torch.rand(3, 4, 6, generator=torch.Generator().manual_seed(0))
SIZES = torch.tensor([[4, 6], [3, 1], [0, 2]])

CALLS = {
    "a matrix": ("linear_sum_assignment", (BATCH[0],)),
    "a tall one, maximised": ("linear_sum_assignment", (BATCH[0].T, True)),
    "one with a gradient": ("linear_sum_assignment", (BATCH[0].clone().requires_grad_(),)),
    "integers": ("linear_sum_assignment", ((100 * BATCH[0]).long(),)),
    "a batch": ("batch_linear_sum_assignment", (BATCH,)),
    "a ragged batch": ("batch_linear_sum_assignment", (BATCH, False, SIZES)),
    "an empty batch": ("batch_linear_sum_assignment", (BATCH[:0], True)),
    "a batch in bfloat16": ("batch_linear_sum_assignment", (BATCH.bfloat16(),)),
}


@pytest.mark.parametrize("name", CALLS)
def test_operators_are_what_they_declare(name):
    operator, arguments = CALLS[name]
    torch.library.opcheck(getattr(torch.ops.bmatch, operator).default, arguments)


@pytest.mark.parametrize("name", CALLS)
def test_functions_return_what_bmatch_does(name):
    function, arguments = CALLS[name]
    found = getattr(torch_ops, function)(*arguments)
    if function == "linear_sum_assignment":
        expected = scipy.optimize.linear_sum_assignment(arguments[0].detach(), *arguments[1:])
        assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))
    else:
        cost, maximize, sizes = (*arguments, False, None)[:3]
        if len(arguments) < 3:
            sizes = None
        expected = bmatch.batch_linear_sum_assignment(cost, maximize, sizes=sizes)
        assert torch.equal(found, expected)


def matched_sum(cost, maximize):
    rows, cols = torch_ops.linear_sum_assignment(cost, maximize)
    return (2 * cost)[rows, cols].sum()


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("maximize", [False, True])
def test_a_compiled_graph_stays_whole(dynamic, maximize):
    """fullgraph=True raises at every break."""
    torch.compiler.reset()
    compiled = torch.compile(matched_sum, fullgraph=True, dynamic=dynamic, backend="aot_eager")
    for shape in ((6, 9), (9, 6), (5, 5)):
        cost = torch.rand(shape, generator=torch.Generator().manual_seed(1), requires_grad=True)
        total = compiled(cost, maximize)
        total.backward()
        rows, cols = scipy.optimize.linear_sum_assignment(cost.detach(), maximize)
        expected = torch.zeros(shape)
        expected[rows, cols] = 2
        assert torch.equal(cost.grad, expected)
        expected_total = 2 * cost.detach()[rows, cols].sum().item()
        assert total.item() == pytest.approx(expected_total, rel=1e-6)


class Matcher(torch.nn.Module):
    def forward(self, cost):
        return torch_ops.batch_linear_sum_assignment(cost.mT) + 0


def test_an_exported_graph_holds_one_node_for_the_solve():
    dimensions = {0: torch.export.Dim("B"), 1: torch.export.Dim("m"), 2: torch.export.Dim("n")}
    program = torch.export.export(Matcher(), (BATCH,), dynamic_shapes=(dimensions,))
    solves = [
        node
        for node in program.graph.nodes
        if node.target is torch.ops.bmatch.batch_linear_sum_assignment.default
    ]
    assert len(solves) == 1
    other = torch.rand(2, 7, 3, generator=torch.Generator().manual_seed(2))
    expected = bmatch.batch_linear_sum_assignment(other.mT)
    assert torch.equal(program.module()(other), expected)


@pytest.mark.parametrize("trace", [False, True])
@pytest.mark.parametrize("function", ["linear_sum_assignment", "batch_linear_sum_assignment"])
def test_other_dimensions_are_refused(function, trace):
    wrong = torch.zeros(2, 2, 2, 2, device="meta" if trace else "cpu")
    expected = "tensor of . dimensions, got one of 4" if trace else "expected a .*, got a 4 array"
    with pytest.raises(ValueError, match=expected):
        getattr(torch_ops, function)(wrong)


def test_sizes_are_checked():
    with pytest.raises(ValueError, match="problem 0 is 5 x 6"):
        torch_ops.batch_linear_sum_assignment(BATCH[:1], sizes=torch.tensor([[5, 6]]))
