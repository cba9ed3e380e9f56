"""Correlation matrices of two streams: activations in, C out.

"matmul" is the ceiling: the product of the whole streams alone, without moments; "product" is that
of bmatch. Work is 2 T D^2 operations for every provider, however many it does. Providers take
turns. On the CPU there is one thread first and processor time is measured, which other programs on
the machine disturb least; then two, by the wall.

Last come a batch of a model's 31 sites, as `estimate_gauge` reads it: updated in one go, and site
by site; "matmul" is the batched product. Rows go to results/correlation.csv, or below --out, as
they come.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch

import bmatch
from benchmarks import harness, provenance, report, results
from benchmarks.harness import Spread
from bmatch.correlation.chunks import CHUNK_TOKENS
from bmatch.correlation.products import multiply, threads_for
from bmatch.correlation.site_moments import SiteMoments

CPU_SHAPES = ((512, 32_768), (1024, 16_384), (2048, 8192))
CUDA_SHAPES = (
    (512, 1_000_000),
    (1024, 1_000_000),
    (2048, 262_144),
    (2048, 1_000_000),
    (4096, 262_144),
    (4096, 1_000_000),
    (8192, 262_144),
    (16_384, 65_536),
)
QUICK_SHAPES = {"cpu": ((512, 2048),), "cuda": ((1024, 262_144), (4096, 65_536))}
SITES, SITE_DIM, SITE_TOKENS = 31, 576, 512  # SmolLM2-135M, and the default batch of bmatch align
CHUNK = 8192  # tokens of a product in the chunked baseline
SEED = 20261125  # of the order in which providers take turns


def ours(precision: str) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """The moments and the correlation of bmatch."""

    def run(y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        moments = bmatch.CrossMoments(y.shape[1], x.shape[1], y.device, precision)
        moments.update(y, x)
        return moments.correlation()

    return run


def chunked_mm(y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Products by torch.mm in chunks, moments in passes of their own."""
    products = torch.zeros(y.shape[1], x.shape[1], device=y.device)
    sums = [torch.zeros(v.shape[1], device=y.device) for v in (y, x, y, x)]
    for start in range(0, len(y), CHUNK):
        a, b = y[start : start + CHUNK], x[start : start + CHUNK]
        products += torch.mm(a.T, b)
        for total, part in zip(sums, (a, b, a.square(), b.square()), strict=True):
            total += part.sum(0, dtype=torch.float32)
    n = len(y)
    variances = [q - s * s / n for s, q in zip(sums[:2], sums[2:], strict=True)]
    covariance = products - torch.outer(sums[0], sums[1]) / n
    return covariance / torch.outer(variances[0].sqrt(), variances[1].sqrt())


def dense(y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """All activations centred and scaled, then one product, as mergekit's matching does."""
    a, b = (v.float() - v.float().mean(0) for v in (y, x))
    c: torch.Tensor = (a / a.norm(dim=0)).T @ (b / b.norm(dim=0))
    return c


def corrcoef(y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """torch.corrcoef of both streams, of which a quarter is what was asked for."""
    d = y.shape[1]
    return torch.corrcoef(torch.cat([y.float(), x.float()], 1).T)[:d, d:]


def matmul(y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """The product alone."""
    return y.T @ x


def product_alone(y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """The product of bmatch on the CPU, chunk by chunk, with neither moments nor folding."""
    threads = threads_for(y.device, y.numel() * x.shape[1])
    products = torch.zeros(y.shape[1], x.shape[1])
    for start in range(0, len(y), CHUNK_TOKENS):
        chunk = slice(start, start + CHUNK_TOKENS)
        products += multiply(y[chunk], x[chunk], threads)
    return products


PROVIDERS = {
    "matmul": matmul,
    "bmatch highest": ours("highest"),
    "bmatch high": ours("high"),
    "bmatch medium": ours("medium"),
    "chunked mm": chunked_mm,
    "dense": dense,
    "torch.corrcoef": corrcoef,
}
COLUMNS = ("bmatch highest", "bmatch high", "bmatch medium", "product", *list(PROVIDERS)[4:])
SITE_PROVIDERS = ("matmul", "all sites", "site by site")


class Case(NamedTuple):
    """Streams of a width and length, how many sites of them, and the threads that work."""

    dtype: str
    dim: int
    tokens: int
    threads: int
    sites: int = 1

    def __str__(self) -> str:
        sites = f" sites {self.sites}" if self.sites > 1 else ""
        return f"{self.dtype} D {self.dim} T {self.tokens} threads {self.threads}{sites}"

    @classmethod
    def parse(cls, text: str) -> Case:
        """What `str` made."""
        dtype, *words = text.split()
        return cls(dtype, *map(int, words[1::2]))

    @property
    def operations(self) -> int:
        """Of the products."""
        return 2 * self.sites * self.tokens * self.dim**2


class Measured:
    """What the providers came to on one case."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.times: Mapping[str, list[float]] = {}
        self.memory: dict[str, int] = {}  # bytes beside the streams, on a device
        self.errors: dict[str, float] = {}  # the largest of a correlation
        self.failed: dict[str, str] = {}


def measure(
    device: torch.device, dtype: torch.dtype, dim: int, tokens: int, repeats: int
) -> Measured:
    """All providers on two streams."""
    generator = torch.Generator(device).manual_seed(0)
    x = torch.randn(tokens, dim, generator=generator, device=device)
    noise = torch.randn(tokens, dim, generator=generator, device=device)
    y = (0.7 * x.flip(1) + 0.5 * noise).to(dtype)
    x = x.to(dtype)
    del noise
    sample = slice(0, min(dim, 64))  # the error is taken on some channels: float64 is slow
    expected = torch.corrcoef(
        torch.cat([y[:, sample].double(), x.flip(1)[:, sample].double()], 1).T
    )
    expected = expected[: sample.stop, sample.stop :]

    on_cuda = device.type == "cuda"
    name_of_dtype = str(dtype).removeprefix("torch.")
    found = Measured(Case(name_of_dtype, dim, tokens, torch.get_num_threads()))
    calls: dict[str, Callable[[], float]] = {}
    for name, provider in (
        PROVIDERS if on_cuda else PROVIDERS | {"product": product_alone}
    ).items():
        if on_cuda:
            torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device) if on_cuda else 0
        try:
            c = provider(y, x)  # warms up, too
        except torch.OutOfMemoryError:
            found.failed[name] = "out of memory"
            continue
        if on_cuda:
            found.memory[name] = torch.cuda.max_memory_allocated(device) - before
        if name not in ("matmul", "product"):
            error = (c.flip(1)[sample, sample].double() - expected).abs().max()
            found.errors[name] = float(error)
        calls[name] = harness.timed(lambda provider=provider: provider(y, x), device)  # type: ignore[misc]
        del c
    found.times = harness.in_turns(calls, repeats, SEED)
    return found


def measure_sites(device: torch.device, repeats: int) -> Measured:
    """One batch of all sites, into statistics that exist already."""
    generator = torch.Generator(device).manual_seed(0)
    shape = (2, SITES, SITE_TOKENS, SITE_DIM)
    y, x = torch.randn(shape, generator=generator, device=device)
    together = SiteMoments(range(SITES), SITE_DIM, SITE_DIM, device)
    alone = [bmatch.CrossMoments(SITE_DIM, SITE_DIM, device) for _ in range(SITES)]

    def one_by_one() -> None:
        for moments, target, source in zip(alone, y, x, strict=True):
            moments.update(target, source)

    runs: tuple[Callable[[], Any], ...] = (
        lambda: y.mT @ x,
        lambda: together.update(y, x),
        one_by_one,
    )
    calls = {
        name: harness.timed(run, device) for name, run in zip(SITE_PROVIDERS, runs, strict=True)
    }
    found = Measured(Case("float32", SITE_DIM, SITE_TOKENS, torch.get_num_threads(), SITES))
    found.times = harness.in_turns(calls, repeats, SEED, warm_up=True)
    return found


def add(out: results.Writer, found: Measured, clock: str) -> None:
    """The rows of a case, and a line each on the screen."""
    case, shared = str(found.case), {"clock": clock, **provenance.versions()}
    for name, why in found.failed.items():
        out.add(case, name, "time", "s", math.nan, shared | {"failed": why})
        print(f"{case}, {name}: {why}", flush=True)
    spreads = {name: Spread.of(taken) for name, taken in found.times.items()}
    for name, spread in spreads.items():
        out.add(case, name, "time", "s", spread, shared)
        error = ""
        if name in found.memory:
            out.add(case, name, "memory", "B", found.memory[name], shared)
        if name in found.errors:
            out.add(case, name, "error", "1", found.errors[name], shared)
            error = f", error {found.errors[name]:.1e}"
        rate, share = found.case.operations / spread.p50, spreads["matmul"].p50 / spread.p50
        print(
            f"{case:40} {name:16} {spread.p50:.6f} s {rate / 1e12:.3f} TFLOP/s "
            f"{share:.3f} of matmul{error}",
            flush=True,
        )


def cases(
    device: torch.device,
    shapes: Sequence[tuple[int, int]],
    repeats: int,
    left: Callable[[], bool],
) -> Iterator[Measured]:
    """One case after the other, while time is left."""
    for threads in (1, 2) if device.type == "cpu" else (torch.get_num_threads(),):
        torch.set_num_threads(threads)
        for dim, tokens in shapes:
            for dtype in (torch.bfloat16, torch.float32):
                if left():
                    yield measure(device, dtype, dim, tokens, repeats)
        if left():
            yield measure_sites(device, repeats)


def table(rows: Sequence[results.Row]) -> list[str]:
    """Markdown, for each machine shares of the rate of "matmul", then the batches of all sites."""
    lines: list[str] = []
    for machine, on_it in results.by_machine(rows).items():
        kept = [row for row in results.newest(on_it) if row.metric == "time"]
        of_case: dict[Case, dict[str, float]] = {}
        for row in kept:
            of_case.setdefault(Case.parse(row.case), {})[row.provider] = row.value
        streams = {case: found for case, found in of_case.items() if case.sites == 1}
        names = [n for n in COLUMNS if any(n in found for found in streams.values())]
        lines += [
            f"{machine}; commit {kept[-1].commit}, {kept[-1].date} UTC. Shares of the rate of "
            '"matmul" in the dtype of the streams: larger is quicker. One thread in processor '
            "time, more by the wall.",
            "",
            "| threads | dtype | D | T | matmul, GFLOP/s | " + " | ".join(names) + " |",
            "|---|---|---|---|---|" + "---|" * len(names),
        ]
        for case, found in sorted(streams.items(), key=lambda item: (item[0].threads, item[0])):
            ceiling = found["matmul"]
            cells = [str(case.threads), case.dtype, str(case.dim), str(case.tokens)]
            cells.append(f"{case.operations / ceiling / 1e9:.0f}")
            cells += [f"{ceiling / found[n]:.2f}" if found.get(n, 0) > 0 else "-" for n in names]
            lines.append("| " + " | ".join(cells) + " |")
        lines += [
            "",
            "A batch of all sites of a model, float32:",
            "",
            "| threads | sites | D | T | " + ", ms | ".join(SITE_PROVIDERS) + ", ms |",
            "|---|---|---|---|" + "---|" * len(SITE_PROVIDERS),
        ]
        for case, found in sorted(of_case.items(), key=lambda item: item[0].threads):
            if case.sites > 1:
                cells = [str(n) for n in (case.threads, case.sites, case.dim, case.tokens)]
                cells += [f"{found[name] * 1e3:.3g}" for name in SITE_PROVIDERS]
                lines.append("| " + " | ".join(cells) + " |")
        lines.append("")
    return lines[:-1]


def main(argv: list[str]) -> None:
    """Time all providers and write the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks correlation", description=__doc__)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--repeats", type=int, help="of each measurement; default 7, quick 3")
    parser.add_argument("--dims", type=int, nargs="+", help="only these widths")
    harness.arguments(parser)
    results.arguments(parser)
    options = parser.parse_args(argv)
    if options.report:
        return report.write("correlation")
    device = torch.device(options.device)
    shapes: Sequence[tuple[int, int]] = CUDA_SHAPES if device.type == "cuda" else CPU_SHAPES
    if options.quick:
        shapes = QUICK_SHAPES[device.type]
    chosen = [shape for shape in shapes if not options.dims or shape[0] in options.dims]
    repeats = options.repeats or (3 if options.quick else 7)
    with results.appending("correlation", options, provenance.machine(device)) as out:
        for found in cases(device, chosen, repeats, harness.until(options.seconds)):
            add(out, found, harness.clock(device))
    if options.out is None:
        report.write("correlation")
    if device.type != "cuda":
        print("GPU: not measured yet (run `make gpu` on a machine with one)")
