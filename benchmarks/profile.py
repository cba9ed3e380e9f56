"""Where the time of single solves on a device goes, by torch's profiler: a table a matrix."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TextIO

import torch
from torch.profiler import ProfilerActivity

import bmatch
from benchmarks import cases, provenance

CASES = (("planted", 4096), ("uniform", 4096))
SOLVES = 5


def table(family: str, n: int, device: torch.device) -> str:
    """Kernels and calls of some solves, the longest first."""
    cost = cases.make(family, n, n, seed=0, device=device)
    bmatch.linear_sum_assignment(cost)  # what is loaded and allocated on first use
    activities = [ProfilerActivity.CPU]
    if device.type == "cuda":
        activities.append(ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=activities, acc_events=True) as profile:
        for _ in range(SOLVES):
            bmatch.linear_sum_assignment(cost)
    order = "self_cuda_time_total" if device.type == "cuda" else "self_cpu_time_total"
    found = profile.key_averages().table(sort_by=order, row_limit=15, max_name_column_width=60)
    return f"{family} {n}, {SOLVES} solves\n{found}"


def main(arguments: list[str]) -> None:
    """Writes the tables to standard output, or to profile.txt below --out."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks profile", description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--rows", type=int, help="matrices of this size instead")
    parser.add_argument("--out", type=Path, help="folder of profile.txt")
    options = parser.parse_args(arguments)
    device = torch.device(options.device)

    def write(file: TextIO) -> None:
        versions = [f"{name} {version}" for name, version in provenance.versions().items()]
        facts = (provenance.machine(device), *versions, f"commit {provenance.commit()}")
        print(", ".join(facts), file=file)
        for family, n in CASES:
            print(table(family, options.rows or n, device), file=file, flush=True)

    if options.out is None:
        return write(sys.stdout)
    options.out.mkdir(parents=True, exist_ok=True)
    with (options.out / "profile.txt").open("w") as file:
        write(file)
