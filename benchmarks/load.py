"""Jobs beside a process that is always busy, as on a machine that is shared.

A job of two threads on two cores waits, at every barrier, for the thread whose core is taken. It is
timed alone, then beside a busy loop, there with two threads and with one: with two it should take
no longer than with one. Each run is a process of its own, and they take turns. Rows go to
results/load.csv, or below --out.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, NamedTuple

from benchmarks import cases, harness, report, results
from benchmarks.harness import Spread
from benchmarks.peers import OURS

ROUNDS, LIMIT = 3, 15.0
"""Rounds of a run, and seconds after which it begins no more: beside others they are slow."""
SEED = 20261127


class Way(NamedTuple):
    """How a job runs."""

    threads: int
    busy: int  # processes beside it

    @property
    def place(self) -> str:
        """What a case calls it."""
        return "alone" if self.busy == 0 else f"beside {self.busy} busy"


def estimate_gauge() -> Callable[[], Any]:
    """Two models as wide as SmolLM2-135M, of 6 of its 30 blocks, and 1,024 tokens."""
    import torch
    import transformers

    import bmatch

    config = transformers.LlamaConfig(
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=6,
        num_attention_heads=9,
        num_key_value_heads=3,
        vocab_size=4096,
    )
    target, source = (transformers.LlamaForCausalLM(config).train(False) for _ in range(2))
    tokens = torch.randint(4096, (2, 1, 512), generator=torch.Generator().manual_seed(0))
    return lambda: bmatch.estimate_gauge(target, source, list(tokens))


def update() -> Callable[[], Any]:
    """Moments of the 31 sites of SmolLM2-135M, 10 batches of 512 tokens."""
    import torch

    from bmatch.correlation.site_moments import SiteMoments

    y, x = torch.randn(2, 31, 512, 576, generator=torch.Generator().manual_seed(0))
    moments = SiteMoments(range(31), 576, 576, y.device)

    def run() -> None:
        for _ in range(10):
            moments.update(y, x)

    return run


def solve(family: str, times: int) -> Callable[[], Any]:
    """Solves of 4096 rows, in as many threads as BMATCH_NUM_THREADS says."""
    import bmatch

    c = cases.make(family, 4096, 4096, SEED)

    def run() -> None:
        for _ in range(times):
            bmatch.solve(c)

    return run


JOBS: dict[str, Callable[[], Callable[[], Any]]] = {
    "estimate_gauge": estimate_gauge,
    "SiteMoments.update": update,
    "solve uniform 4096": partial(solve, "uniform", 50),
    "solve lowrank 4096": partial(solve, "lowrank", 10),
}


def run(name: str) -> list[float]:
    """Seconds of a job, round after round, in this process."""
    job = JOBS[name]()
    job()  # warms up
    taken: list[float] = []
    end = time.monotonic() + LIMIT
    while len(taken) < ROUNDS and (not taken or time.monotonic() < end):
        taken.append(harness.seconds(job))
    return taken


@contextmanager
def busy_process() -> Iterator[int]:
    """A process that computes without end, while the context lasts: its number."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield process.pid
    finally:
        process.kill()
        process.wait()


def in_a_process(name: str, way: Way) -> list[float]:
    """The same in a process of its own, with its threads, beside what is to be beside it."""
    names = ("OMP_NUM_THREADS", "BMATCH_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    environment = os.environ | dict.fromkeys(names, str(way.threads))
    with ExitStack() as beside:
        for _ in range(way.busy):
            beside.enter_context(busy_process())
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.load", name],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            env=environment,
        )
    taken: list[float] = json.loads(done.stdout.splitlines()[-1])
    return taken


def table(rows: Sequence[results.Row]) -> list[str]:
    """Markdown: a job's seconds alone, and in multiples of that beside busy processes."""
    kept = results.newest(rows)
    ways = list(dict.fromkeys(Way(row.extra["threads"], row.extra["busy"]) for row in kept))
    lines = [
        f"{kept[-1].origin} Medians by the wall.",
        "",
        "| job | " + " | ".join(f"{_name(way)}, s" for way in ways) + " |",
        "|---|" + "---|" * len(ways),
    ]
    for job in dict.fromkeys(row.case.rpartition(", ")[0] for row in kept):
        found = {
            Way(row.extra["threads"], row.extra["busy"]): row.value
            for row in kept
            if row.case.rpartition(", ")[0] == job
        }
        cells = [f"{found[way]:.3g}" if way in found else "-" for way in ways]
        lines.append(f"| {job} | " + " | ".join(cells) + " |")
    return lines


def _name(way: Way) -> str:
    return f"{way.threads} thread{'s' * (way.threads > 1)} {way.place}"


def main(arguments: list[str]) -> None:
    """Times all jobs in all ways and writes the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks load", description=__doc__)
    parser.add_argument("--jobs", nargs="+", choices=JOBS, default=list(JOBS), help="default all")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--busy", type=int, default=1, help="processes beside the job")
    parser.add_argument("--processes", type=int, default=1, help="runs of a job in each way")
    results.arguments(parser)
    options = parser.parse_args(arguments)
    if options.report:
        return report.write("load")
    ways = (Way(options.threads, 0), Way(options.threads, options.busy), Way(1, options.busy))
    with results.appending("load", options) as out:
        for job in options.jobs:
            calls = {way: partial(in_a_process, job, way) for way in ways}
            for way, runs in harness.in_turns(calls, options.processes, SEED).items():
                spread = Spread.of(taken for one in runs for taken in one)
                extra = {"threads": way.threads, "busy": way.busy, "rounds": sum(map(len, runs))}
                out.add(f"{job}, {way.place}", OURS, "time", "s", spread, extra)
                print(f"{job}, {_name(way)}: {spread.p50:.3g} s", flush=True)
    if options.out is None:
        report.write("load")


if __name__ == "__main__":
    print(json.dumps(run(sys.argv[1])))
