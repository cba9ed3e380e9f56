"""The functions of the package torch-linear-assignment.

``from bmatch.compat.torch_linear_assignment import batch_linear_assignment`` in place of
``from torch_linear_assignment import batch_linear_assignment``.
"""

from __future__ import annotations

import warnings

import torch

from bmatch.assignment.device import can_solve
from bmatch.compat.torch_ops import batch_linear_sum_assignment


def batch_linear_assignment(cost: torch.Tensor) -> torch.Tensor:
    """Solve a batch of linear assignment problems; the sums of costs are minimised.

    Parameters
    ----------
    cost : torch.Tensor [B, W, T]
        Costs of workers and tasks, on any device that `bmatch.batch_linear_sum_assignment` takes.

    Returns
    -------
    assignment : int64 [B, W]
        Task of each worker, -1 for a worker without one, on the device of `cost`.

    Raises
    ------
    ValueError
        If there are not 3 dimensions, or for costs that `bmatch.batch_linear_sum_assignment`
        refuses.

    Warns
    -----
    UserWarning
        Where the batch lies on a CUDA device for which this build has no kernels: it is then
        solved on the host.
    """
    if cost.ndim != 3:
        raise ValueError("Need 3-dimensional tensor with shape (B, W, T).")
    if cost.is_cuda and not can_solve(3):
        warnings.warn("No CUDA backend available for linear assignment. Using CPU.", stacklevel=2)
        return batch_linear_sum_assignment(cost.cpu()).to(cost.device)
    return batch_linear_sum_assignment(cost)


def assignment_to_indices(assignment: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Convert an assignment to SciPy's format.

    Parameters
    ----------
    assignment : int64 [B, W]
        What `batch_linear_assignment` returns.

    Returns
    -------
    row_ind, col_ind : int64 [B, K]
        Workers that have a task, ascending, and their tasks; ``[0, 0]`` for an empty batch.

    Raises
    ------
    ValueError
        If the problems of the batch have matchings of different sizes.
    """
    matched = assignment >= 0  # [B, W]
    counts = matched.sum(1)
    if len(counts) == 0:
        none = torch.zeros(0, 0, dtype=torch.int64, device=assignment.device)
        return none, none
    if torch.any(counts != counts[0]):
        raise ValueError("Inconsistent matching sizes.")
    shape = len(counts), int(counts[0])
    return matched.nonzero()[:, 1].reshape(shape), assignment[matched].reshape(shape)
