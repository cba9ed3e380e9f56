"""Matrices on a CUDA device: where one is solved, and by what."""

from __future__ import annotations

import importlib.util
from typing import Any, Literal, TypeAlias

import numpy.typing as npt

from bmatch import arrays
from bmatch.assignment import cuda
from bmatch.assignment.answer import Answer
from bmatch.assignment.costs import Costs, sense_of
from bmatch.assignment.factors import Factors
from bmatch.assignment.host import solve_on_host

Backend: TypeAlias = Literal["auto", "cpu", "cuda"]

Nonfinite: TypeAlias = Literal["raise", "forbid"]
"""What is done with NaN, and with infinities that forbid nothing."""


def costs_for(
    cost: npt.ArrayLike,
    maximize: bool,
    sign_marginalized: bool = False,
    *,
    ndim: int = 2,
    backend: Backend = "auto",
    nonfinite: Nonfinite = "raise",
    movable: bool = False,
    sizes: Any = None,
) -> Costs:
    """A matrix (`ndim` 2) or a batch (3) where it is solved: where it lies is asked here alone.

    `sizes` are those of a ragged batch. If `movable`, what cannot be solved where it lies is
    solved in a copy on the host.

    Raises
    ------
    ValueError, TypeError
        For what is no cost matrix, and for one that cannot be solved where it should be.
    """
    if backend not in ("auto", "cpu", "cuda"):
        raise ValueError(f"backend must be 'auto', 'cpu' or 'cuda', got {backend!r}")
    sense = sense_of(maximize, sign_marginalized)
    forbids = forbids_nonfinite(nonfinite)
    if not arrays.is_on_device(cost):
        if backend == "cuda" and isinstance(cost, Factors):
            raise ValueError(
                "backend='cuda' does not take factors yet: they are solved on the host, with "
                "backend='cpu' or 'auto'"
            )
        if backend == "cuda":
            raise ValueError(
                "backend='cuda' solves what lies on a CUDA device, and this matrix lies on the "
                f"host: pass cost.cuda(); {arrays.NOT_MOVED}"
            )
        on_host = arrays.as_array(cost) if movable else cost
        return Costs.of(on_host, sense, ndim, forbids=forbids, sizes=sizes)
    shape = cost.shape  # type: ignore[union-attr]
    small = len(shape) == 2 and min(shape) < cuda.HOST_ROWS
    to_host = backend == "cpu" or (backend == "auto" and small and not cuda.is_captured())
    if to_host or not can_solve(len(shape)):
        if not (to_host or movable):
            raise ValueError(cuda.why_unusable())
        to_kind = arrays.kind_of(cost, True)
        return Costs.of(arrays.on_host(cost), sense, ndim, to_kind, forbids, sizes)
    return Costs.of_device(cost, sense, ndim, forbids, sizes)


def forbids_nonfinite(nonfinite: str) -> bool:
    """Whether NaN and both infinities forbid a pair."""
    if nonfinite not in ("raise", "forbid"):
        raise ValueError(f"nonfinite must be 'raise' or 'forbid', got {nonfinite!r}")
    return nonfinite == "forbid"


def can_solve(ndim: int) -> bool:
    """Whether matrices (`ndim` 2) or batches (3) on a device can be solved there."""
    # Batches have nothing to gain from scans of their rows: all of a small matrix is read.
    return cuda.is_usable() or (ndim == 2 and _has_triton())


def _has_triton() -> bool:
    return importlib.util.find_spec("triton") is not None


def solve_on_device(
    costs: Costs,
    *,
    certificate: bool = True,
    prices: Any = None,
    num_threads: int | None = None,
) -> Answer:
    """Solve a matrix on its device; parameters and errors as for `solve_on_host`.

    What may leave rows unmatched is solved on the host, by scans of the device if triton is there.
    """
    if cuda.is_usable() and not costs.is_partial:
        solve = cuda.solve_by_kernels
    elif _has_triton():
        from bmatch.assignment.fetched import solve_by_fetching as solve
    else:
        found = solve_on_host(
            costs.on_host(), certificate=certificate, prices=prices, num_threads=num_threads
        )
        return found.to(costs.matrix.device)
    return solve(costs, certificate=certificate, prices=prices, num_threads=num_threads)
