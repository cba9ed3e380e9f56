"""Two models' activations to the gauge between them, whole: ours beside the pipeline people write.

That pipeline keeps the activations, takes `torch.corrcoef` of both streams, and gives the
magnitudes of a quarter of it to SciPy on the host. Activations come in batches from a planted gauge
with noise; making them is not timed. Nor is the first use of a shape on a GPU, which compiles
kernels and loads libraries (Triton keeps what it compiled on disk): either provider first turns one
batch into a gauge. Each run is a process of its own, so that its peak memory can be told, and
providers take turns. Rows go to results/align.csv, or below --out, as they come.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import resource
import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
import torch

import bmatch
from benchmarks import harness, provenance, report, results
from benchmarks.harness import Spread, seconds

CPU_SHAPES = ((576, 16_384), (1024, 16_384), (2048, 16_384))
CUDA_SHAPES = ((1024, 65_536), (4096, 65_536), (8192, 65_536))
QUICK_SHAPES = {"cpu": ((256, 2048),), "cuda": ((1024, 65_536),)}
BATCH = 512  # tokens
NOISE = 1.0  # standard deviations of a stream
METRICS = {"time": "s", "memory": "B", "bus": "B", "recovered": "1"}
SEED = 20261125  # of the order in which providers take turns


class Streaming:
    """Moments of each batch, the correlation, the exact signed assignment: nothing is kept."""

    def __init__(self, dim: int, device: torch.device) -> None:
        self.moments = bmatch.CrossMoments(dim, dim, device)
        self.bus = 0

    def update(self, y: torch.Tensor, x: torch.Tensor) -> None:
        """A batch of target and source ``[BATCH, D]``."""
        self.moments.update(y, x)

    def gauge(self) -> bmatch.SignedPermutation:
        """From source to target."""
        a = bmatch.solve(self.moments.correlation(), sign_marginalized=True)
        assert a.sign is not None
        self.bus = 0 if self.moments.device.type == "cpu" else a.col_ind.nbytes + a.sign.nbytes
        return bmatch.SignedPermutation(a.col_ind, a.sign).to(None)


class Keeping:
    """All activations at once, torch.corrcoef, SciPy."""

    def __init__(self, dim: int, device: torch.device) -> None:
        self.dim, self.device, self.bus = dim, device, 0
        self.kept: list[list[torch.Tensor]] = [[], []]

    def update(self, y: torch.Tensor, x: torch.Tensor) -> None:
        """A batch of target and source ``[BATCH, D]``."""
        self.kept[0].append(y)
        self.kept[1].append(x)

    def gauge(self) -> bmatch.SignedPermutation:
        """From source to target."""
        import scipy.optimize

        streams = torch.cat([torch.cat(batches) for batches in self.kept], 1)  # [T, 2 D]
        c = torch.corrcoef(streams.T)[: self.dim, self.dim :].cpu().numpy()
        self.bus = 0 if self.device.type == "cpu" else c.nbytes
        perm = scipy.optimize.linear_sum_assignment(np.abs(c), maximize=True)[1]
        sign = np.where(c[np.arange(self.dim), perm] < 0, -1, 1).astype(np.int8)
        return bmatch.SignedPermutation(perm, sign)


OURS, NEEDS_SCIPY = "bmatch", "corrcoef and SciPy"
PROVIDERS: dict[str, type[Streaming] | type[Keeping]] = {OURS: Streaming, NEEDS_SCIPY: Keeping}


def batches(
    truth: bmatch.SignedPermutation, tokens: int, device: torch.device
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Target and source ``[BATCH, D]`` of the same tokens."""
    g = torch.Generator(device).manual_seed(20_281_125)
    planted = truth.to(device)
    for _ in range(tokens // BATCH):
        x = torch.randn(BATCH, truth.dim, generator=g, device=device)
        noise = torch.randn(BATCH, truth.dim, generator=g, device=device)
        yield planted.apply(x) + NOISE * noise, x


def run(name: str, dim: int, tokens: int, device: torch.device) -> dict[str, float]:
    """One alignment in this process: its figures by metric."""
    truth = bmatch.SignedPermutation.random(dim, seed=1)
    PROVIDERS[name](dim, device)  # what is loaded on first use
    bmatch.linear_sum_assignment(np.eye(2))
    if name == NEEDS_SCIPY:
        importlib.import_module("scipy.optimize").linear_sum_assignment(np.eye(2))
    if device.type == "cuda":
        first = PROVIDERS[name](dim, device)
        first.update(*next(batches(truth, BATCH, device)))
        first.gauge()
        del first
        torch.cuda.reset_peak_memory_stats(device)
    before = memory(device)
    provider = PROVIDERS[name](dim, device)
    taken = 0.0
    for y, x in batches(truth, tokens, device):
        taken += seconds(partial(provider.update, y, x), device)
    gauges: list[bmatch.SignedPermutation] = []
    taken += seconds(lambda: gauges.append(provider.gauge()), device)
    return {
        "time": taken,
        "memory": memory(device) - before,
        "bus": provider.bus,
        "recovered": gauges[0].agreement(truth),
    }


def in_a_process(name: str, dim: int, tokens: int, device: torch.device) -> dict[str, float]:
    """The same in a process of its own."""
    command = [sys.executable, "-m", "benchmarks", "align", "--device", str(device)]
    command += ["--one", name, str(dim), str(tokens)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    result: dict[str, float] = json.loads(done.stdout)
    return result


def memory(device: torch.device) -> int:
    """The most memory that was ever in use: of the process, or of the device."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def table(rows: Sequence[results.Row]) -> list[str]:
    """Markdown, a table a machine."""
    lines: list[str] = []
    for machine, on_it in results.by_machine(rows).items():
        kept = results.newest(on_it)
        lines += [
            f"{machine}; commit {kept[-1].commit}, {kept[-1].date} UTC; "
            f"{kept[-1].extra['clock']} time, medians. Memory is what a run adds to its process at "
            "most.",
            "",
            "| D | tokens | bmatch, s | corrcoef and SciPy, s | ratio | bmatch, MiB | corrcoef and "
            "SciPy, MiB | over the bus, bytes | recovered |",
            "|---|---|---|---|---|---|---|---|---|",
        ]
        for case in dict.fromkeys(row.case for row in kept):
            found = {(r.provider, r.metric): r.value for r in kept if r.case == case}
            _, dim, _, tokens = case.split()
            ours, theirs = found[OURS, "time"], found.get((NEEDS_SCIPY, "time"), float("nan"))
            memory = [found.get((name, "memory"), float("nan")) / 2**20 for name in PROVIDERS]
            lines.append(
                f"| {dim} | {tokens} | {ours:.3f} | {theirs:.3f} | {theirs / ours:.1f} | "
                f"{memory[0]:.0f} | {memory[1]:.0f} | {found[OURS, 'bus']:.0f} | "
                f"{found[OURS, 'recovered']:.2%} |"
            )
        lines.append("")
    return lines[:-1]


def main(argv: list[str]) -> None:
    """Times both pipelines and writes the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks align", description=__doc__)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--rounds", type=int, help="of each pipeline; default 3, quick 1")
    parser.add_argument("--dims", type=int, nargs="+", help="only these widths")
    parser.add_argument("--one", nargs=3, metavar=("PROVIDER", "D", "T"), help=argparse.SUPPRESS)
    harness.arguments(parser)
    results.arguments(parser)
    options = parser.parse_args(argv)
    if options.report:
        return report.write("align")
    device = torch.device(options.device)
    if device.type == "cpu":
        torch.set_num_threads(1)
    if options.one:
        name, dim, tokens = options.one
        return print(json.dumps(run(name, int(dim), int(tokens), device)))

    shapes: Sequence[tuple[int, int]] = CUDA_SHAPES if device.type == "cuda" else CPU_SHAPES
    if options.quick:
        shapes = QUICK_SHAPES[device.type]
    providers = list(PROVIDERS)
    if not importlib.util.find_spec("scipy"):
        providers.remove(NEEDS_SCIPY)
        print(f"scipy is not installed: {NEEDS_SCIPY} is not measured")
    rounds = options.rounds or (1 if options.quick else 3)
    extra = {"clock": harness.clock(device), "rounds": rounds, **provenance.versions()}
    left = harness.until(options.seconds)
    with results.appending("align", options, provenance.machine(device)) as out:
        for dim, tokens in shapes:
            if (options.dims and dim not in options.dims) or not left():
                continue
            calls = {name: partial(in_a_process, name, dim, tokens, device) for name in providers}
            for name, runs in harness.in_turns(calls, rounds, SEED).items():
                spreads = {key: Spread.of(one[key] for one in runs) for key in METRICS}
                for metric, unit in METRICS.items():
                    out.add(f"D {dim} T {tokens}", name, metric, unit, spreads[metric], extra)
                medians = {key: spread.p50 for key, spread in spreads.items()}
                print(
                    f"{name:20} D {dim:5} T {tokens:6} {medians['time']:8.3f} s, "
                    f"{medians['memory'] / 2**20:7.0f} MiB, {medians['bus']:.0f} bytes over the "
                    f"bus, recovered {medians['recovered']:.2%}",
                    flush=True,
                )
    if options.out is None:
        report.write("align")
