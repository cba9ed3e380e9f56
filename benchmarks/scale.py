"""Assignments from factors, without a matrix. Rows go to results/scale.csv, or below --out.

Memory is that of the whole process. It fails where duals do not prove the answer.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt

import bmatch
from benchmarks import report, results
from benchmarks.cases import Case
from benchmarks.peers import OURS
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


def table(rows: Sequence[results.Row]) -> list[str]:
    """Markdown."""
    kept = results.newest(rows)
    lines = [
        f"{kept[-1].origin} float32 factors, one thread.",
        "",
        "| matrix | the matrix in float32, GB | the process, MB | s | passes | "
        "unmatched rows | relative gap |",
        "|---|---|---|---|---|---|---|",
    ]
    for memory, time in zip(kept[::2], kept[1::2], strict=True):
        extra = time.extra
        lines.append(
            f"| {memory.case} | {memory.extra['matrix'] / 1e9:.1f} | "
            f"{memory.value / 1e6:.0f} | {time.value:.3g} | {extra['passes']:.1f} | "
            f"{extra['unmatched']} | {extra['relative gap']:.1e} |"
        )
    return lines


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
        stages = {name: f"{value:.3g}" for name, value in answer.stats.items()}
        print(f"{case}: {solve.seconds:.3g} s, {solve.peak_bytes / 1e6:.0f} MB, {stages}")
    if options.out is None:
        report.write("scale")
