"""The first minute on a GPU: what is there, whether the extension loads, one solve, one kernel."""

from __future__ import annotations

import argparse
import platform
from typing import Any

import numpy as np
import torch

import bmatch
from benchmarks import provenance
from bmatch import _core
from bmatch.assignment import cuda

ROWS = 256


def facts(device: torch.device) -> list[str]:
    """The card, the driver, versions and the commit, and what the extension says of itself."""
    card = torch.cuda.get_device_properties(device)
    extension = _core.cuda_facts()
    return [
        f"card: {card.name}, compute capability {card.major}.{card.minor}, "
        f"{card.multi_processor_count} multiprocessors, {card.total_memory / 2**30:.1f} GiB, "
        f"L2 {card.L2_cache_size / 2**20:.0f} MiB",
        f"driver {provenance.driver() or 'unknown'}, torch's CUDA {torch.version.cuda}",
        f"Python {platform.python_version()}, "
        + ", ".join(f"{name} {provenance.version(name)}" for name in provenance.PACKAGES),
        f"commit {provenance.commit()}",
        f"extension: {extension.compiled if extension.built else 'built without CUDA'}; "
        f"devices: {extension.devices}" + (f"; {extension.trouble}" if extension.trouble else ""),
    ]


def solve(device: torch.device) -> str:
    """One matrix solved where it lies, held against the host and SciPy."""
    if not cuda.is_usable():
        raise SystemExit(f"the solver cannot be used: {_core.cuda_facts().trouble}")
    host = np.random.default_rng(0).random((ROWS, ROWS))
    answer: Any = bmatch.solve(torch.from_numpy(host).to(device), backend="cuda")
    found = host[answer.row_ind.cpu(), answer.col_ind.cpu()].sum()
    best, oracle = bmatch.solve(host).objective, "our solver on the host"
    if provenance.version("scipy") != "none":
        from scipy.optimize import linear_sum_assignment

        best, oracle = host[linear_sum_assignment(host)].sum(), "SciPy"
    if abs(found - best) > 1e-12 * best:
        raise SystemExit(f"{ROWS} x {ROWS}: {found!r} on the device, {best!r} by {oracle}")
    return f"{ROWS} x {ROWS} solved: {found:.12f}, as {oracle} has it; gap {answer.gap:.1e}"


def kernel(device: torch.device) -> str:
    """One kernel compiled by Triton and run: the scan of a matrix's rows."""
    if provenance.version("triton") == "none":
        return "Triton is not installed: its kernel was not run"
    from bmatch.kernels.row_scan import scan_rows

    cost = torch.rand(300, 500, generator=torch.Generator(device).manual_seed(0), device=device)
    scan = scan_rows(cost, 0, 8)
    best, col = cost.min(1)
    if not (torch.equal(scan.best, best.double()) and torch.equal(scan.col.long(), col)):
        raise SystemExit("the scan by Triton differs from torch's minima")
    return "300 x 500 scanned by a Triton kernel: the minima that torch finds"


def main(arguments: list[str]) -> None:
    """Prints what it finds; raises where something is wrong."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks smoke", description=__doc__)
    parser.add_argument("--device", default="cuda")
    device = torch.device(parser.parse_args(arguments).device)
    print("\n".join(facts(device)), flush=True)
    print(solve(device), flush=True)
    print(kernel(device), flush=True)
