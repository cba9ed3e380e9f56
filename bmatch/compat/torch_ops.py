"""The solver as PyTorch operators, which `torch.compile` and `torch.export` keep in one graph.

Importing this module registers ``torch.ops.bmatch.linear_sum_assignment`` and
``torch.ops.bmatch.batch_linear_sum_assignment``. Its functions are the same by name and take
tensors only: what they return has a shape that is known before they run.
"""

from __future__ import annotations

import torch

from bmatch.assignment import solver


def linear_sum_assignment(
    cost: torch.Tensor, maximize: bool = False
) -> tuple[torch.Tensor, torch.Tensor]:
    """Solve the linear sum assignment problem: `bmatch.linear_sum_assignment` as an operator.

    Parameters
    ----------
    cost : torch.Tensor [n, m]
        On the CPU or on a CUDA device; entries as for `bmatch.linear_sum_assignment`.
    maximize : bool
        Whether the sum is maximised instead.

    Returns
    -------
    row_ind, col_ind : int64 [min(n, m)]
        Matched pairs, rows ascending, on the device of `cost`. No gradient flows through them;
        index the costs with them to have one.

    Raises
    ------
    ValueError, TypeError
        As `bmatch.linear_sum_assignment`; while a graph is traced only for the number of
        dimensions.
    """
    pairs: tuple[torch.Tensor, torch.Tensor] = torch.ops.bmatch.linear_sum_assignment(
        cost, maximize
    )
    return pairs


def batch_linear_sum_assignment(
    cost: torch.Tensor, maximize: bool = False, sizes: torch.Tensor | None = None
) -> torch.Tensor:
    """Solve many problems: `bmatch.batch_linear_sum_assignment` as an operator.

    Parameters
    ----------
    cost : torch.Tensor [B, n, m]
        On the CPU or on a CUDA device; entries as for `bmatch.linear_sum_assignment`.
    maximize : bool
        Whether the sums are maximised instead.
    sizes : torch.Tensor, int [B, 2], optional
        Rows and columns of each problem of a ragged batch; best on the host, where they are read.

    Returns
    -------
    col_of_row : int64 [B, n]
        Column of each row, on the device of `cost`; -1 for a row that is left unmatched and for a
        row of padding.

    Raises
    ------
    ValueError, TypeError
        As `bmatch.batch_linear_sum_assignment`; while a graph is traced only for the number of
        dimensions.
    """
    columns: torch.Tensor = torch.ops.bmatch.batch_linear_sum_assignment(cost, maximize, sizes)
    return columns


def _solve(cost: torch.Tensor, maximize: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    return solver.linear_sum_assignment(cost, maximize)  # type: ignore[return-value]


def _solve_shape(cost: torch.Tensor, maximize: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    _require_dimensions(cost, 2)
    pairs = torch.sym_min(*cost.shape)  # type: ignore[no-untyped-call]
    return cost.new_empty(pairs, dtype=torch.int64), cost.new_empty(pairs, dtype=torch.int64)


def _solve_batch(
    cost: torch.Tensor, maximize: bool = False, sizes: torch.Tensor | None = None
) -> torch.Tensor:
    return solver.batch_linear_sum_assignment(cost, maximize, sizes=sizes)  # type: ignore[return-value]


def _solve_batch_shape(
    cost: torch.Tensor, maximize: bool = False, sizes: torch.Tensor | None = None
) -> torch.Tensor:
    _require_dimensions(cost, 3)
    return cost.new_empty(cost.shape[:2], dtype=torch.int64)


def _require_dimensions(cost: torch.Tensor, expected: int) -> None:
    if cost.ndim != expected:
        raise ValueError(f"expected a tensor of {expected} dimensions, got one of {cost.ndim}")


def _register() -> None:
    pairs = torch.library.custom_op(
        "bmatch::linear_sum_assignment",
        _solve,
        mutates_args=(),
        device_types=("cpu", "cuda"),
        schema="(Tensor cost, bool maximize=False) -> (Tensor, Tensor)",
    )
    pairs.register_fake(_solve_shape)
    columns = torch.library.custom_op(
        "bmatch::batch_linear_sum_assignment",
        _solve_batch,
        mutates_args=(),
        device_types=("cpu", "cuda"),
        schema="(Tensor cost, bool maximize=False, Tensor? sizes=None) -> Tensor",
    )
    columns.register_fake(_solve_batch_shape)


_register()
