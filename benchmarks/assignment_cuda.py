"""The assignment solver on a CUDA device: matrices that lie there, beside every other way to solve
them there or by way of the host. One process, interleaved, medians of wall time, device and all.

Times are also told as multiples of one full read of the matrix (its row minima by torch), which no
solver can do without. Results go to results/assignment-<device>.csv, which is replaced, or row
by row below --out.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import torch

import bmatch
from benchmarks import assignment, provenance, rows
from benchmarks.assignment import OURS, READ, SLOWEST, exact_peers
from benchmarks.correlation import seconds
from bmatch._core import CudaTeam, Sense
from bmatch.assignment import cuda

COPY = "one copy"
SIZES = (512, 1024, 2048, 4096, 8192, 16_384, 32_768)
QUICK_SIZES = (512, 1024, 2048, 4096)
QUICK_FAMILIES = ("planted", "uniform", "spatial", "lowrank")
BATCHES = ((208, 300, 100), (208, 300, 300), (208, 300, 600), (10_000, 64, 64))
FIELDS = (
    "device", "family", "problems", "rows", "cols", "solver", "version", "seconds", "rounds",
    "reads", "excess", "peak_bytes", "stats", *provenance.OF_DEVICE,
)  # fmt: skip

Costs = torch.Tensor  # float32 [n, m] or [B, n, m] on the device
Columns = torch.Tensor  # int64 [n] or [B, n], -1 for none; on either side


def correlation(g: torch.Generator, n: int, tokens: int, noise: float, common: int = 0) -> Costs:
    """``1 - |corr|`` of activations and of a signed permutation of them, plus noise."""
    device = g.device
    sums = [torch.zeros(n, device=device) for _ in range(4)]
    products = torch.zeros(n, n, device=device)
    loads = torch.randn(common, n, generator=g, device=device)
    perm = torch.randperm(n, generator=g, device=device)
    sign = torch.randint(0, 2, (n,), generator=g, device=device) * 2.0 - 1
    for start in range(0, tokens, 4096):
        batch = min(4096, tokens - start)
        x = torch.randn(batch, n, generator=g, device=device)
        if common:
            x += torch.randn(batch, common, generator=g, device=device) @ loads
        y = x[:, perm] * sign + noise * torch.randn(batch, n, generator=g, device=device)
        products += y.T @ x
        for total, part in zip(sums, (y, x, y.square(), x.square()), strict=True):
            total += part.sum(0)
    y_scale, x_scale = (
        (square - total * total / tokens).clamp_min(1e-30).rsqrt()
        for total, square in zip(sums[:2], sums[2:], strict=True)
    )
    products -= torch.outer(sums[0], sums[1]) / tokens
    return 1 - (products * y_scale[:, None] * x_scale).abs()


def points(g: torch.Generator, n: int) -> Costs:
    """Distances between points of the unit square."""
    a, b = torch.rand(2, n, 2, generator=g, device=g.device)
    return torch.hypot(a[:, :1] - b[:, 0], a[:, 1:] - b[:, 1])


# The families of cases.SQUARE, made on the device: (generator, n) -> [n, n].
FAMILIES: dict[str, Callable[[torch.Generator, int], Costs]] = {
    "planted": lambda g, n: correlation(g, n, 4 * n, 0.5),
    "corr16": lambda g, n: correlation(g, n, 2 * n, 2.0, common=16),
    "noisy8": lambda g, n: correlation(g, n, n, 8.0),
    "noisy": lambda g, n: correlation(g, n, n, 12.0),
    "uniform": lambda g, n: torch.rand(n, n, generator=g, device=g.device),
    "int100": lambda g, n: torch.randint(0, 100, (n, n), generator=g, device=g.device).float(),
    "spatial": points,
    "lowrank": lambda g, n: (
        -(
            torch.randn(n, 8, generator=g, device=g.device)
            @ torch.randn(8, n, generator=g, device=g.device)
        ).abs()
    ),
    "product": lambda g, n: torch.outer(*torch.rand(2, n, generator=g, device=g.device)),
}


class Solver(NamedTuple):
    """Who solves, and what of."""

    distribution: str
    run: Callable[[Costs], Any]
    batches: bool  # [B, n, m] too
    square_only: bool = False
    slow: bool = False  # by way of the host, left out of quick runs


def by_way_of_the_host(solve: Callable[[Any], Any]) -> Callable[[Costs], Columns]:
    """Moves the matrix to the host and the columns back; a batch goes as a loop."""

    def run(c: Costs) -> Columns:
        host = c.cpu().numpy()
        if host.ndim == 2:
            return torch.as_tensor(np.asarray(solve(host)), device=c.device)
        out = torch.full(c.shape[:2], -1, dtype=torch.int64)
        for found, matrix in zip(out, host, strict=True):
            tall = matrix.shape[0] > matrix.shape[1]
            cols = torch.as_tensor(np.asarray(solve(matrix.T if tall else matrix)))
            if tall:
                found[cols] = torch.arange(len(cols))
            else:
                found.copy_(cols)
        return out.to(c.device)

    return run


def on_the_device(c: Costs) -> Columns:
    """Ours, where the matrix lies."""
    if c.ndim == 3:
        return bmatch.batch_linear_sum_assignment(c, backend="cuda")
    return bmatch.linear_sum_assignment(c)[1]


def by_a_cluster(c: Costs) -> Columns:
    """Ours, searched by a cluster of blocks in place of the whole device."""
    return cuda.launch(c[None], Sense.minimize, duals=False, team=CudaTeam.cluster).col_of_row[0]


def on_our_host(c: Costs) -> Columns:
    """Ours, by way of the host."""
    if c.ndim == 3:
        return bmatch.batch_linear_sum_assignment(c, backend="cpu")
    return bmatch.solve(c, backend="cpu").col_ind


def without_nvcc(c: Costs) -> Columns:
    """Ours, as a build without nvcc has it: scanned on the device, solved on the host."""
    with mock.patch.object(cuda, "is_usable", return_value=False):
        return bmatch.linear_sum_assignment(c)[1]


def torch_linear_assignment(c: Costs) -> Columns:
    """On the device, a batch of one where there is one."""
    from torch_linear_assignment import batch_linear_assignment

    return batch_linear_assignment(c if c.ndim == 3 else c[None])


def torch_lap_cuda(c: Costs) -> Columns:
    """HyLAC on the device, a batch of one where there is one."""
    from torch_lap_cuda import solve_lap

    return solve_lap(c if c.ndim == 3 else c[None])


def torchmatch(c: Costs) -> Columns:
    """Munkres on the device."""
    import torchmatch as module

    return module.munkres_hybrid(c)


SOLVERS = {
    OURS: Solver("bmatch", on_the_device, True),
    "bmatch by a cluster": Solver("bmatch", by_a_cluster, False),
    "bmatch without nvcc": Solver("bmatch", without_nvcc, False, slow=True),
    "bmatch on the host": Solver("bmatch", on_our_host, True),
    READ: Solver("torch", lambda c: c.amin(-1), True),
    COPY: Solver("torch", torch.clone, True),
    "scipy": Solver("scipy", by_way_of_the_host(assignment.SOLVERS["scipy"]), True, slow=True),
    "laprust": Solver(
        "laprust", by_way_of_the_host(assignment.SOLVERS["laprust"]), True, slow=True
    ),
    "torch-linear-assignment": Solver("torch-linear-assignment", torch_linear_assignment, True),
    "torch-lap-cuda": Solver("torch-lap-cuda", torch_lap_cuda, True, square_only=True),
    "torchmatch": Solver("torchmatch", torchmatch, False, square_only=True),
}


def installed() -> dict[str, Solver]:
    """The solvers that are here; says which are not."""
    here = {
        name: solver
        for name, solver in SOLVERS.items()
        if importlib.util.find_spec(solver.distribution.replace("-", "_"))
    }
    for name in SOLVERS.keys() - here.keys():
        print(f"{name} is not installed, and not measured")
    return here


def objective(c: Costs, cols: Columns) -> float:
    """The sum of what is matched, in float64; infinite if that is no matching."""
    c = c if c.ndim == 3 else c[None]
    problems, n, m = c.shape
    cols = torch.as_tensor(cols).to(c.device).reshape(problems, -1).long()
    if cols.shape[1] != n and cols.shape[1] != min(n, m):
        return torch.inf
    matched = cols >= 0
    taken = torch.zeros(problems, m + 1, dtype=torch.int64, device=c.device)
    taken.scatter_add_(1, cols.where(matched, m), torch.ones_like(cols))  # the last is for none
    if (taken[:, :m] > 1).any() or (matched.sum(1) != min(n, m)).any():
        return torch.inf
    costs = c[:, : cols.shape[1]].gather(2, cols.clamp_min(0)[..., None])[..., 0]
    return float(costs[matched].double().sum())


def measure(c: Costs, asked: dict[str, Solver]) -> dict[str, dict[str, Any]]:
    """Seconds, excess objective and peak memory of every solver on one matrix or batch."""
    times: dict[str, list[float]] = {}
    objectives: dict[str, float] = {}
    peak: dict[str, int | str] = {}
    for name, solver in asked.items():
        on_cuda = c.device.type == "cuda"
        if on_cuda:
            torch.cuda.reset_peak_memory_stats(c.device)
        before = torch.cuda.memory_allocated(c.device) if on_cuda else 0
        try:
            cols = solver.run(c)  # the first call compiles, too
            if name not in (READ, COPY):
                objectives[name] = objective(c, cols)
            del cols
            times[name] = [seconds(lambda solver=solver: solver.run(c), c.device)]
        except Exception as error:  # a peer's own: told, and no reason to stop
            if name in (OURS, READ, COPY):
                raise
            print(f"  {name} failed: {type(error).__name__}: {str(error).splitlines()[0][:100]}")
            continue
        peak[name] = torch.cuda.max_memory_allocated(c.device) - before if on_cuda else ""
    wanted = {
        name: 1 if first[0] > 1.0 else 5 if first[0] > 0.05 else 15 for name, first in times.items()
    }
    for k in range(1, max(wanted.values())):
        for name, taken in times.items():
            if k < wanted[name]:
                taken.append(seconds(lambda name=name: asked[name].run(c), c.device))
    read = statistics.median(times[READ])
    best = min(objectives.values())
    return {
        name: {
            "seconds": f"{statistics.median(taken):.4g}",
            "rounds": len(taken),
            "reads": f"{statistics.median(taken) / read:.3g}",
            "excess": f"{(objectives[name] - best) / max(abs(best), 1e-300):.2g}"
            if name in objectives
            else "",
            "peak_bytes": peak[name],
        }
        for name, taken in times.items()
    }


class Case(NamedTuple):
    """A family at a shape; `problems` is 1 for a matrix."""

    family: str
    problems: int
    rows: int
    cols: int

    def make(self, seed: int, device: torch.device) -> Costs:
        """The matrix or batch; equal arguments give equal entries."""
        g = torch.Generator(device).manual_seed(seed + self.rows)
        if self.problems == 1:
            return FAMILIES[self.family](g, self.rows)
        return torch.rand(self.problems, self.rows, self.cols, generator=g, device=device)


def matrices(families: list[str], sizes: list[int]) -> Iterator[Case]:
    """All families of a size before the next, so that what is cut off is the largest."""
    for n in sizes:
        for family in families:
            yield Case(family, 1, n, n)


def batches() -> Iterator[Case]:
    """Many small problems at once."""
    for problems, n, m in BATCHES:
        yield Case("uniform", problems, n, m)


def measure_all(
    selected: list[Case],
    solvers: dict[str, Solver],
    seed: int,
    device: torch.device,
    left: Callable[[], bool],
) -> Iterator[dict[str, Any]]:
    """Rows of the results, a case at a time, while time is left."""
    last: dict[tuple[str, str], tuple[int, float]] = {}
    for case in selected:
        if not left():
            print(f"{case.family} {case.rows} x {case.cols} and what follows: no time left")
            return
        try:
            c = case.make(seed, device)
        except torch.OutOfMemoryError:
            print(f"{case.family} {case.rows} x {case.cols}: no room on the device")
            continue
        asked = {}
        for name, solver in solvers.items():
            if case.problems > 1 and not solver.batches:
                continue
            if solver.square_only and case.rows != case.cols:
                continue
            n0, taken = last.get((name, case.family), (case.rows, 0.0))
            foretold = taken * (case.rows / n0) ** 3 if case.problems == 1 else 0.0
            if name in (OURS, READ, COPY) or foretold <= SLOWEST:
                asked[name] = solver
        found = measure(c, asked)
        stats = "" if case.problems > 1 else dict(bmatch.solve(c).stats)
        for name, row in found.items():
            if case.problems == 1:
                last[name, case.family] = (case.rows, float(row["seconds"]))
            version = provenance.version(SOLVERS[name].distribution)
            shared = case._asdict() | {"solver": name, "version": version}
            yield shared | row | {"stats": stats if name == OURS else ""}
        ours = found[OURS]
        peers = exact_peers({name: row for name, row in found.items() if name != COPY})
        best = min(peers, key=peers.__getitem__, default="nobody")
        ratio = peers.get(best, 0.0) / float(ours["seconds"])
        batch = f"{case.problems} x " if case.problems > 1 else ""
        print(
            f"{case.family:8} {batch}{case.rows} x {case.cols}: {float(ours['seconds']) * 1e3:.3f} "
            f"ms, {ours['reads']} reads, excess {ours['excess']}; {best} {ratio:.2f}x",
            flush=True,
        )
        del c


def main(arguments: list[str]) -> None:
    """Measures everything and writes the results."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks assignment --device cuda", description=__doc__
    )
    parser.add_argument("--families", nargs="+", choices=FAMILIES, help="default all, quick four")
    parser.add_argument("--largest", type=int, default=SIZES[-1], help="no matrix above this size")
    parser.add_argument("--only", choices=("matrices", "batches"), help="default both")
    parser.add_argument("--seed", type=int, default=20261125, help="never use it for tuning")
    parser.add_argument("--device", default="cuda")
    rows.arguments(parser)
    options = parser.parse_args(arguments)
    device = torch.device(options.device)
    solvers = installed()
    families, sizes = list(FAMILIES), list(SIZES)
    if options.quick:
        families, sizes = list(QUICK_FAMILIES), list(QUICK_SIZES)
        solvers = {name: solver for name, solver in solvers.items() if not solver.slow}
    selected: list[Case] = []
    if options.only != "batches":
        sizes = [n for n in sizes if n <= options.largest]
        selected += matrices(options.families or families, sizes)
    if options.only != "matrices":
        selected += batches()
    shared = provenance.of_device(device)
    left = rows.until(options.seconds)
    with rows.growing(f"assignment-{shared['device']}.csv", FIELDS, options.out) as add:
        for row in measure_all(selected, solvers, options.seed, device, left):
            add(shared | row)
