"""Assignments from factors, without a matrix. Rows go to results/scale.csv, or below --out.

Memory is that of the whole process. It fails where duals do not prove the answer, and with
``--beside`` where the answer of the whole matrix is another.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

import bmatch
from benchmarks import report, results
from benchmarks.cases import Case
from benchmarks.peers import EXACT, HOST, OURS, Found, Solver
from bmatch.assignment.factors import FactorCost
from bmatch.jobs.phases import Phase, phase

_Sides = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]


def _planted(
    r: np.random.Generator, n: int, m: int, terms: int, part: float = 1.0, noise: float = 0.5
) -> _Sides:
    """Directions, and a part of them in another order with noise; at 0.5, partners' cosine: 0.9."""
    x = r.standard_normal((n, terms), np.float32)
    y = r.standard_normal((m, terms), np.float32)
    shared = int(part * min(n, m))
    at = r.permutation(m)[:shared]
    y[at] = x[:shared] + np.float32(noise) * y[at]
    return x, y


def _points(r: np.random.Generator, n: int, m: int, terms: int) -> _Sides:
    """Uniform in the unit cube: SciPy's issue 20729."""
    return r.random((n, terms), np.float32), r.random((m, terms), np.float32)


FAMILIES: dict[str, tuple[Callable[..., _Sides], FactorCost, bool, float | None]] = {
    "planted": (_planted, "cosine", True, None),
    "noisy": (partial(_planted, noise=1.5), "cosine", True, None),
    "half planted": (partial(_planted, part=0.5), "cosine", True, 0.7),
    "points": (_points, "euclidean", False, None),
}
"""Factors, the cost, whether its sum is maximised, and the limit."""
WHOLE = "bmatch, whole"
BESIDE = (WHOLE, "scipy", "laprust")
"""Who is asked of the matrix itself."""


def table(rows: Sequence[results.Row]) -> list[str]:
    """Markdown, a table for each machine."""
    lines = [
        "float32 factors, one thread. On the right the seconds of those who take the matrix whole, "
        "where they were asked."
    ]
    for of_machine in results.by_machine(rows).values():
        kept = results.newest(of_machine)
        lines += [
            "",
            kept[-1].origin,
            "",
            "| matrix | the matrix in float32, GB | the process, MB | s | passes | "
            f"unmatched rows | relative gap | {' | '.join(BESIDE)} |",
            f"|---|---|---|---|---|---|---{'|---' * len(BESIDE)}|",
        ]
        by_case: dict[str, dict[tuple[str, str], results.Row]] = {}
        for row in kept:
            by_case.setdefault(row.case, {})[row.provider, row.metric] = row
        for case, found in by_case.items():
            memory, taken = found[OURS, "memory"], found[OURS, "time"]
            whole = [found.get((name, "time")) for name in BESIDE]
            lines.append(
                f"| {case} | {memory.extra['matrix'] / 1e9:.2g} | "
                f"{memory.value / 1e6:.0f} | {taken.value:.3g} | {taken.extra['passes']:.1f} | "
                f"{taken.extra['unmatched']} | {taken.extra['relative gap']:.1e} | "
                f"{' | '.join('' if row is None else f'{row.value:.3g}' for row in whole)} |"
            )
    return lines


def beside(
    factors: bmatch.Factors, answer: bmatch.Solution, maximize: bool, limit: float | None
) -> dict[str, Found]:
    """Seconds of those who take the matrix whole, and how far from ours their sums are."""
    matrix = factors.dense()
    cost = -matrix if maximize else matrix

    def whole(_: Any) -> tuple[Any, Any]:
        found = bmatch.solve(matrix, maximize, cost_limit=limit, num_threads=1)
        return found.row_ind, found.col_ind

    solvers = {WHOLE: Solver("bmatch", whole)}
    if limit is None:
        solvers |= {name: HOST[name] for name in BESIDE[1:]}
    ours = matrix[answer.row_ind, answer.col_ind].sum(dtype=np.float64)
    found = {}
    for name, solver in solvers.items():
        begun = time.perf_counter()
        rows, columns = solver.matched(solver.solve(cost))
        seconds = time.perf_counter() - begun
        total = matrix[rows, columns].sum(dtype=np.float64)
        found[name] = Found(seconds, float(abs(total - ours) / abs(ours)))
    if not found[WHOLE].excess <= EXACT:
        raise AssertionError(f"the whole matrix has another answer: {found[WHOLE].excess}")
    return found


def main(arguments: list[str]) -> None:
    """Solves one matrix; raises without a proof."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks scale", description=__doc__)
    parser.add_argument("--family", default="planted", choices=FAMILIES)
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--cols", type=int, help="as many as rows if left out")
    parser.add_argument("--terms", type=int, default=64, help="of a cost: columns of the factors")
    parser.add_argument("--seed", type=int, default=20301701, help="never use it for tuning")
    parser.add_argument("--cache", type=int, default=2**28, help="bytes of rows that are kept")
    parser.add_argument("--certify", action="store_true", help="check all entries: a pass or two")
    parser.add_argument("--beside", action="store_true", help="solve the matrix whole, too")
    results.arguments(parser)
    options = parser.parse_args(arguments)
    if options.report:
        return report.write("scale")
    n, m = options.rows, options.cols or options.rows
    make, cost, maximize, limit = FAMILIES[options.family]
    with results.appending("scale", options) as out:
        x, y = make(np.random.default_rng(options.seed), n, m, options.terms)
        phases: list[Phase] = []
        with phase("solve", phases):
            factors = bmatch.Factors(x, y, cost, cache_bytes=options.cache)
            answer = bmatch.solve(factors, maximize, cost_limit=limit, num_threads=1)
        (solve,) = phases
        relative = answer.gap / abs(answer.objective)
        least = 0.0
        if options.certify:
            proof = bmatch.certify(factors, answer, maximize)
            relative, least = proof.gap / abs(proof.objective), proof.min_reduced_cost
        if not (relative <= 1e-12 and least >= -1e-12):
            raise AssertionError(f"no proof: relative gap {relative}, least reduced cost {least}")
        case = str(Case(f"{options.family}, {options.terms} terms,", n, m))
        told = {
            "passes": answer.stats["passes"],
            "rescans": answer.stats["rescans"],
            "unmatched": n - len(answer.row_ind),
            "relative gap": relative,
            "certified": options.certify,
        }
        out.add(case, OURS, "memory", "B", solve.peak_bytes, {"matrix": 4 * n * m})
        out.add(case, OURS, "time", "s", solve.seconds, told)
        if options.beside:
            for name, peer in beside(factors, answer, maximize, limit).items():
                out.add(case, name, "time", "s", peer.seconds, {"excess": peer.excess})
                print(f"{case}: {name} {peer.seconds:.3g} s, excess {peer.excess:.1e}")
        stages = {name: f"{value:.3g}" for name, value in answer.stats.items()}
        print(f"{case}: {solve.seconds:.3g} s, {solve.peak_bytes / 1e6:.0f} MB, {stages}")
    if options.out is None:
        report.write("scale")
