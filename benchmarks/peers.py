"""The solvers beside which ours is measured, as one list: how each is called, and what it takes.

All take float32 and float64, and turn into their own type what they do not compute in. `HOST` are
called with arrays [n, m], `DEVICE` with tensors on a CUDA device, [n, m] or [B, n, m].
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from unittest import mock

import numpy as np

import bmatch
from benchmarks import provenance

OURS = "bmatch"
READ = "one read"  # NumPy's maximum of the matrix, torch's minima of its rows on a device
COPY = "one copy"
BOUNDS = (READ, COPY)
"""No solvers: work that none can do without."""
EXACT = 1e-12
"""Excess of an objective over the best, relative: what is above is not optimal."""
SLOWEST = 4.0
"""Seconds a call: who would need more, by what a smaller case took, is not asked."""


class Solver(NamedTuple):
    """Who solves, and what of.

    Attributes
    ----------
    distribution : str
        What is to be installed.
    solve : callable
        A matrix to the answer. On the host rows and columns that are matched, as SciPy has them;
        on a device the column of every row, -1 for none, on either side.
    whole : bool
        Whether the answer on the host begins with the column of every row instead.
    square_only, batches : bool
        Whether only square matrices are taken; whether [B, n, m] are, too.
    slow : bool
        Whether quick runs do without it: by way of the host.
    """

    distribution: str
    solve: Callable[[Any], Any]
    whole: bool = False
    square_only: bool = False
    batches: bool = False
    slow: bool = False

    def takes(self, rows: int, cols: int, problems: int = 1) -> bool:
        """Whether it solves matrices, or a batch of them, of this shape."""
        return (rows == cols or not self.square_only) and (problems == 1 or self.batches)

    def matched(self, answer: Any) -> tuple[Any, Any]:
        """Rows and columns of an answer of the host's."""
        return (np.arange(len(answer[0])), answer[0]) if self.whole else (answer[0], answer[1])

    @property
    def is_installed(self) -> bool:
        """Whether it is here: lap and lapx both bring a module `lap`."""
        return provenance.version(self.distribution) != "none"


class Found(NamedTuple):
    """What a solver came to on one matrix."""

    seconds: float
    excess: float  # of the objective over the best, relative


def exact_peers(found: Mapping[str, Found]) -> dict[str, float]:
    """Seconds of the solvers, other than ours and our ways by the host, that found an optimum."""
    return {
        name: one.seconds
        for name, one in found.items()
        if not name.startswith(OURS) and name not in BOUNDS and one.excess <= EXACT
    }


def excesses(objectives: Mapping[str, float]) -> dict[str, float]:
    """How far every objective lies above the least, relative to it."""
    best = min(objectives.values())
    return {name: (sum - best) / max(abs(best), 1e-300) for name, sum in objectives.items()}


def foretold(seconds: float, rows: int, next_rows: int) -> float:
    """Seconds for more rows, as the cube of their number."""
    return seconds * (next_rows / rows) ** 3


def _bmatch(c: Any) -> Any:
    return bmatch.linear_sum_assignment(c)


def _read(c: Any) -> Any:
    return c.max()


def _scipy(c: Any) -> Any:
    from scipy.optimize import linear_sum_assignment

    return linear_sum_assignment(c)


def _laprust(c: Any) -> Any:
    import laprust

    return laprust.lapjv(c, extend_cost=True, return_cost=False)


def _lapcpp(c: Any) -> Any:
    import lapcpp

    return lapcpp.lapjv(c, extend_cost=True, return_cost=False)


def _lap(c: Any) -> Any:
    import lap

    return lap.lapjv(c, return_cost=False)


def _lapjvr(c: Any) -> Any:
    import lap

    return lap.lapjvr(c, True, return_cost=False, precision=_exact(c))


def _lapjvh(c: Any) -> Any:
    import lap

    return lap.lapjvh(c, True, return_cost=False, precision=_exact(c))


def _exact(c: Any) -> str:
    """What lapx is to compute in: it sums rectangular matrices of float32 in float32."""
    return "native" if c.shape[0] == c.shape[1] else "float64"


def _lapjvx(c: Any) -> Any:
    import lap

    return lap.lapjvx(c, True, return_cost=False)


def _lapjv(c: Any) -> Any:
    import lapjv

    return lapjv.lapjv(c)


def _fastlap(c: Any) -> Any:
    import fastlap

    return fastlap.linear_sum_assignment(c)


HOST: dict[str, Solver] = {
    OURS: Solver("bmatch", _bmatch),
    READ: Solver("numpy", _read),
    "scipy": Solver("scipy", _scipy),
    "laprust": Solver("laprust", _laprust),
    "lapcpp": Solver("lapcpp", _lapcpp),
    "lap": Solver("lap", _lap, whole=True, square_only=True),
    "lapjvr": Solver("lapx", _lapjvr),
    "lapjvh": Solver("lapx", _lapjvh),
    "lapjvx": Solver("lapx", _lapjvx),
    "lapjv": Solver("lapjv", _lapjv, whole=True, square_only=True),
    "fastlap": Solver("fastlap", _fastlap, square_only=True),
}


def _by_way_of_the_host(solve: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Moves the matrix to the host and the columns back; a batch goes as a loop."""

    def columns(c: Any) -> Any:
        import torch

        host = c.cpu().numpy()
        if host.ndim == 2:
            return torch.as_tensor(np.asarray(solve(host)[1]), device=c.device)
        out = torch.full(c.shape[:2], -1, dtype=torch.int64)
        for found, matrix in zip(out, host, strict=True):
            rows, cols = (torch.as_tensor(np.asarray(side)) for side in solve(matrix))
            found[rows] = cols
        return out.to(c.device)

    return columns


def _on_the_device(c: Any) -> Any:
    if c.ndim == 3:
        return bmatch.batch_linear_sum_assignment(c, backend="cuda")
    return bmatch.linear_sum_assignment(c)[1]


def _on_our_host(c: Any) -> Any:
    if c.ndim == 3:
        return bmatch.batch_linear_sum_assignment(c, backend="cpu")
    return bmatch.solve(c, backend="cpu").col_ind


def _without_nvcc(c: Any) -> Any:
    """As a build without nvcc has it: scanned on the device, solved on the host."""
    from bmatch.assignment import cuda

    with mock.patch.object(cuda, "is_usable", return_value=False):
        return bmatch.linear_sum_assignment(c)[1]


def _torch_linear_assignment(c: Any) -> Any:
    from torch_linear_assignment import batch_linear_assignment

    return batch_linear_assignment(c if c.ndim == 3 else c[None])


def _torch_lap_cuda(c: Any) -> Any:
    """HyLAC."""
    from torch_lap_cuda import solve_lap

    return solve_lap(c if c.ndim == 3 else c[None])


def _torchmatch(c: Any) -> Any:
    """Munkres."""
    import torchmatch

    return torchmatch.munkres_hybrid(c)


DEVICE: dict[str, Solver] = {
    OURS: Solver("bmatch", _on_the_device, batches=True),
    "bmatch without nvcc": Solver("bmatch", _without_nvcc, slow=True),
    "bmatch on the host": Solver("bmatch", _on_our_host, batches=True),
    READ: Solver("torch", lambda c: c.amin(-1), batches=True),
    COPY: Solver("torch", lambda c: c.clone(), batches=True),
    "scipy": Solver("scipy", _by_way_of_the_host(_scipy), batches=True, slow=True),
    "laprust": Solver("laprust", _by_way_of_the_host(_laprust), batches=True, slow=True),
    "torch-linear-assignment": Solver(
        "torch-linear-assignment", _torch_linear_assignment, batches=True
    ),
    "torch-lap-cuda": Solver("torch-lap-cuda", _torch_lap_cuda, square_only=True, batches=True),
    "torchmatch": Solver("torchmatch", _torchmatch, square_only=True),
}
