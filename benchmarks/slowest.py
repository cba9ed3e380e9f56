"""A search for slow cases: random recipes, shapes and types beside all peers; the worst, mutated.

Rows go to results/slowest.csv, or below --out: of the worst cases the best exact peer's least time
in multiples of ours (metric "ratio"), or, with ``--counters``, the rows that the solver read in
multiples of those that the matrix has (metric "passes"), which no other program disturbs. A case
names its recipe, and with the seed beside it `benchmarks.cases.Case.make` makes the matrix again.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping, Sequence
from random import Random
from typing import NamedTuple

import bmatch
from benchmarks import cases, contest, harness, provenance, recipes, report, results
from benchmarks.cases import WIDE, Case
from benchmarks.contest import OPTIMAL, REFUSED, WRONG, Ratios
from benchmarks.peers import OURS, Solver
from benchmarks.results import Row, by_machine
from benchmarks.users import USERS

BASES = tuple(
    name
    for name in (*USERS, *cases.SQUARE, *cases.DEGENERATE, *cases.SCIPY)
    if "inf" not in name and not name.endswith(WIDE)
)
"""What recipes begin with: finite, of a type that is theirs to choose."""
SIZES = (8, 16, 30, 64, 100, 200, 400, 700, 1000, 1500, 2000)
PARENTS, DRAWN = 24, 0.5
"""How many of the worst are mutated, and the share of the time in which cases are drawn anew."""


class Tried(NamedTuple):
    """A case as the search found it; the lower the score the slower, 1 over it for passes."""

    score: float
    case: Case
    seed: int
    seconds: float  # ours
    peer: str  # the best one's name
    scipy: float  # its time in multiples of ours
    outcome: str


class Search:
    """What is asked of a case, and the cases that were asked."""

    def __init__(self, solvers: Mapping[str, Solver], largest: int, seed: int) -> None:
        self.solvers, self.random = solvers, Random(seed)
        self.sizes = [n for n in SIZES if n <= largest]
        self.found: dict[tuple[Case, int], Tried] = {}

    def drawn(self) -> tuple[Case, int]:
        """A recipe of one to three steps, at a shape, in a type."""
        recipe = recipes.compose(self.random, BASES, self.random.randint(1, 3))
        return self.shaped(recipe), self.random.randrange(10**6)

    def shaped(self, recipe: str) -> Case:
        """At a random shape: half of them square."""
        n = self.random.choice(self.sizes)
        m = int(n * self.random.choice((1, 1, 1, 1.05, 1.3, 2)))
        n, m = self.random.choice(((n, m), (m, n)))
        return Case(recipe + self.random.choice(("", WIDE)), n, m)

    def mutated(self) -> tuple[Case, int]:
        """One of the worst with another part, shape, type or seed."""
        case, seed = self.random.choice(self.worst(PARENTS))[1:3]
        kind = self.random.choice(("recipe", "recipe", "recipe", "shape", "seed"))
        recipe = case.family.removesuffix(WIDE)
        wide = case.family[len(recipe) :]
        if kind == "recipe":
            return case._replace(family=recipes.mutated(self.random, recipe, BASES) + wide), seed
        if kind == "shape":
            return self.shaped(recipe), seed
        return case, self.random.randrange(10**6)

    def worst(self, count: int) -> list[Tried]:
        """The slowest, at most four of a family."""
        kept: list[Tried] = []
        for one in sorted(self.found.values(), key=lambda one: one.score):
            base = one.case.family.split(recipes.THEN)[0]
            if sum(k.case.family.split(recipes.THEN)[0] == base for k in kept) < 4:
                kept.append(one)
            if len(kept) == count:
                break
        return kept

    def ask(self, trials: contest.Trials, case: Case, seed: int, seconds: float) -> Tried | None:
        """The case beside all peers; None if none of them has an answer to compare with."""
        count = max(1, min(4, 256 // max(case.rows, case.cols)))
        asked = {k: s for k, s in self.solvers.items() if s.takes(case.rows, case.cols)}
        matrices = [case.make(seed + k) for k in range(count)]
        measured = contest.hold(matrices, asked, trials, seed, seconds, slowest=0.3)
        ratios = Ratios.of({name: (m.outcome, m.least) for name, m in measured.items()})
        ours = measured[OURS]
        failed = ours.outcome in (WRONG, REFUSED, contest.CRASHED)
        if failed and not ratios.peer:  # nobody can: no matching, or all overflow
            return None
        score = 0.0 if failed else ratios.best
        if math.isnan(score):
            return None
        return Tried(score, case, seed, ours.least, ratios.peer, ratios.scipy, ours.outcome)

    def count(self, case: Case, seed: int) -> Tried:
        """How often our solver read the rows of the short side."""
        stats = bmatch.solve(case.make(seed)).stats
        taken = sum(value for name, value in stats.items() if name.endswith("_seconds"))
        return Tried(1 / max(stats["passes"], 0.01), case, seed, taken, "", math.nan, OPTIMAL)


def run(options: argparse.Namespace, search: Search) -> list[Tried]:
    """Searches while there is time, and asks the worst again, for longer."""
    left, early = (harness.until(options.seconds * share) for share in (0.85, 0.85 * DRAWN))
    with contest.Trials() as trials:

        def tried(case: Case, seed: int, seconds: float) -> Tried | None:
            if options.counters:
                return search.count(case, seed)
            return search.ask(trials, case, seed, seconds)

        while left() and len(search.found) < options.cases:
            fresh = early() or len(search.found) < PARENTS
            case, seed = search.drawn() if fresh else search.mutated()
            if (case, seed) in search.found:
                continue
            one = tried(case, seed, 0.03)
            if one is None:
                continue
            if not search.found or one.score < min(t.score for t in search.found.values()):
                print(_line(one), flush=True)
            search.found[case, seed] = one
        for one in search.worst(options.keep):  # least of few rounds: the worst are partly luck
            again = tried(one.case, one.seed, 0.3)
            if again is not None:
                search.found[one.case, one.seed] = again
    return search.worst(options.keep)


def _line(one: Tried) -> str:
    return (
        f"{one.score:8.3g}  {one.seconds * 1e3:9.4g} ms {one.outcome:8s} {one.peer:8s} "
        f"scipy {one.scipy:6.3g}  seed {one.seed:6d}  {one.case}"
    )


def table(rows: Sequence[Row]) -> list[str]:
    """Markdown: of each machine's last search the worst first, the newest search on top."""
    last = [
        [row for row in of_machine if row.date == max(row.date for row in of_machine)]
        for of_machine in by_machine(rows).values()
    ]
    lines = [
        "One thread. The best exact peer's least time and SciPy's in multiples of ours; 0 where "
        "our answer is not right."
    ]
    for kept in sorted(last, key=lambda kept: kept[0].date, reverse=True):
        lines += ["", kept[0].origin, *_worst(kept)]
    return lines


def _worst(kept: Sequence[Row]) -> list[str]:
    lines = [
        "",
        "| recipe | shape | seed | ratio | best peer | SciPy | ours, ms |",
        "|---|---|---|---|---|---|---|",
    ]
    ratios = [row for row in kept if row.metric == "ratio"]
    for row in sorted(ratios, key=lambda row: row.value):
        case, extra = Case.parse(row.case), row.extra
        family = report.escaped(case.family)
        lines.append(
            f"| {family} | {case.shape} | {extra['seed']} | {row.value:.3g} | {extra['peer']} "
            f"| {extra.get('scipy', '-')} | {extra.get('ours', 0) * 1e3:.4g} |"
        )
    passes = [row for row in kept if row.metric == "passes"]
    if passes:
        lines += [
            "",
            "Rows read, in multiples of those of the matrix:",
            "",
            "| recipe | shape | seed | passes |",
            "|---|---|---|---|",
        ]
    for row in sorted(passes, key=lambda row: -row.value):
        case = Case.parse(row.case)
        family = report.escaped(case.family)
        lines.append(f"| {family} | {case.shape} | {row.extra['seed']} | {row.value:.4g} |")
    return lines


def main(arguments: list[str]) -> None:
    """Searches and reports; ``--report`` only reports."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks slowest", description=__doc__)
    parser.add_argument("--seconds", type=float, default=300.0, help="of the search")
    parser.add_argument("--cases", type=int, default=10**9, help="tried, at most")
    parser.add_argument("--seed", type=int, default=0, help="another one searches elsewhere")
    parser.add_argument("--largest", type=int, default=1500, help="number of rows, at most")
    parser.add_argument("--keep", type=int, default=20, help="how many of the worst")
    parser.add_argument("--counters", action="store_true", help="count rows read; time nothing")
    parser.add_argument("--solvers", type=lambda s: s.split(","), help="peers, with commas")
    results.arguments(parser)
    options = parser.parse_args(arguments)
    if options.report:
        return report.write("slowest")
    search = Search(contest.installed(options.solvers), options.largest, options.seed)
    with results.appending("slowest", options) as out:
        for one in run(options, search):
            extra = {
                "seed": one.seed,
                "version": provenance.version("bmatch"),
                "outcome": one.outcome,
            }
            if options.counters:
                out.add(str(one.case), OURS, "passes", "rows", 1 / one.score, extra)
                print(f"{1 / one.score:8.4g} passes  seed {one.seed:6d}  {one.case}")
                continue
            extra["peer"] = one.peer
            known = {"scipy": one.scipy, "ours": one.seconds}
            extra |= {k: float(f"{x:.4g}") for k, x in known.items() if not math.isnan(x)}
            out.add(str(one.case), OURS, "ratio", "", one.score, extra)
            print(_line(one))
        print(f"{len(search.found)} cases tried")
    if options.out is None:
        report.write("slowest")
