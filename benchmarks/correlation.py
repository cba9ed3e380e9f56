"""Correlation matrices of two streams: activations in, C out.

"matmul" is the ceiling: the product of the whole streams alone, without moments; "product" is that
of bmatch. Work is 2 T D^2 operations for every provider, however many it does. Providers take
turns. On the CPU there is one thread first and processor time is measured, which other programs on
the machine disturb least; then two, by the wall. Results go to results/correlation-<device>.csv,
which is replaced.

Last come a batch of a model's 31 sites, as `estimate_gauge` reads it: updated in one go, and site
by site; "matmul" is the batched product. Results replace results/correlation-<device>.csv, or are
added row by row below --out.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch

import bmatch
from benchmarks import provenance, rows
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
FIELDS = (
    "device", "provider", "dtype", "dim", "tokens", "p20_s", "p50_s", "p80_s", "tflops",
    "share_of_matmul", "peak_bytes", "largest_error", "clock", "threads", *provenance.OF_DEVICE,
)  # fmt: skip


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
    return (a / a.norm(dim=0)).T @ (b / b.norm(dim=0))


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


def seconds(run: Callable[[], Any], device: torch.device) -> float:
    """Time of one run: the processor's of a single thread, otherwise the wall's, device and all."""
    if device.type == "cpu":
        clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
        start = clock()
        run()
        return clock() - start
    torch.cuda.synchronize(device)
    start = time.perf_counter()
    run()
    torch.cuda.synchronize(device)
    return time.perf_counter() - start


def measure(
    device: torch.device, dtype: torch.dtype, dim: int, tokens: int, repeats: int
) -> list[dict[str, Any]]:
    """One row of results for each provider."""
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

    times: dict[str, list[float]] = {}
    memory: dict[str, int | str] = {}
    errors: dict[str, float | str] = {}
    providers = PROVIDERS if device.type == "cuda" else PROVIDERS | {"product": product_alone}
    for name, provider in providers.items():  # warm up, and what need not be timed
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device) if device.type == "cuda" else 0
        try:
            c = provider(y, x)
        except torch.OutOfMemoryError:
            memory[name] = "out of memory"
            continue
        memory[name] = (
            torch.cuda.max_memory_allocated(device) - before if device.type == "cuda" else ""
        )
        found = c.flip(1)[sample, sample].double()
        products_only = name in ("matmul", "product")
        errors[name] = "" if products_only else float((found - expected).abs().max())
        times[name] = []
        del c, found
    for _ in range(repeats):
        for name, taken in times.items():
            taken.append(seconds(lambda name=name: providers[name](y, x), device))

    measured = []
    for name in providers:
        row: dict[str, Any] = {"provider": name, "dtype": str(dtype).removeprefix("torch.")}
        row |= {"dim": dim, "tokens": tokens, "peak_bytes": memory[name]}
        if name in times:
            row |= figures(times[name], 2 * tokens * dim**2, times["matmul"])
            row["largest_error"] = errors[name] if errors[name] == "" else f"{errors[name]:.1e}"
        measured.append(row)
    return measured


def measure_sites(device: torch.device, repeats: int) -> list[dict[str, Any]]:
    """Rows for one batch of all sites, statistics that exist already."""
    generator = torch.Generator(device).manual_seed(0)
    shape = (2, SITES, SITE_TOKENS, SITE_DIM)
    y, x = torch.randn(shape, generator=generator, device=device)
    together = SiteMoments(range(SITES), SITE_DIM, SITE_DIM, device)
    alone = [bmatch.CrossMoments(SITE_DIM, SITE_DIM, device) for _ in range(SITES)]

    def one_by_one() -> None:
        for moments, target, source in zip(alone, y, x, strict=True):
            moments.update(target, source)

    providers: dict[str, Callable[[], Any]] = {
        "matmul": lambda: y.mT @ x,
        "all sites": lambda: together.update(y, x),
        "site by site": one_by_one,
    }
    for run in providers.values():
        run()
    times: dict[str, list[float]] = {name: [] for name in providers}
    for _ in range(repeats):
        for name, run in providers.items():
            times[name].append(seconds(run, device))
    return [
        {"provider": f"{SITES} sites, {name}", "dtype": "float32"}
        | {"dim": SITE_DIM, "tokens": SITE_TOKENS, "peak_bytes": ""}
        | figures(taken, 2 * SITES * SITE_TOKENS * SITE_DIM**2, times["matmul"])
        for name, taken in times.items()
    ]


def figures(taken: list[float], work: int, ceiling: list[float]) -> dict[str, str]:
    """Columns that come from times: of the provider, of the work it did, and of the ceiling."""
    cuts = statistics.quantiles(taken, n=5, method="inclusive")
    half = statistics.median(taken)
    return {
        "p20_s": f"{cuts[0]:.6f}",
        "p50_s": f"{half:.6f}",
        "p80_s": f"{cuts[3]:.6f}",
        "tflops": f"{work / half / 1e12:.3f}",
        "share_of_matmul": f"{statistics.median(ceiling) / half:.3f}",
    }


def clock(device: torch.device) -> dict[str, Any]:
    """Whose time is told: the processor's where one thread works, else the wall's."""
    alone = device.type == "cpu" and torch.get_num_threads() == 1
    return {"clock": "processor" if alone else "wall", "threads": torch.get_num_threads()}


def cases(
    device: torch.device, shapes: list[tuple[int, int]], repeats: int, left: Callable[[], bool]
) -> Iterator[list[dict[str, Any]]]:
    """Rows of one case after the other, while time is left."""
    for threads in (1, 2) if device.type == "cpu" else (torch.get_num_threads(),):
        torch.set_num_threads(threads)
        for dim, tokens in shapes:
            for dtype in (torch.bfloat16, torch.float32):
                if left():
                    yield measure(device, dtype, dim, tokens, repeats)
        if left():
            yield measure_sites(device, repeats)


def main(argv: list[str]) -> None:
    """Time all providers and write the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks correlation", description=__doc__)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--repeats", type=int, help="of each measurement; default 7, quick 3")
    parser.add_argument("--dims", type=int, nargs="+", help="only these widths")
    rows.arguments(parser)
    options = parser.parse_args(argv)
    device = torch.device(options.device)
    shapes = CUDA_SHAPES if device.type == "cuda" else CPU_SHAPES
    if options.quick:
        shapes = QUICK_SHAPES[device.type]
    chosen = [shape for shape in shapes if not options.dims or shape[0] in options.dims]
    repeats = options.repeats or (3 if options.quick else 7)
    shared = provenance.of_device(device)
    with rows.growing(f"correlation-{shared['device']}.csv", FIELDS, options.out) as add:
        for measured in cases(device, chosen, repeats, rows.until(options.seconds)):
            for row in measured:
                add(shared | clock(device) | row)
                print(
                    f"{'' if device.type == 'cuda' else torch.get_num_threads()} "
                    f"{row['provider']:22} {row['dtype']:9} D {row['dim']:6} T {row['tokens']:8}"
                    f" {row.get('p50_s', row['peak_bytes']):>12} s"
                    f" {row.get('tflops', ''):>8} TFLOP/s {row.get('share_of_matmul', ''):>6} of"
                    f" matmul, error {row.get('largest_error', '')}",
                    flush=True,
                )
    if device.type != "cuda":
        print("GPU: not measured yet (run `make gpu` on a machine with one)")
