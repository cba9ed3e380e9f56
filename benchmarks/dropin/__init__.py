"""Other libraries' own tests with bmatch in place of SciPy's and lap's functions: `make dropin`.

Every library's tests run twice, each time in a process of its own: with the solver that they bring,
and with bmatch in its place. Calls of the solver are counted both times, and its share of the time
of those tests that call it is told. Where a library's tests are not among what PyPI has of it, its
documented use stands in `uses/`, with answers known by construction. Rows go to
results/dropin.csv, or below --out.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import provenance, report, results

USES = Path(__file__).parent / "uses"
ROOT = Path(__file__).parents[2]
PLAIN, OURS = "plain", "bmatch"


class Suite(NamedTuple):
    """Tests of one library."""

    distribution: str  # on PyPI; constraints.txt says which version
    what: str
    modules: tuple[str, ...] = ()  # the library's own tests, as installed with it
    use: str = ""  # or a file of `uses/`
    ties: tuple[str, ...] = ()  # tests of `modules` that expect one of several best answers

    @property
    def arguments(self) -> list[str]:
        """What pytest is asked to run."""
        return ["--pyargs", *self.modules] if self.modules else [str(USES / self.use)]

    def __str__(self) -> str:
        return f"{self.distribution}: {self.what}"


# [[12, 4, 9], [16, 15, 14], [19, 13, 17]]: 4 + 16 + 17 is as good as 4 + 14 + 19.
LAP_TIES = ("test_square[cost6-expected6]",)

SUITES = (
    Suite("scipy", "assignment", ("scipy.optimize.tests.test_linear_assignment",)),
    Suite("scipy", "quadratic assignment", ("scipy.optimize.tests.test_quadratic_assignment",)),
    Suite("networkx", "bipartite matching", ("networkx.algorithms.bipartite.tests.test_matching",)),
    Suite("networkx", "graph edit distance", ("networkx.algorithms.tests.test_similarity",)),
    Suite("networkx", "a full matching of 300", use="test_use_of_networkx.py"),
    Suite("scikit-learn", "consensus score", ("sklearn.metrics.cluster.tests.test_bicluster",)),
    Suite("scikit-learn", "biclustering", ("sklearn.cluster.tests.test_bicluster",)),
    Suite("scikit-learn", "consensus, cluster accuracy", use="test_use_of_scikit_learn.py"),
    Suite("motmetrics", "bundled sequences", ("motmetrics.tests",)),
    Suite("torchmetrics", "permutation-invariant training", use="test_use_of_torchmetrics.py"),
    Suite("transformers", "matchers of detection models", use="test_use_of_transformers.py"),
    Suite("trackers", "a synthetic video", use="test_use_of_trackers.py"),
    Suite("lap", "lapjv, lapmod", ("lap.tests",), ties=LAP_TIES),
    Suite("POT", "uniform emd beside the assignment", use="test_use_of_pot.py"),
)


class Found(NamedTuple):
    """What one run of a suite came to."""

    outcomes: dict[str, str]
    calls: int
    share: float  # of the solver in the time of the tests that call it

    @property
    def passed(self) -> int:
        """How many tests did."""
        return list(self.outcomes.values()).count("passed")

    def lost(self, plain: Found, ties: tuple[str, ...] = ()) -> list[str]:
        """Tests, other than `ties`, that pass with the other solver and not here."""
        return sorted(
            test
            for test, outcome in plain.outcomes.items()
            if outcome == "passed"
            and self.outcomes.get(test) != "passed"
            and test.partition("::")[2] not in ties
        )


def run(arguments: Sequence[str], solver: str) -> Found:
    """Tests in a process of their own, in one thread.

    Raises
    ------
    RuntimeError
        If pytest leaves no report: with what it printed last.
    """
    threads = ("BMATCH_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "report.json"
        environment = {
            **os.environ,
            **dict.fromkeys(threads, "1"),
            "PYTHONPATH": str(ROOT),
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "BMATCH_DROPIN": solver,
            "BMATCH_DROPIN_REPORT": str(path),
        }
        # Without our settings of pytest: the library's own hold.
        quiet = ["-q", "-p", "no:cacheprovider", "-c", os.devnull, f"--rootdir={sys.prefix}"]
        command = [sys.executable, "-m", "pytest", "-p", "benchmarks.dropin.plugin", *quiet]
        done = subprocess.run(
            [*command, *arguments],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if not path.exists():
            raise RuntimeError(f"no report of {arguments}: {(done.stdout + done.stderr)[-2000:]}")
        told: dict[str, Any] = json.loads(path.read_text())
    share = told["solver_seconds"] / told["seconds"] if told["calls"] else 0.0
    return Found(told["outcomes"], told["calls"], share)


def table(rows: Sequence[results.Row]) -> list[str]:
    """Markdown: a line a suite."""
    kept = results.newest(rows)
    of_case: dict[str, dict[tuple[str, str], results.Row]] = {}
    for row in kept:
        of_case.setdefault(row.case, {})[row.provider, row.metric] = row
    lines = [
        f'{kept[-1].origin} "Before" and "after" are the solver\'s share of the time of the '
        "tests that call it, with SciPy's or lap's function and with bmatch's. Tests are the "
        "library's own, or its use as we wrote it down (benchmarks/dropin/uses) where PyPI has "
        "none of its tests. Two of lap's expect one of several best answers, and get another.",
        "",
        "| library | what | tests | passed, plain | passed, bmatch | calls | before | after |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for case, found in of_case.items():
        library, _, what = case.partition(": ")
        extra = found[OURS, "passed"].extra
        plain, ours = (
            f"{found[solver, 'passed'].value:.0f} of {extra['tests']}" for solver in (PLAIN, OURS)
        )
        before, after = (f"{100 * found[s, 'share'].value:.2g}%" for s in (PLAIN, OURS))
        calls = f"{found[OURS, 'calls'].value:.0f}"
        calls = "none: not tested" if calls == "0" else calls
        lines.append(
            f"| {library} {extra['version']} | {what} | {extra['origin']} | {plain} | {ours} "
            f"| {calls} | {before} | {after} |"
        )
    return lines


def main(arguments: list[str]) -> None:
    """Runs all suites twice; fails if bmatch loses a test that the other solver passes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks dropin", description=__doc__)
    parser.add_argument("--only", default="", help="suites whose name holds this alone")
    results.arguments(parser)
    options = parser.parse_args(arguments)
    if options.report:
        return report.write("dropin")
    lost = []
    with results.appending("dropin", options) as out:
        for suite in SUITES:
            if options.only not in str(suite):
                continue
            found = {solver: run(suite.arguments, solver) for solver in (PLAIN, OURS)}
            for solver, one in found.items():
                extra = {
                    "version": provenance.version(suite.distribution),
                    "tests": len(one.outcomes),
                    "origin": "its own" if suite.modules else "its use",
                }
                out.add(str(suite), solver, "passed", "tests", one.passed, extra)
                out.add(str(suite), solver, "calls", "calls", one.calls, extra)
                out.add(str(suite), solver, "share", "of 1", one.share, extra)
            lost += found[OURS].lost(found[PLAIN], suite.ties)
            told = ", ".join(f"{solver} {one.passed}" for solver, one in found.items())
            print(f"{suite}: passed {told}; {found[OURS].calls} calls", flush=True)
    if options.out is None:
        report.write("dropin")
    if lost:
        raise SystemExit("passed with the other solver alone: " + ", ".join(lost))
