"""torch-linear-assignment's functions: answers that its own tests expect, and SciPy's."""

from __future__ import annotations

import pytest
import scipy.optimize
import torch
from fibers import built_fibers, needs_fibers, play_device

from bmatch.compat import torch_linear_assignment
from bmatch.compat.torch_linear_assignment import assignment_to_indices, batch_linear_assignment


@pytest.mark.parametrize("dtype", [torch.int64, torch.float32, torch.float64, torch.float16])
def test_a_worker_too_many(dtype):
    cost = torch.tensor([[[7, 3, 6], [4, 1, 2], [8, 5, 6], [8, 3, 7]]], dtype=dtype)
    assignment = batch_linear_assignment(cost)
    assert assignment.dtype == torch.int64
    assert assignment.tolist() == [[0, 2, -1, 1]]


@pytest.mark.parametrize(
    "shape", [(0, 4, 5), (1, 6, 9), (1, 9, 6), (5, 6, 9), (5, 9, 6), (2, 0, 3)]
)
def test_indices_are_scipys(shape):
    cost = torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))
    rows, cols = assignment_to_indices(batch_linear_assignment(cost))
    assert rows.dtype == cols.dtype == torch.int64
    pairs = min(shape[1:]) if shape[0] else 0
    assert rows.shape == cols.shape == (shape[0], pairs)
    for matrix, row_ind, col_ind in zip(cost, rows, cols, strict=True):
        expected = scipy.optimize.linear_sum_assignment(matrix)
        assert (row_ind.tolist(), col_ind.tolist()) == tuple(part.tolist() for part in expected)


def test_errors():
    with pytest.raises(ValueError, match=r"Need 3-dimensional tensor with shape \(B, W, T\)\."):
        batch_linear_assignment(torch.zeros(2, 2))
    with pytest.raises(ValueError, match="Inconsistent matching sizes"):
        assignment_to_indices(torch.tensor([[0, -1], [0, 1]]))
    with pytest.raises(ValueError, match="matrix contains invalid numeric entries"):
        batch_linear_assignment(torch.full((1, 2, 2), torch.nan))


def test_a_compiled_graph_stays_whole():
    torch.compiler.reset()
    compiled = torch.compile(batch_linear_assignment, fullgraph=True, backend="eager")
    cost = torch.rand(2, 3, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(compiled(cost), batch_linear_assignment(cost))


class OnDevice(torch.Tensor):
    """A tensor on the host that says it lies on a CUDA device."""

    is_cuda = True


@pytest.mark.parametrize("usable", [False, True])
def test_a_device_without_kernels_is_left_with_a_warning(monkeypatch, usable):
    monkeypatch.setattr(torch_linear_assignment, "can_solve", lambda ndim: usable)
    cost = torch.tensor([[[1.0, 2.0], [3.0, 1.0]]]).as_subclass(OnDevice)
    if usable:
        assert batch_linear_assignment(cost).tolist() == [[0, 1]]
    else:
        with pytest.warns(UserWarning, match="No CUDA backend available for linear assignment"):
            assert batch_linear_assignment(cost).tolist() == [[0, 1]]


@needs_fibers
def test_a_batch_is_solved_where_it_lies(tmp_path_factory, monkeypatch):
    fibers = built_fibers(tmp_path_factory)
    play_device(monkeypatch, fibers)
    cost = torch.rand(3, 5, 4, generator=torch.Generator().manual_seed(3))
    fibers.spent()
    found = batch_linear_assignment(cost)
    assert fibers.spent()[-1] > 0  # bytes that the kernels read
    for matrix, columns in zip(cost.numpy(), found, strict=True):
        rows, cols = scipy.optimize.linear_sum_assignment(matrix)
        assert columns[rows].tolist() == cols.tolist()
