"""The assignment solver on a CUDA device: matrices that lie there, beside every other way to solve
them there or by way of the host. One process, in turns, medians of wall time, device and all.

Times are also told as multiples of one full read of the matrix (its row minima by torch), which no
solver can do without. Rows go to results/assignment_cuda.csv, or below --out, as they come.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch

import bmatch
from benchmarks import assignment_table, cases, harness, peers, provenance, report, results
from benchmarks.cases import Case
from benchmarks.harness import Spread
from benchmarks.peers import BOUNDS, OURS, READ, Found, Solver

SIZES = (512, 1024, 2048, 4096, 8192, 16_384, 32_768)
QUICK_SIZES = (512, 1024, 2048, 4096)
QUICK_FAMILIES = ("planted", "uniform", "spatial", "lowrank")


def installed() -> dict[str, Solver]:
    """The solvers that are here; says which are not."""
    here = {name: solver for name, solver in peers.DEVICE.items() if solver.is_installed}
    for name in peers.DEVICE.keys() - here.keys():
        print(f"{name} is not installed, and not measured")
    return here


def objective(c: torch.Tensor, cols: Any) -> float:
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


class Measured(NamedTuple):
    """Of one solver on one case."""

    spread: Spread
    rounds: int
    excess: float
    peak_bytes: int | None  # beside the matrix; None where there is no device


def measure(c: torch.Tensor, asked: Mapping[str, Solver], seed: int) -> dict[str, Measured]:
    """Every solver on one matrix or batch, those that failed left out."""
    times: dict[str, list[float]] = {}
    objectives: dict[str, float] = {}
    peak: dict[str, int | None] = {}
    on_cuda = c.device.type == "cuda"
    calls = {
        name: harness.timed(lambda solve=solver.solve: solve(c), c.device)  # type: ignore[misc]
        for name, solver in asked.items()
    }
    for name, solver in asked.items():
        if on_cuda:
            torch.cuda.reset_peak_memory_stats(c.device)
        before = torch.cuda.memory_allocated(c.device) if on_cuda else 0
        try:
            cols = solver.solve(c)  # the first call compiles, too
            if name not in BOUNDS:
                objectives[name] = objective(c, cols)
            del cols
            times[name] = [calls[name]()]
        except Exception as error:  # a peer's own: told, and no reason to stop
            if name in (OURS, *BOUNDS):
                raise
            print(f"  {name} failed: {type(error).__name__}: {str(error).splitlines()[0][:100]}")
            continue
        peak[name] = torch.cuda.max_memory_allocated(c.device) - before if on_cuda else None
    more = {
        name: 0 if first > 1.0 else 4 if first > 0.05 else 14 for name, (first,) in times.items()
    }
    calls = {name: calls[name] for name in times}
    for name, taken in harness.in_turns(calls, more, seed).items():
        times[name] += taken
    excess = peers.excesses(objectives) | dict.fromkeys(BOUNDS, 0.0)
    return {
        name: Measured(Spread.of(taken), len(taken), excess[name], peak[name])
        for name, taken in times.items()
    }


def matrices(families: Sequence[str], sizes: Sequence[int]) -> list[Case]:
    """All families of a size before the next, so that what is cut off is the largest."""
    return [Case(family, n, n) for n in sizes for family in families]


def measure_all(
    selected: Sequence[Case],
    solvers: Mapping[str, Solver],
    seed: int,
    device: torch.device,
    left: Callable[[], bool],
    out: results.Writer,
) -> None:
    """Adds rows to the results, a case at a time, while time is left."""
    last: dict[tuple[str, str], tuple[int, float]] = {}
    shared = {"seed": seed, **provenance.versions()}
    for case in selected:
        if not left():
            print(f"{case} and what follows: no time left")
            return
        try:
            c = case.make(seed, device)
        except torch.OutOfMemoryError:
            print(f"{case}: no room on the device")
            continue
        asked = {}
        for name, solver in solvers.items():
            n0, taken = last.get((name, case.family), (case.rows, 0.0))
            needed = peers.foretold(taken, n0, case.rows) if case.problems == 1 else 0.0
            if solver.takes(case.rows, case.cols, case.problems) and (
                name in (OURS, *BOUNDS) or needed <= peers.SLOWEST
            ):
                asked[name] = solver
        found = measure(c, asked, seed)
        stats = dict(bmatch.solve(c).stats) if case.problems == 1 else {}
        for name, one in found.items():
            if case.problems == 1:
                last[name, case.family] = (case.rows, one.spread.p50)
            version = provenance.version(solvers[name].distribution)
            extra = shared | {"version": version, "rounds": one.rounds}
            told = {"excess": float(f"{one.excess:.2g}")} | (
                {"stats": stats} if name == OURS else {}
            )
            out.add(str(case), name, "time", "s", one.spread, extra | told)
            if one.peak_bytes is not None:
                out.add(str(case), name, "memory", "B", one.peak_bytes, extra)
        _tell(case, found)
        del c


def _tell(case: Case, found: Mapping[str, Measured]) -> None:
    """A line on one case: our time, in reads of the matrix too, and the best exact peer's."""
    exact = peers.exact_peers({name: Found(m.spread.p50, m.excess) for name, m in found.items()})
    best = min(exact, key=exact.__getitem__, default="nobody")
    ours, read = found[OURS].spread.p50, found[READ].spread.p50
    print(
        f"{case}: {ours * 1e3:.3f} ms, {ours / read:.3g} reads, excess {found[OURS].excess:.2g}; "
        f"{best} {exact.get(best, 0.0) / ours:.2f}x",
        flush=True,
    )


def table(rows: Sequence[results.Row]) -> list[str]:
    """Markdown, a table a device."""
    lines = []
    for machine, on_it in results.by_machine(rows).items():
        kept = results.newest(on_it)
        providers = {row.provider for row in kept}
        lines += [
            f"{machine}; commit {kept[-1].commit}, {kept[-1].date} UTC. Times in milliseconds for "
            "the whole Python call, device and all; the other columns are multiples of it.",
            "",
            *assignment_table.body(
                assignment_table.latest(on_it), [n for n in peers.DEVICE if n in providers]
            ),
            "",
        ]
    return lines[:-1]


def main(arguments: list[str]) -> None:
    """Measures everything and writes the results."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks assignment --device cuda", description=__doc__
    )
    parser.add_argument("--families", nargs="+", choices=cases.SQUARE, help="default all, quick 4")
    parser.add_argument("--largest", type=int, default=SIZES[-1], help="no matrix above this size")
    parser.add_argument("--only", choices=("matrices", "batches"), help="default both")
    parser.add_argument("--seed", type=int, default=20261125, help="never use it for tuning")
    parser.add_argument("--device", default="cuda")
    harness.arguments(parser)
    results.arguments(parser)
    options = parser.parse_args(arguments)
    if options.report:
        return report.write("assignment_cuda")
    device = torch.device(options.device)
    solvers = installed()
    families: Sequence[str] = list(cases.SQUARE)
    sizes: Sequence[int] = SIZES
    if options.quick:
        families, sizes = QUICK_FAMILIES, QUICK_SIZES
        solvers = {name: solver for name, solver in solvers.items() if not solver.slow}
    selected: list[Case] = []
    if options.only != "batches":
        within = [n for n in sizes if n <= options.largest]
        selected += matrices(options.families or families, within)
    if options.only != "matrices":
        selected += cases.BATCHES
    left = harness.until(options.seconds)
    with results.appending("assignment_cuda", options, provenance.machine(device)) as out:
        measure_all(selected, solvers, options.seed, device, left, out)
    if options.out is None:
        report.write("assignment_cuda")
