"""What the CUDA solver would take on a device, counted without one: its kernels run by fibers on
the CPU, in as many blocks as an H100 has resident.

Counted are barriers, and between two of them, for the thread that waits longest, trips to the
second cache, trips to shared memory and collectives of the warp; and bytes read of the matrix.
Times are the counts times the figures below, which are estimates of an H100 and not measured.

``--kernels`` counts another state of csrc/cuda, for comparison: a folder of a checkout that has
csrc/cuda/host/library.cpp. Rows go to results/model.csv, or below --out.
"""

from __future__ import annotations

import argparse
import ctypes
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import bmatch
from benchmarks import fibers, provenance, report, results
from benchmarks.cases import Case
from bmatch import _core
from bmatch.assignment import cuda

ROOT = Path(__file__).parents[1]
MULTIPROCESSORS, SHARED_BYTES = 132, 227 * 1024
RESIDENT = {"warp": 4, "block": 2, "grid": 1}  # blocks a multiprocessor

# Seconds, estimated: latencies of the second cache (270 cycles), of shared memory (30) and of a
# shuffle (25) at 1.75 GHz, with what stands around them. A barrier of the grid with two fences was
# put at half as much again.
LAUNCH = 5e-6
BARRIER = {"warp": 0.0, "block": 40e-9, "grid": 1.5e-6}
FAR, NEAR, COLLECTIVE = 200e-9, 20e-9, 15e-9  # as in csrc/cuda/host/cuda_runtime.h
BANDWIDTH = 3.0e12  # bytes a second

SINGLE = (
    ("planted", 4096), ("noisy", 4096), ("int100", 4096), ("uniform", 1024), ("uniform", 4096),
    ("lowrank", 4096), ("spatial", 1024),
)  # fmt: skip
CASES = (
    *(Case(family, n, n) for family, n in SINGLE),
    Case("uniform", 300, 300, 208),
    Case("spatial", 300, 300, 208),
    Case("int100", 300, 300, 208),
    Case("uniform", 64, 64, 10_000),
)
SAMPLE = {300: 8, 64: 264}  # problems of a batch that are counted; all are alike
TOLD = ("bidding_rounds", "forest_phases", "forest_rounds", "rescans", "whole_rows")  # by reports


class Counts(NamedTuple):
    """What a launch waits for."""

    barriers: int
    far_trips: int
    near_trips: int
    collectives: int
    bytes: int

    def seconds(self, team: str) -> float:
        """By the figures above."""
        waits = self.far_trips * FAR + self.near_trips * NEAR + self.collectives * COLLECTIVE
        return LAUNCH + self.barriers * BARRIER[team] + waits + self.bytes / BANDWIDTH


def count(library: ctypes.CDLL, costs: Any, team: str) -> tuple[Counts, Any]:
    """Counts and reports of a batch [B, n, m], whose answers are held against the host's."""
    problems, n, m = costs.shape
    library.play(RESIDENT[team] * MULTIPROCESSORS, ctypes.c_uint64(SHARED_BYTES))
    words = (_core.CudaType.float32, _core.Sense.minimize, getattr(_core.CudaTeam, team))
    shape = (problems, n, m, n * m, m)
    task = fibers.Arguments(costs.ctypes.data, 0, 0, *shape, *(word.value for word in words), 0)
    workspace = np.empty(library.workspace_bytes(ctypes.byref(task)), np.uint8)
    col_of_row = np.empty((problems, n), np.int64)
    u, v = np.empty((problems, n)), np.empty((problems, m))
    reports = np.empty(problems, _core.CudaReport)
    fibers.spent(library)
    pointers = (
        ctypes.c_void_p(array.ctypes.data) for array in (col_of_row, u, v, reports, workspace)
    )
    library.solve(ctypes.byref(task), *pointers)
    for cost, objective in zip(costs[:4], reports["objective"], strict=False):
        expected = bmatch.solve(cost).objective
        if abs(objective - expected) > 1e-9 * abs(expected):
            raise AssertionError(f"{objective} where the host finds {expected}")
    return Counts(*fibers.spent(library)), reports


def table(rows: Sequence[results.Row]) -> list[str]:
    """Markdown: the kernels counted first beside those counted last."""
    states = list(dict.fromkeys(row.provider for row in rows))
    before, now = ({r.case: r for r in rows if r.provider == s} for s in (states[0], states[-1]))
    lines = [
        "Counts by fibers in as many blocks as an H100 has resident: **modelled, not measured**. "
        f'"Before" is {states[0]}, "now" {states[-1]}.',
        "",
        "| matrix | team | barriers before | now | trips before | now | ms before | ms now |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for text, row in now.items():
        case = Case.parse(text)
        name = f"{case.family} {case.rows}"
        if case.problems > 1:
            name = f"{case.family}, {case.problems:,} x {case.rows} x {case.cols}"
        pairs = zip(_cells(case, before.get(text)), _cells(case, row), strict=True)
        cells = [name, row.extra["team"], *(cell for pair in pairs for cell in pair)]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _cells(case: Case, row: results.Row | None) -> tuple[str, str, str]:
    """Barriers, trips and milliseconds."""
    if row is None:
        return "not counted", "not counted", "not counted"
    near = f" + {row.extra['near_trips']:,} near" if case.problems > 1 else ""
    trips = f"{row.extra['far_trips']:,}{near}"
    return str(row.extra["barriers"]), trips, f"{row.value * 1e3:.3g}"


def main(arguments: list[str]) -> None:
    """Counts every case and prints what it would take."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks model", description=__doc__)
    parser.add_argument("--kernels", type=Path, default=ROOT / "csrc")
    parser.add_argument("--families", nargs="+", help="default all")
    parser.add_argument(
        "--barrier", type=float, default=BARRIER["grid"], help="of the grid, seconds"
    )
    parser.add_argument("--largest", type=int, default=4096, help="no matrix above this size")
    parser.add_argument("--team", choices=RESIDENT, help="default as bmatch chooses")
    parser.add_argument("--seed", type=int, default=20261201)
    parser.add_argument("--name", help="of the kernels in the results; default the commit")
    results.arguments(parser)
    options = parser.parse_args(arguments)
    if options.report:
        return report.write("model")
    BARRIER["grid"] = options.barrier
    name = options.name or provenance.commit()
    with (
        tempfile.TemporaryDirectory() as folder,
        results.appending("model", options, "H100, modelled") as out,
    ):
        library = fibers.compile_library(options.kernels.resolve(), Path(folder) / "fibers.so")
        for case in CASES:
            problems, n = case.problems, case.rows
            if n > options.largest or (options.families and case.family not in options.families):
                continue
            single = case._replace(problems=1)
            sample = min(problems, SAMPLE.get(n, 1))
            costs = np.stack([single.make(options.seed + k) for k in range(sample)])
            team = options.team or cuda.team_for(problems, n, n).name
            counts, reports = count(library, costs, team)
            teams = MULTIPROCESSORS * RESIDENT[team] * (4 if team == "warp" else 1)
            waves = -(-problems // teams) if problems > 1 else 1
            seconds = LAUNCH + waves * (counts.seconds(team) - LAUNCH)
            told = {field: int(reports[field].mean()) for field in TOLD}
            extra = {"team": team, **told, **counts._asdict()}
            out.add(str(case), name, "time", "s", float(f"{seconds:.3g}"), extra)
            print(
                f"{case}, {team}: {told['bidding_rounds']} bids {told['forest_rounds']} rounds "
                f"{counts.barriers} barriers {counts.far_trips} far {counts.near_trips} near "
                f"{counts.collectives} collectives: {seconds * 1e3:.3g} ms modelled",
                flush=True,
            )
    if options.out is None:
        report.write("model")
