"""The assignment solver on a CUDA device: addresses, strides and streams, checked in one place.

Tensors are read where they lie, on the current stream of their device; workspace and answers come
from torch's allocator. A solve waits for the device once, for its report, and the host makes what
it can of the answer before; Ctrl-C ends the wait. The device then goes on, and the allocator gives
its memory only to what follows on the same stream.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from bmatch import _core
from bmatch.arrays import arange, as_array
from bmatch.assignment.answer import Answer
from bmatch.assignment.costs import Costs
from bmatch.assignment.host import solve_on_host

if TYPE_CHECKING:
    import torch

_Outcome = _core.CudaOutcome
_REPORTED = _core.CudaReport.names or ()

HOST_ROWS = 1024
"""Matrices with fewer rows are solved on the host, unless many come at once: over 86 families an
H100 took 2.5 times the time of one core with 512 rows, 0.8 times with 1,024 (benchmarks/LOG.md)."""

_WHERE = " (problem {} of the batch)"

WARP_COLUMNS, BLOCK_COLUMNS = 256, 1024
"""Up to so many columns a warp can solve a problem, a block with its arrays in shared memory."""


@dataclass(eq=False)
class Launched:
    """What the kernels write for a batch of problems, tensors on their device.

    Attributes
    ----------
    col_of_row : int64 [B, n]
        -1 for a row without a column, and for padding; `_core.cuda_trapped` for rows that compete
        for too few columns, where a problem is infeasible.
    row_dual, col_dual : float64 [B, n] and [B, m], or None
        Of the minimised costs.
    wait : function
        Waits for the reports.
    """

    col_of_row: torch.Tensor
    row_dual: torch.Tensor | None
    col_dual: torch.Tensor | None
    wait: Callable[[], npt.NDArray[Any] | None]

    @functools.cached_property
    def reports(self) -> npt.NDArray[Any] | None:
        """`_core.CudaReport` of each problem, on the host, waited for when they are first asked.

        None while a CUDA graph is captured, which cannot wait.
        """
        return self.wait()

    @functools.cached_property
    def unsolved(self) -> Mapping[int, int]:
        """Numbers of problems without an optimal answer, ascending, and their outcomes.

        None are known while a CUDA graph is captured.

        Raises
        ------
        RuntimeError
            If the search for an answer went wrong.
        """
        if self.reports is None:
            return {}
        outcomes = self.reports["outcome"]
        numbers = outcomes.nonzero()[0]  # optimal is 0
        if len(numbers) == 0:
            return {}
        found = dict(zip(numbers.tolist(), outcomes[numbers].tolist(), strict=True))
        if _Outcome.broken in found.values():
            raise RuntimeError(
                "solve_kernel lost its way in a tree of shortest paths: please report the matrix"
            )
        return found


class Group(NamedTuple):
    """Problems of one launch, and their numbers in the batch that was given."""

    costs: Costs
    launched: Launched
    numbers: Sequence[int] | npt.NDArray[np.intp] = (0,)


@functools.cache
def is_usable() -> bool:
    """Whether this build has kernels for a device of this machine."""
    facts = _core.cuda_facts()
    return facts.built and facts.devices > 0


def why_unusable() -> str:
    """The error for a matrix on a device that cannot be solved there."""
    trouble = _core.cuda_facts().trouble
    return (
        f"the cost matrix is on a CUDA device, and it cannot be solved there: {trouble}; pass "
        "backend='cpu' to solve on the host, or cost.cpu()"
    )


def solve_by_kernels(
    costs: Costs,
    *,
    certificate: bool = True,
    prices: Any = None,
    num_threads: int | None = None,
) -> Answer:
    """Solve a matrix on its device; parameters and errors as for `solve_on_host`.

    Where prices dwarf the answer, or the search takes too long, the host finds it.
    """
    import torch

    oriented = costs.oriented
    n, m = oriented.shape
    if prices is not None and n == m:
        prices = torch.as_tensor(prices, dtype=torch.float64, device=oriented.device).contiguous()
    else:
        prices = None
    oriented, sense = _entries(costs)
    launched = launch(oriented[None], sense, duals=certificate, prices=prices)
    # Made while the device works: what is asked of it takes the host about as long as a solve.
    col_of_row = launched.col_of_row[0]
    u, v = (None if dual is None else dual[0] for dual in (launched.row_dual, launched.col_dual))
    row_ind = None if costs.transposed else arange(n, like=col_of_row)
    _require_answers(Group(costs, launched))
    if launched.unsolved:  # dwarfed or costly
        found = solve_on_host(costs.on_host(), certificate=certificate, num_threads=num_threads)
        return found.to(oriented.device)
    if launched.reports is None:  # and so no error and no objective
        report = {}
    else:
        report = dict(zip(_REPORTED, launched.reports.item(), strict=True))
        del report["outcome"]
    objective, gap = report.pop("objective", math.nan), report.pop("gap", math.nan)
    return Answer(col_of_row, u, v, objective, max(gap, 0.0), report, row_ind)


def solve_batch_by_kernels(costs: Costs) -> torch.Tensor:
    """Columns of all rows, int64 [B, n], of a batch on its device; -1 for a row without one.

    Raises
    ------
    ValueError
        For the first problem that holds NaN or -infinity, or has no assignment.
    """
    launched = launch(*_entries(costs), duals=False)
    found = _columns(launched, costs)  # while the device works
    group = Group(costs, launched, range(len(costs.matrix)))
    _require_answers(group, where=_WHERE)
    if not launched.unsolved:
        return found
    _ask_the_host(group)
    return _columns(launched, costs)


def solve_ragged_by_kernels(costs: Costs) -> torch.Tensor:
    """The same for a ragged batch.

    The kernels want the short side of a problem as its rows, so those with more rows than columns
    are transposed and launched apart from the others.
    """
    import torch

    sizes = costs.sizes
    assert sizes is not None
    problems, n, _ = costs.shape
    device = costs.matrix.device
    out = torch.full((problems, n), -1, dtype=torch.int64, device=device)
    rows, cols = sizes.T
    groups = []
    for chosen in ((rows > 0) & (rows <= cols), (cols > 0) & (cols < rows)):
        which = np.flatnonzero(chosen)
        if len(which) == 0:
            continue
        index = torch.as_tensor(which, device=device)
        matrix = costs.matrix if len(which) == problems else costs.matrix[index]
        most_rows, most_cols = sizes[which].max(axis=0)
        matrix = matrix[:, :most_rows, :most_cols]
        part = Costs.of_device(matrix, costs.sense, 3, costs.forbids, sizes[which])
        on_device = torch.as_tensor(_oriented_sizes(part).astype(np.int32), device=device)
        launched = launch(*_entries(part), duals=False, sizes=on_device)
        groups.append(Group(part, launched, which))
    _require_answers(*groups, where=_WHERE)
    for group in groups:
        _ask_the_host(group)
        found = _columns(group.launched, group.costs)
        out[torch.as_tensor(group.numbers, device=device), : found.shape[1]] = found
    return out


def _entries(costs: Costs) -> tuple[torch.Tensor, _core.Sense]:
    """What is solved, and its sense."""
    return costs.forbidding(costs.oriented) if costs.forbids else (costs.oriented, costs.sense)


def _oriented_sizes(costs: Costs) -> npt.NDArray[np.int64]:
    """Rows and columns, int64 [B, 2], of each problem of a batch as it is solved."""
    if costs.sizes is None:
        return np.broadcast_to(costs.oriented.shape[1:], (len(costs.oriented), 2))
    return costs.sizes[:, ::-1] if costs.transposed else costs.sizes


def _ask_the_host(group: Group) -> None:
    """Put the host's answers in place of those that are dwarfed or costly.

    Raises
    ------
    ValueError
        For the first problem of which the host finds that it has no assignment.
    """
    import torch

    costs, launched, numbers = group
    col_of_row = launched.col_of_row
    for problem in launched.unsolved:
        rows, cols = costs.shape[1:] if costs.sizes is None else costs.sizes[problem]
        matrix = costs.matrix[problem, :rows, :cols].cpu()
        one = Costs.of(matrix, costs.sense, forbids=costs.forbids)
        try:
            found = solve_on_host(one, certificate=False).col_of_row
        except ValueError as error:
            raise ValueError(f"{error}{_WHERE.format(int(numbers[problem]))}") from None
        col_of_row[problem, : len(found)] = torch.as_tensor(found, device=col_of_row.device)


def _columns(launched: Launched, costs: Costs) -> torch.Tensor:
    """Columns of the rows of a batch, from what is found for its short sides."""
    import torch

    col_of_row = launched.col_of_row
    if not costs.transposed:
        return col_of_row
    problems, n, m = costs.shape
    # What belongs to padding goes to a row more, which is left out.
    row_of_col = torch.where(col_of_row < 0, n, col_of_row)
    out = row_of_col.new_full((problems, n + 1), -1)
    cols = torch.arange(m, device=out.device)
    return out.scatter_(1, row_of_col, cols.expand_as(row_of_col))[:, :n]


def _require_answers(*groups: Group, where: str = "") -> None:
    """Raise the error for the first problem without an answer; `where` says which one it is."""
    failed = [
        (int(group.numbers[problem]), problem, group)
        for group in groups
        for problem, outcome in group.launched.unsolved.items()
        if outcome not in (_Outcome.dwarfed, _Outcome.costly)
    ]
    if not failed:
        return
    number, problem, (costs, launched, _) = min(failed, key=lambda first: first[0])
    if launched.unsolved[problem] == _Outcome.invalid:
        raise ValueError(costs.invalid(problem, number) if where else costs.invalid())
    where = where.format(number)
    trapped = np.flatnonzero(as_array(launched.col_of_row[problem]) == _core.cuda_trapped)
    raise ValueError(f"{costs.infeasible(trapped)}{where}")


def launch(
    cost: torch.Tensor,
    sense: _core.Sense,
    *,
    duals: bool,
    prices: torch.Tensor | None = None,
    sizes: torch.Tensor | None = None,
    team: _core.CudaTeam | None = None,
    most_work: int | None = None,
) -> Launched:
    """Put the kernels on the stream of a batch of problems where they lie.

    Parameters
    ----------
    cost : float32, float64, float16 or bfloat16 [B, n, m], n <= m
        On a CUDA device; the entries of a row lie side by side.
    sense
    duals : bool
        Whether row and column duals are returned.
    prices : float64 [m], contiguous, optional
        Column duals of a similar square problem, where the search starts.
    sizes : int32 [B, 2], contiguous, optional
        On the device: rows and columns of each problem, at least 1, rows <= columns.
    team : CudaTeam, optional
        Which threads solve one problem. Default: `team_for`.
    most_work : int, optional
        Rounds of a search after which a problem is left as costly; 0: none. Default:
        `most_work_for`. There is no limit while a CUDA graph is captured.

    Raises
    ------
    ValueError
        If there are too many rows for the device's words, 2**24.
    RuntimeError
        If the device failed: the message names the kernel. If it fails later, where the reports are
        waited for.
    """
    import torch

    problems, n, m = cost.shape
    if n >= 2**24:
        raise ValueError(f"a CUDA device solves up to 2**24 rows, got {n}")
    col_of_row = torch.empty((problems, n), dtype=torch.int64, device=cost.device)
    u = v = None
    if duals:
        u = torch.empty((problems, n), dtype=torch.float64, device=cost.device)
        v = torch.empty((problems, m), dtype=torch.float64, device=cost.device)
    if not (problems and n):
        return Launched(col_of_row, u, v, lambda: np.zeros(problems, _core.CudaReport))
    device, stream = _place(cost)
    task = _core.CudaTask(
        cost.data_ptr(),
        _type_of(cost.dtype),
        problems,
        n,
        m,
        cost.stride(0),
        cost.stride(1),
        sense,
        0 if prices is None else prices.data_ptr(),
        0 if sizes is None else sizes.data_ptr(),
        most_work_for(n, m) if most_work is None else most_work,
    )
    team = team or team_for(problems, n, m)
    # What is put on the stream later may have its memory.
    workspace = torch.empty(
        _core.cuda_workspace(task, team, device), dtype=torch.uint8, device=cost.device
    )
    receipt = _core.cuda_solve(
        task,
        team,
        col_of_row.data_ptr(),
        0 if u is None else u.data_ptr(),
        0 if v is None else v.data_ptr(),
        workspace.data_ptr(),
        device,
        stream,
    )
    return Launched(col_of_row, u, v, (lambda: None) if receipt is None else receipt.wait)


def team_for(problems: int, n: int, m: int) -> _core.CudaTeam:
    """Which threads solve one problem: a warp or a block, or the grid, one problem after another.

    On an H100 a warp was the quickest up to 128 columns and, where there are warps enough for every
    multiprocessor, up to 256; and a block took some m / 128 times as long as the grid.
    """
    if m <= (WARP_COLUMNS if problems >= 512 else WARP_COLUMNS // 2):
        return _core.CudaTeam.warp
    if m <= BLOCK_COLUMNS and (n <= 64 or 128 * problems >= m):
        return _core.CudaTeam.block
    return _core.CudaTeam.grid


def most_work_for(n: int, m: int) -> int:
    """Rounds of a search, some 4 us each on an H100, after which a problem is left to the host.

    That is about what the host takes for a matrix of middling difficulty, copied to it.
    """
    return min(1024 + n * m // 1024, 2**30)


def is_captured() -> bool:
    """Whether a CUDA graph is being captured, so that nothing can go to the host."""
    import torch

    begun = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    return bool(begun) and torch.cuda.is_current_stream_capturing()


@functools.cache
def _type_of(dtype: torch.dtype) -> _core.CudaType:
    """What a matrix consists of, for the kernels."""
    kind: _core.CudaType = getattr(_core.CudaType, str(dtype).removeprefix("torch."))
    return kind


def _place(tensor: torch.Tensor) -> tuple[int, int]:
    """Index of a tensor's device and the address of that device's current stream."""
    import torch

    index = tensor.get_device()
    return index, torch.cuda.current_stream(index).cuda_stream
