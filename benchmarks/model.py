"""What the CUDA solver would take on a device, counted without one: its kernels run by fibers on
the CPU, in as many blocks as an H100 has resident.

Counted are barriers, and between two of them, for the thread that waits longest, trips to the
second cache, trips to shared memory and collectives of the warp; and bytes read of the matrix.
Times are the counts times the figures below, which are estimates of an H100 and not measured.

``--kernels`` counts another state of csrc/cuda, for comparison: a folder of a checkout that has
csrc/cuda/host/library.cpp. Rows go to results/model.csv, after those that are there.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import subprocess
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import bmatch
from benchmarks import cases, provenance, rows
from bmatch import _core
from bmatch.assignment import cuda

ROOT = Path(__file__).parents[1]
MULTIPROCESSORS, CLUSTER_BLOCKS, SHARED_BYTES = 132, 16, 227 * 1024
RESIDENT = {"warp": 4, "block": 2, "grid": 1, "cluster": 1}  # blocks a multiprocessor

# Seconds, estimated: latencies of the second cache (270 cycles), of shared memory (30) and of a
# shuffle (25) at 1.75 GHz, with what stands around them. A barrier of the grid with two fences was
# put at half as much again.
LAUNCH = 5e-6
BARRIER = {"warp": 0.0, "block": 40e-9, "cluster": 0.8e-6, "grid": 1.5e-6}
FAR, NEAR, COLLECTIVE = 200e-9, 20e-9, 15e-9  # as in csrc/cuda/host/cuda_runtime.h
BANDWIDTH = 3.0e12  # bytes a second

SINGLE = (
    ("planted", 4096), ("noisy", 4096), ("int100", 4096), ("uniform", 1024), ("uniform", 4096),
    ("lowrank", 4096), ("spatial", 1024),
)  # fmt: skip
BATCHES = (
    ("uniform", 208, 300),
    ("spatial", 208, 300),
    ("int100", 208, 300),
    ("uniform", 10_000, 64),
)
SAMPLE = {300: 8, 64: 264}  # problems of a batch that are counted; all are alike
FIELDS = (
    "family", "problems", "rows", "team", "bidding_rounds", "forest_phases", "forest_rounds",
    "rescans", "whole_rows", "barriers", "far_trips", "near_trips", "collectives", "bytes",
    "milliseconds", "kernels", "date",
)  # fmt: skip


class Arguments(ctypes.Structure):
    """A task, as csrc/cuda/host/library.cpp takes it."""

    _fields_ = (
        *((name, ctypes.c_uint64) for name in ("cost", "prices")),
        *(
            (name, ctypes.c_int64)
            for name in ("problems", "rows", "cols", "problem_stride", "row_stride")
        ),
        *((name, ctypes.c_int32) for name in ("type", "sense", "team", "unused")),
    )


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


def compiled(kernels: Path, folder: str) -> ctypes.CDLL:
    """The solver for fibers, as a library."""
    library = Path(folder) / "fibers.so"
    sources = [kernels / "cuda/host/library.cpp", kernels / "cuda/host/fibers.cpp"]
    command = [os.environ.get("CXX", "g++"), "-std=c++17", "-O2", "-ffp-contract=off", "-shared"]
    command += ["-fPIC", f"-I{kernels / 'cuda/host'}", f"-I{kernels}"]
    command += [
        *map(str, sources),
        "-x",
        "c++",
        str(kernels / "cuda/solver.cu"),
        "-o",
        str(library),
    ]
    subprocess.run(command, check=True)
    fibers = ctypes.CDLL(str(library))
    fibers.workspace_bytes.restype = ctypes.c_uint64
    return fibers


def count(fibers: ctypes.CDLL, costs: Any, team: str) -> tuple[Counts, Any]:
    """Counts and reports of a batch [B, n, m], whose answers are held against the host's."""
    problems, n, m = costs.shape
    fibers.play(RESIDENT[team] * MULTIPROCESSORS, CLUSTER_BLOCKS, ctypes.c_uint64(SHARED_BYTES))
    kind, number = _core.CudaType.float32, getattr(_core.CudaTeam, team).value
    task = Arguments(
        costs.ctypes.data,
        0,
        problems,
        n,
        m,
        n * m,
        m,
        kind.value,
        _core.Sense.minimize.value,
        number,
        0,
    )
    workspace = np.empty(fibers.workspace_bytes(ctypes.byref(task)), np.uint8)
    col_of_row = np.empty((problems, n), np.int64)
    u, v = np.empty((problems, n)), np.empty((problems, m))
    reports = np.empty(problems, _core.CudaReport)
    five = (ctypes.c_uint64 * 5)()
    fibers.spent(five)
    pointers = (
        ctypes.c_void_p(array.ctypes.data) for array in (col_of_row, u, v, reports, workspace)
    )
    fibers.solve(ctypes.byref(task), *pointers)
    fibers.spent(five)
    for cost, report in zip(costs[:4], reports, strict=False):
        expected = bmatch.solve(cost).objective
        if abs(report["objective"] - expected) > 1e-9 * abs(expected):
            raise AssertionError(f"{report['objective']} where the host finds {expected}")
    return Counts(*five), reports


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
    parser.add_argument("--out", type=Path, default=rows.RESULTS, help="folder of model.csv")
    options = parser.parse_args(arguments)
    BARRIER["grid"] = options.barrier
    every = [(family, 1, n) for family, n in SINGLE] + list(BATCHES)
    shared = {
        "kernels": options.name or provenance.commit(),
        "date": datetime.now(UTC).date().isoformat(),
    }
    with (
        tempfile.TemporaryDirectory() as folder,
        rows.growing("model.csv", FIELDS, options.out) as add,
    ):
        fibers = compiled(options.kernels.resolve(), folder)
        for family, problems, n in every:
            if n > options.largest or (options.families and family not in options.families):
                continue
            sample = min(problems, SAMPLE.get(n, 1))
            costs = np.stack([cases.make(family, n, n, options.seed + k) for k in range(sample)])
            team = options.team or cuda.team_for(problems, n, n).name
            counts, reports = count(fibers, costs, team)
            teams = MULTIPROCESSORS * RESIDENT[team] * (4 if team == "warp" else 1)
            waves = -(-problems // teams) if problems > 1 else 1
            seconds = LAUNCH + waves * (counts.seconds(team) - LAUNCH)
            told = {name: int(reports[name].mean()) for name in FIELDS[4:9]}
            add(
                shared
                | {"family": family, "problems": problems, "rows": n, "team": team}
                | told
                | counts._asdict()
                | {"milliseconds": f"{seconds * 1e3:.3g}"}
            )
            what = f"{problems} x {n} x {n}" if problems > 1 else f"{n} x {n}"
            print(
                f"{family:8} {what:18} {team:7} {told['bidding_rounds']:5} bids "
                f"{told['forest_rounds']:5} rounds {counts.barriers:6} barriers "
                f"{counts.far_trips:6} far {counts.near_trips:6} near {counts.collectives:6} "
                f"collectives: {seconds * 1e3:.3g} ms modelled",
                flush=True,
            )
