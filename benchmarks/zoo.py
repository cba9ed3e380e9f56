"""The matrices that users bring: every family, beside all peers, square and rectangular.

What is told is the best exact peer's time and SciPy's in multiples of ours, the least times of
interleaved rounds: the worst case of every family and the median. Rows go to results/zoo.csv, or
below --out. Small cases come first: it begins no more after 340 seconds where it is ``--quick``,
1440 else, or ``--seconds``.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from benchmarks import cases, contest, harness, provenance, report, results
from benchmarks.cases import WIDE, Case
from benchmarks.contest import OPTIMAL, SLOW, Ratios
from benchmarks.peers import OURS
from benchmarks.results import Row, by_machine, newest
from benchmarks.users import USERS

EVERY = (*USERS, *cases.SQUARE, *cases.DEGENERATE, *cases.SCIPY)
SIZES, QUICK = (8, 16, 32, 64, 128, 256, 400, 1024, 1500, 4096), (32, 400, 1500)
WIDER = {64: 2.0, 400: 1.25, 1024: 1.5}
"""Numbers of rows that also come wide and tall: how many times as many columns, or rows."""
ENOUGH = 0.95
"""Best peer's time in multiples of ours that is slow below."""


def suite(families: Iterable[str], sizes: Iterable[int], both: bool = False) -> list[Case]:
    """Every case, small ones first; float32 and float64 in turns, or both."""
    out = []
    for k, family in enumerate(families):
        types = ("",) if family not in USERS else ("", WIDE)
        for i, n in enumerate(sizes):
            for type in types if both else types[(k + i) % len(types) :][:1]:
                out.append(Case(family + type, n, n))
                if n in WIDER and (family in USERS or family in cases.SCIPY):
                    m = int(WIDER[n] * n)
                    out += [Case(family + type, n, m), Case(family + type, m, n)]
    return sorted(out, key=lambda case: case.rows * case.cols)


def run(selected: Sequence[Case], options: argparse.Namespace, out: results.Writer) -> None:
    """Measures, and adds every case to the results as soon as it is done."""
    limit = (340.0 if options.quick else 1440.0) if options.seconds is None else options.seconds
    solvers, left = contest.installed(options.solvers), harness.until(limit)
    given_up = set()
    spent = (0.05, 0.5) if options.quick else (0.15, 1.0)  # seconds of rounds, of a slow trial
    with contest.Trials() as trials:
        for k, case in enumerate(selected):
            if not left():
                print(f"{len(selected) - k} cases left, from {case} on")
                break
            family = case.family.removesuffix(WIDE)
            asked = {
                name: solver
                for name, solver in solvers.items()
                if solver.takes(case.rows, case.cols) and (name, family) not in given_up
            }
            count = max(1, min(8, 1024 // max(case.rows, case.cols)))
            matrices = [case.make(options.seed + k) for k in range(count)]
            measured = contest.hold(matrices, asked, trials, options.seed, *spent)
            for name, one in measured.items():
                if one.outcome == SLOW and name != OURS and case.rows >= 256:
                    given_up.add((name, family))  # it would not be quicker on more rows
                extra = {
                    "seed": options.seed,
                    "version": provenance.version(solvers[name].distribution),
                    "outcome": one.outcome,
                    "rounds": one.rounds,
                    "excess": float(f"{one.excess:.2g}")
                    if one.excess < math.inf
                    else "no matching",
                }
                if not math.isnan(one.least):
                    extra["least"] = float(f"{one.least:.6g}")
                if one.note:
                    extra["note"] = one.note
                out.add(str(case), name, "time", "s", one.spread, extra)
            ratios = Ratios.of({name: (m.outcome, m.least) for name, m in measured.items()})
            print(
                f"{case!s:45s} {measured[OURS].least * 1e3:10.4g} ms {measured[OURS].outcome}  "
                f"{ratios.peer:8s} {ratios.best:7.3g}x  scipy {ratios.scipy:7.3g}x",
                flush=True,
            )


class Told(NamedTuple):
    """What the newest run says of a case: everybody's outcome and least seconds, and the ratios."""

    outcomes: dict[str, tuple[str, float]]
    ratios: Ratios


def latest(rows: Iterable[Row]) -> dict[Case, Told]:
    """The newest run of every case."""
    of_case: dict[Case, dict[str, tuple[str, float]]] = {}
    for row in newest(rows):
        of = of_case.setdefault(Case.parse(row.case), {})
        of[row.provider] = (row.extra["outcome"], row.extra.get("least", math.nan))
    return {case: Told(outcomes, Ratios.of(outcomes)) for case, outcomes in of_case.items()}


def table(rows: Sequence[Row]) -> list[str]:
    """Markdown: all in a few figures, then slow cases, families, and answers that are not right.

    The machine of most cases is told of whole, the others in a line each.
    """
    machines = by_machine(rows)
    main = max(machines, key=lambda name: len({row.case for row in machines[name]}))
    kept, told = newest(machines[main]), latest(machines[main])
    versions = {row.provider: row.extra["version"] for row in kept}
    others = ", ".join(f"{name} {versions[name]}" for name in versions if name != OURS)
    compared = _compared(told)
    slow = sorted(
        (c for c, r in compared.items() if r.best < ENOUGH or r.scipy < 1),
        key=lambda c: compared[c].best,
    )
    return [
        f"{kept[-1].origin} {others}. One thread; the best exact peer's time and SciPy's in "
        "multiples of ours, least of interleaved rounds. A peer that was stopped at "
        f"{contest.TIMES:.0f} times the best counts with that.",
        "",
        "| cases | number | worst | median | geometric mean | under 0.95 | under SciPy |",
        "|---|---|---|---|---|---|---|",
        *_summaries(compared),
        *(
            line
            for name, own in machines.items()
            if name != main
            for line in _summaries(_compared(latest(own)), f"{name}: ")
        ),
        "",
        f"Slower than {ENOUGH} of the best peer, or than SciPy:",
        "",
        "| case | ours, ms | best peer | ratio | SciPy |",
        "|---|---|---|---|---|",
        *(_slow(case, told[case]) for case in slow),
        "",
        "| family | who brings it | cases | worst | on | median | worst of SciPy |",
        "|---|---|---|---|---|---|---|",
        *_families(compared),
        "",
        "Answers that are not optimal, refusals and crashes:",
        "",
        "| solver | wrong | refused | crashed | stopped | of |",
        "|---|---|---|---|---|---|",
        *_failures(told),
    ]


def _slow(case: Case, told: Told) -> str:
    (_, ours), (best, peer, scipy) = told.outcomes[OURS], told.ratios
    return f"| {report.escaped(case)} | {ours * 1e3:.4g} | {peer} | {best:.3g} | {scipy:.3g} |"


def _compared(told: Mapping[Case, Told]) -> dict[Case, Ratios]:
    """Of the cases that a peer has solved."""
    return {case: t.ratios for case, t in told.items() if not math.isnan(t.ratios.best)}


def _summaries(compared: Mapping[Case, Ratios], where: str = "") -> Iterator[str]:
    large = [r for case, r in compared.items() if min(case.rows, case.cols) >= 256]
    for name, some in (("all", list(compared.values())), ("n >= 256", large)):
        if some:
            yield _summary(where + name, some)


def _summary(name: str, ratios: Sequence[Ratios]) -> str:
    best = [r.best for r in ratios]
    cells = [
        f"{name} | {len(best)} | {min(best):.3g} | {statistics.median(best):.3g}",
        f"{statistics.geometric_mean(best):.3g} | {sum(b < ENOUGH for b in best)}",
        f"{sum(r.scipy < 1 for r in ratios)}",
    ]
    return f"| {' | '.join(cells)} |"


def _families(compared: dict[Case, Ratios]) -> list[str]:
    """A line a family, the worst first."""
    of_family: dict[str, dict[Case, Ratios]] = {}
    for case, ratios in compared.items():
        of_family.setdefault(case.family.removesuffix(WIDE), {})[case] = ratios
    lines = []
    for family, some in of_family.items():
        worst = min(some, key=lambda case: some[case].best)
        low, middle = some[worst].best, statistics.median(r.best for r in some.values())
        scipy = min((r.scipy for r in some.values() if r.scipy == r.scipy), default=math.nan)
        brings = USERS[family].brings if family in USERS else ""
        shape = worst.shape + (WIDE if worst.family.endswith(WIDE) else "")
        figures = f"{len(some)} | {low:.3g} | {shape} | {middle:.3g} | {scipy:.3g}"
        lines.append((low, f"| {report.escaped(family)} | {brings} | {figures} |"))
    return [line for _, line in sorted(lines)]


def _failures(told: dict[Case, Told]) -> list[str]:
    kinds = (contest.WRONG, contest.REFUSED, contest.CRASHED, SLOW)
    counts: dict[str, dict[str, int]] = {}
    for one in told.values():
        for name, (outcome, _) in one.outcomes.items():
            of = counts.setdefault(name, dict.fromkeys((*kinds, OPTIMAL), 0))
            of[outcome] += 1
    return [
        f"| {name} | " + " | ".join(str(of[kind]) for kind in kinds) + f" | {sum(of.values())} |"
        for name, of in counts.items()
    ]


def main(arguments: list[str]) -> None:
    """Measures and reports; ``--report`` only reports."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks zoo", description=__doc__)
    parser.add_argument(
        "--families", type=lambda s: s.split(","), default=EVERY, help="with commas"
    )
    parser.add_argument(
        "--sizes", type=lambda s: [int(n) for n in s.split(",")], help="with commas"
    )
    parser.add_argument("--both", action="store_true", help="every case in float32 and in float64")
    shape = parser.add_mutually_exclusive_group()
    shape.add_argument("--square", action="store_true", help="no rectangular ones")
    shape.add_argument("--rectangular", action="store_true", help="no square ones")
    parser.add_argument("--solvers", type=lambda s: s.split(","), help="peers, with commas")
    parser.add_argument("--seed", type=int, default=20261127, help="never use it for tuning")
    harness.arguments(parser)
    results.arguments(parser)
    options = parser.parse_args(arguments)
    if options.report:
        return report.write("zoo")
    sizes = options.sizes or (QUICK if options.quick else SIZES)
    selected = suite(options.families, sizes, options.both)
    if options.square or options.rectangular:
        selected = [case for case in selected if (case.rows == case.cols) == options.square]
    with results.appending("zoo", options) as out:
        run(selected, options, out)
    if options.out is None:
        report.write("zoo")
        return
    rows = results.read("zoo", options.out)
    if not rows:
        raise SystemExit(f"no case was begun in {options.seconds} s: nothing to tell")
    print("\n".join(table(rows)))
