"""The assignment solver on a CUDA device: addresses, strides and streams, checked in one place.

Matrices are torch tensors, or anything that hands itself over by DLPack, as CuPy's arrays do. They
are read where they lie, on the current stream of their device; workspace and answers come from
torch's allocator. A solve waits for the device once, for its report; Ctrl-C ends the wait.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bmatch import _core
from bmatch.arrays import is_tensor

if TYPE_CHECKING:
    import torch

REPORT_FIELDS = {
    "outcome": np.int32,  # one of the five below
    "bidding_rounds": np.int32,
    "forest_phases": np.int32,
    "forest_rounds": np.int32,
    "rescans": np.int32,
    "whole_rows": np.int32,
    "objective": np.float64,
    "gap": np.float64,
}
REPORT = np.dtype(list(REPORT_FIELDS.items()))
"""What the device says of each problem."""
OPTIMAL, INFEASIBLE, INVALID, DWARFED, _BROKEN = range(5)

HOST_ROWS = 128
"""Problems with fewer rows are solved on the host, unless many come at once. Modelled (a launch
and a few barriers beside the host's time at that size), not yet measured on a GPU."""

WARP_ROWS, BLOCK_COLUMNS = 64, 1024
"""Up to this many rows a warp solves a problem of a batch, up to this many columns a block."""


@dataclass(frozen=True, eq=False)
class DeviceAnswer:
    """Answers for problems of one shape, tensors on their device.

    Attributes
    ----------
    col_of_row : int64 [B, n]
        -1 for a row without a column; -2 for rows that compete for too few columns, where a problem
        is infeasible.
    row_dual, col_dual : float64 [B, n] and [B, m], or None
        Of the minimised costs.
    reports : structured array [B]
        `REPORT` on the host; None while a CUDA graph is captured, which cannot wait.
    """

    col_of_row: torch.Tensor
    row_dual: torch.Tensor | None
    col_dual: torch.Tensor | None
    reports: npt.NDArray[Any] | None


def is_on_device(value: object) -> bool:
    """Whether `value` is a matrix in the memory of a CUDA device."""
    if is_tensor(value):
        return value.device.type == "cuda"  # type: ignore[attr-defined, no-any-return]
    return hasattr(value, "__cuda_array_interface__")


def as_tensor(value: Any) -> tuple[torch.Tensor, Callable[[torch.Tensor], Any]]:
    """A matrix on a device as a tensor without a copy, and what turns tensors into its kind.

    Raises
    ------
    ValueError
        If it is not a tensor and torch is not installed.
    """
    if is_tensor(value):
        return value.detach().resolve_neg(), lambda tensor: tensor
    try:
        import torch
    except ImportError:
        raise ValueError(
            f"solving a {type(value).__name__} on its device needs torch, which is not installed: "
            "install torch, or pass a NumPy array"
        ) from None
    library = sys.modules[type(value).__module__.split(".")[0]]
    return torch.utils.dlpack.from_dlpack(value), library.from_dlpack


def as_costs(tensor: torch.Tensor) -> torch.Tensor:
    """Entries in a type that the device reads; integers exactly, as float32 or float64.

    Raises
    ------
    TypeError
        If float64 does not hold the type.
    ValueError
        If it does not hold the entries.
    """
    import torch

    if tensor.dtype in (torch.float32, torch.float64, torch.float16, torch.bfloat16):
        return tensor
    if tensor.dtype.is_complex or tensor.dtype.is_floating_point:
        raise TypeError(
            f"Cannot cast array data from {tensor.dtype} to dtype('float64') according to the rule "
            "'safe'"
        )
    if tensor.dtype.itemsize == 8 and tensor.numel():
        low, high = (int(x) for x in tensor.aminmax())
        if low < -(2**53) or high > 2**53:
            raise ValueError(
                f"cost matrix holds integers from {low} to {high}, and float64 does not hold them "
                "one by one: pass cost.cpu(), or floats"
            )
    return tensor.to(torch.float32 if tensor.dtype.itemsize <= 2 else torch.float64)


def on_host(value: Any) -> Any:
    """The same on the host, if it is on a device: where that was asked for, or costs less."""
    return as_tensor(value)[0].cpu() if is_on_device(value) else value


def is_usable() -> bool:
    """Whether this build has kernels for a device of this machine."""
    built, _, _, devices, _ = _core.cuda_facts()
    return built and devices > 0


def why_unusable() -> str:
    """The error for a matrix on a device that cannot be solved there."""
    trouble = _core.cuda_facts()[4]
    return (
        f"the cost matrix is on a CUDA device, and it cannot be solved there: {trouble}; pass "
        "backend='cpu' to solve on the host, or cost.cpu()"
    )


def solve(
    cost: torch.Tensor,
    sense: _core.Sense,
    *,
    duals: bool,
    prices: torch.Tensor | None = None,
    team: _core.CudaTeam | None = None,
) -> DeviceAnswer:
    """Solve problems of one shape where they lie.

    Parameters
    ----------
    cost : float32, float64, float16 or bfloat16 [B, n, m], n <= m
        On a CUDA device; the entries of a row lie side by side.
    sense
    duals : bool
        Whether row and column duals are returned.
    prices : float64 [m], contiguous, optional
        Column duals of a similar square problem, where the search starts.
    team : CudaTeam, optional
        Which threads solve one problem. Default: `team_for`.

    Raises
    ------
    ValueError
        If there are too many rows for the device's words, 2**24.
    RuntimeError
        If the device failed, or has no clusters for that team: the message names the kernel.
    """
    import torch

    problems, n, m = cost.shape
    if n >= 2**24:
        raise ValueError(f"a CUDA device solves up to 2**24 rows, got {n}")
    device, stream = _place(cost)

    def empty(*shape: int, dtype: torch.dtype) -> torch.Tensor:
        return torch.empty(shape, dtype=dtype, device=cost.device)

    col_of_row = empty(problems, n, dtype=torch.int64)
    u = empty(problems, n, dtype=torch.float64) if duals else None
    v = empty(problems, m, dtype=torch.float64) if duals else None
    reports = empty(problems, REPORT.itemsize, dtype=torch.uint8)
    if problems and n:
        task = _core.CudaTask(
            cost.data_ptr(),
            getattr(_core.CudaType, str(cost.dtype).removeprefix("torch.")),
            problems,
            n,
            m,
            cost.stride(0),
            cost.stride(1),
            sense,
            0 if prices is None else prices.data_ptr(),
        )
        team = team or team_for(problems, n, m)
        workspace = empty(_core.cuda_workspace(task, team, device), dtype=torch.uint8)
        _core.cuda_solve(
            task,
            team,
            col_of_row.data_ptr(),
            0 if u is None else u.data_ptr(),
            0 if v is None else v.data_ptr(),
            reports.data_ptr(),
            workspace.data_ptr(),
            device,
            stream,
        )
    else:
        reports.zero_()
    if _capturing():
        return DeviceAnswer(col_of_row, u, v, None)
    _wait(reports)
    told = reports.cpu().numpy().view(REPORT)[:, 0]
    if (told["outcome"] == _BROKEN).any():
        raise RuntimeError(
            "solve_kernel lost its way in a tree of shortest paths: please report the matrix"
        )
    return DeviceAnswer(col_of_row, u, v, told)


def team_for(problems: int, n: int, m: int) -> _core.CudaTeam:
    """Which threads solve one problem: a warp or a block of a batch, the grid a large one.

    A cluster of blocks searches with quicker barriers and fewer threads than the grid. Not yet
    measured on a GPU, so it is not chosen.
    """
    if problems > 1 and n <= WARP_ROWS and m <= BLOCK_COLUMNS:
        return _core.CudaTeam.warp
    if m <= BLOCK_COLUMNS and (problems > 1 or n <= WARP_ROWS):
        return _core.CudaTeam.block
    return _core.CudaTeam.grid


def _place(tensor: torch.Tensor) -> tuple[int, int]:
    """Index of a tensor's device and the address of that device's current stream."""
    import torch

    return tensor.device.index, torch.cuda.current_stream(tensor.device).cuda_stream


def _wait(tensor: torch.Tensor) -> None:
    """Wait until what is on a tensor's stream is done.

    torch's own wait hears no signal. After Ctrl-C the device goes on, and the allocator gives its
    memory only to what follows on the same stream.
    """
    import torch

    done = torch.cuda.Event()  # type: ignore[no-untyped-call]
    done.record(torch.cuda.current_stream(tensor.device))
    while not done.query():  # type: ignore[no-untyped-call]
        time.sleep(0)


def _capturing() -> bool:
    import torch

    return torch.cuda.is_available() and torch.cuda.is_current_stream_capturing()
