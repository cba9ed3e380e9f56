"""Matrices on a CUDA device: where they are solved, and how the answer comes back to them."""

from __future__ import annotations

import importlib.util
import math
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from bmatch import _core
from bmatch.assignment import cuda, host
from bmatch.assignment.costs import BATCH, MATRIX, infeasible, require_dimensions
from bmatch.assignment.host import Answer, Start

Backend: TypeAlias = Literal["auto", "cpu", "cuda"]


def runs_on_device(cost: object, backend: Backend) -> bool:
    """Whether a matrix, or a batch, is solved on its CUDA device.

    Raises
    ------
    ValueError
        If it is to be solved there, and cannot be.
    """
    if backend not in ("auto", "cpu", "cuda"):
        raise ValueError(f"backend must be 'auto', 'cpu' or 'cuda', got {backend!r}")
    if not cuda.is_on_device(cost):
        if backend == "cuda":
            raise ValueError(
                "backend='cuda' solves what lies on a CUDA device, and this matrix lies on the "
                "host: pass cost.cuda(); nothing is moved between devices unasked"
            )
        return False
    shape = cost.shape  # type: ignore[attr-defined]
    if backend == "cpu" or (backend == "auto" and len(shape) == 2 and min(shape) < cuda.HOST_ROWS):
        return False
    if not can_solve(len(shape)):
        raise ValueError(cuda.why_unusable())
    return True


def can_solve(ndim: int) -> bool:
    """Whether matrices (`ndim` 2) or batches (3) on a device can be solved there."""
    # Batches have nothing to gain from scans of their rows: all of a small matrix is read.
    scans = ndim == 2 and importlib.util.find_spec("triton") is not None
    return cuda.is_usable() or scans


def solve(
    cost: Any,
    sense: _core.Sense,
    *,
    certificate: bool = True,
    start: Start | None = None,
    num_threads: int | None = None,
) -> Answer:
    """Solve a matrix on its device; without `certificate` there are no duals."""
    import torch

    tensor, _ = cuda.as_tensor(cost)
    require_dimensions(tensor.ndim, 2, MATRIX)
    matrix = cuda.as_costs(tensor)
    n, m = matrix.shape
    # As on the host: the short side as rows, the entries of a row side by side.
    flipped = n > m or (n == m and matrix.stride(1) != 1 and matrix.stride(0) == 1)
    lying = matrix.T if flipped else matrix
    if lying.stride(1) != 1:
        lying = lying.contiguous()
    prices = None if start is None else start.prices(n, m, flipped, sense)
    if not cuda.is_usable():
        from bmatch.assignment import fetched

        solved = fetched.solve(
            lying,
            sense,
            certificate=certificate,
            prices=None if prices is None else np.asarray(cuda.on_host(prices)),
            num_threads=num_threads,
            transposed=flipped and n == m,
        )
        return _on_device(host.turned_back(solved, matrix, flipped))
    if prices is not None:
        prices = torch.as_tensor(prices, dtype=torch.float64, device=matrix.device).contiguous()
    answer = cuda.solve(lying[None], sense, duals=certificate, prices=prices if n == m else None)
    if answer.reports is not None and answer.reports["outcome"][0] == cuda.DWARFED:
        found = host.solve(cuda.on_host(tensor), sense, certificate=certificate)
        return _on_device(found._replace(matrix=matrix))
    col_of_row = _checked(answer, "columns" if flipped else "rows")[0]
    if flipped:
        row_ind, col_ind = col_of_row.sort()
        col_of_row = torch.full((n,), -1, dtype=torch.int64, device=matrix.device)
        col_of_row[row_ind] = col_ind
    else:
        row_ind, col_ind = torch.arange(n, device=matrix.device), col_of_row.clone()
    u, v = (None if dual is None else dual[0] for dual in (answer.row_dual, answer.col_dual))
    told = (
        {}
        if answer.reports is None
        else dict(zip(cuda.REPORT_FIELDS, answer.reports[0].tolist(), strict=True))
    )
    return Answer(
        matrix,
        0,
        row_ind,
        col_ind,
        col_of_row,
        *((v, u) if flipped else (u, v)),
        told.pop("objective", math.nan),
        max(told.pop("gap", math.nan), 0.0),
        {name: value for name, value in told.items() if name != "outcome"},
    )


def solve_batch(cost: Any, sense: _core.Sense) -> Any:
    """Columns of all rows, int64 [B, n], of a batch on its device."""
    import torch

    tensor, _ = cuda.as_tensor(cost)
    require_dimensions(tensor.ndim, 3, BATCH)
    costs = cuda.as_costs(tensor)
    n, m = costs.shape[1:]
    lying = costs.mT if n > m else costs
    if lying.stride(2) != 1:
        lying = lying.contiguous()
    answer = cuda.solve(lying, sense, duals=False)
    col_of_row = _checked(answer, "columns" if n > m else "rows", batch=True)
    if answer.reports is not None:
        for problem in np.flatnonzero(answer.reports["outcome"] == cuda.DWARFED):
            found = host.solve(cuda.on_host(lying[problem]), sense, certificate=False)
            col_of_row[problem] = torch.as_tensor(found.col_ind, device=costs.device)
    if n <= m:
        return col_of_row
    out = torch.full(costs.shape[:2], -1, dtype=torch.int64, device=costs.device)
    return out.scatter_(1, col_of_row, torch.arange(m, device=out.device).expand_as(col_of_row))


def _on_device(found: Answer) -> Answer:
    """An answer of the host's where its matrix is."""
    import torch

    def there(array: npt.NDArray[Any]) -> Any:
        return torch.as_tensor(array, device=found.matrix.device)

    return found._replace(
        row_ind=there(found.row_ind),
        col_ind=there(found.col_ind),
        col_of_row=there(found.col_of_row),
        row_dual=there(found.row_dual),
        col_dual=there(found.col_dual),
    )


def _checked(answer: cuda.DeviceAnswer, kind: str, batch: bool = False) -> Any:
    """The assignment, unless a problem has none: then the error for the first of them."""
    if answer.reports is None:
        return answer.col_of_row
    failed = np.flatnonzero(~np.isin(answer.reports["outcome"], (cuda.OPTIMAL, cuda.DWARFED)))
    if len(failed) == 0:
        return answer.col_of_row
    first = int(failed[0])
    where = f" (problem {first} of the batch)" if batch else ""
    if answer.reports["outcome"][first] == cuda.INVALID:
        raise ValueError(f"matrix contains invalid numeric entries{where}")
    trapped = np.flatnonzero(answer.col_of_row[first].cpu().numpy() == -2)
    raise ValueError(f"{infeasible(trapped, kind)}{where}")
