"""Two models' activations to the gauge between them, whole: ours beside the pipeline people write.

That pipeline keeps the activations, takes `torch.corrcoef` of both streams, and gives the
magnitudes of a quarter of it to SciPy on the host. Activations come in batches from a planted gauge
with noise; making them is not timed. Each run is a process of its own, so that its peak memory can
be told, and providers take turns. Results go to results/align-<device>.csv, which is replaced, or
row by row below --out.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import resource
import statistics
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import torch

import bmatch
from benchmarks import provenance, rows
from benchmarks.correlation import seconds

CPU_SHAPES = ((576, 16_384), (1024, 16_384), (2048, 16_384))
CUDA_SHAPES = ((1024, 65_536), (4096, 65_536), (8192, 65_536))
QUICK_SHAPES = {"cpu": ((256, 2048),), "cuda": ((1024, 65_536),)}
BATCH = 512  # tokens
NOISE = 1.0  # standard deviations of a stream
FIELDS = (
    "device", "provider", "dim", "tokens", "seconds", "peak_bytes", "bus_bytes", "recovered",
    "clock", *provenance.OF_DEVICE,
)  # fmt: skip


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


PROVIDERS: dict[str, type[Streaming] | type[Keeping]] = {
    "bmatch": Streaming,
    "corrcoef and SciPy": Keeping,
}
NEEDS_SCIPY = "corrcoef and SciPy"


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


def run(name: str, dim: int, tokens: int, device: torch.device) -> dict[str, Any]:
    """One alignment in this process."""
    truth = bmatch.SignedPermutation.random(dim, seed=1)
    PROVIDERS[name](dim, device)  # what is loaded on first use
    bmatch.linear_sum_assignment(np.eye(2))
    if name == NEEDS_SCIPY:
        importlib.import_module("scipy.optimize").linear_sum_assignment(np.eye(2))
    before = memory(device)
    provider = PROVIDERS[name](dim, device)
    taken = 0.0
    for y, x in batches(truth, tokens, device):
        taken += seconds(partial(provider.update, y, x), device)
    gauges: list[bmatch.SignedPermutation] = []
    taken += seconds(lambda: gauges.append(provider.gauge()), device)
    return {
        "seconds": taken,
        "peak_bytes": memory(device) - before,
        "bus_bytes": provider.bus,
        "recovered": gauges[0].agreement(truth),
    }


def in_a_process(name: str, dim: int, tokens: int, device: torch.device) -> dict[str, Any]:
    """The same in a process of its own."""
    command = [sys.executable, "-m", "benchmarks", "align", "--device", str(device)]
    command += ["--one", name, str(dim), str(tokens)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def memory(device: torch.device) -> int:
    """The most memory that was ever in use: of the process, or of the device."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main(argv: list[str]) -> None:
    """Times both pipelines and writes the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks align", description=__doc__)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--rounds", type=int, help="of each pipeline; default 3, quick 1")
    parser.add_argument("--dims", type=int, nargs="+", help="only these widths")
    parser.add_argument("--one", nargs=3, metavar=("PROVIDER", "D", "T"), help=argparse.SUPPRESS)
    rows.arguments(parser)
    options = parser.parse_args(argv)
    device = torch.device(options.device)
    if device.type == "cpu":
        torch.set_num_threads(1)
    if options.one:
        name, dim, tokens = options.one
        print(json.dumps(run(name, int(dim), int(tokens), device)))
        return

    shared = provenance.of_device(device)
    shared["clock"] = "wall" if device.type == "cuda" else "processor"
    shapes = CUDA_SHAPES if device.type == "cuda" else CPU_SHAPES
    if options.quick:
        shapes = QUICK_SHAPES[device.type]
    providers = list(PROVIDERS)
    if not importlib.util.find_spec("scipy"):
        providers.remove(NEEDS_SCIPY)
        print(f"scipy is not installed: {NEEDS_SCIPY} is not measured")
    left = rows.until(options.seconds)
    with rows.growing(f"align-{shared['device']}.csv", FIELDS, options.out) as add:
        for dim, tokens in shapes:
            if (options.dims and dim not in options.dims) or not left():
                continue
            found: dict[str, list[dict[str, Any]]] = {name: [] for name in providers}
            for _ in range(options.rounds or (1 if options.quick else 3)):
                for name, results in found.items():
                    results.append(in_a_process(name, dim, tokens, device))
            for name, results in found.items():
                medians = {key: statistics.median(r[key] for r in results) for key in results[0]}
                add(shared | {"provider": name, "dim": dim, "tokens": tokens} | medians)
                print(
                    f"{name:20} D {dim:5} T {tokens:6} {medians['seconds']:8.3f} s, "
                    f"{medians['peak_bytes'] / 2**20:7.0f} MiB, {medians['bus_bytes']:.0f} bytes "
                    f"over the bus, recovered {medians['recovered']:.2%}",
                    flush=True,
                )
