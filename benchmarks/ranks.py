"""Jobs of 1, 2 and 4 ranks that torchrun starts on this machine: seconds, and the same bytes.

Each job runs in turns with each number of ranks. Seconds are of the part that ranks share, by the
job's own metrics, and of the whole command; processor seconds are those of all its processes,
imports included. It fails where a number of ranks writes other bytes than a single process. Rows go
to results/ranks.csv, or below --out.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from benchmarks import harness, report, results
from benchmarks.harness import Spread
from benchmarks.peers import OURS

RANKS = (1, 2, 4)
MEASURED = {"shared": "s", "time": "s", "processor": "s"}


def _activations(folder: Path, part: float) -> list[str]:
    """Two streams on disk, one the other's with signs, in another order and with noise."""
    r = np.random.default_rng(0)
    tokens, width = round(200_000 * part), 512
    x = r.standard_normal((tokens, width), np.float32)
    sign = np.where(r.random(width) < 0.5, -1, 1).astype(np.float32)
    np.save(folder / "a.npy", x)
    np.save(folder / "b.npy", np.ascontiguousarray(x[:, r.permutation(width)] * sign))
    return ["align", str(folder / "a.npy"), str(folder / "b.npy")]


def _features(folder: Path, part: float) -> list[str]:
    """Two dictionaries, one the other's with noise in another order."""
    import torch
    from safetensors.torch import save_file

    r = np.random.default_rng(0)
    count, width = round(16_384 * part), 512
    x = r.standard_normal((count, width), np.float32)
    y = x[r.permutation(count)] + np.float32(0.5) * r.standard_normal(x.shape, np.float32)
    for name, rows in (("a", x), ("b", y)):
        (folder / name).mkdir()
        held = {"W_dec": torch.from_numpy(rows), "W_enc": torch.from_numpy(rows.T.copy())}
        held |= {"b_enc": torch.zeros(count), "b_dec": torch.zeros(width)}
        save_file(held, folder / name / "sae.safetensors")
        config = {"d_in": width, "d_sae": count, "hook_name": "blocks.1.hook_resid_post"}
        (folder / name / "cfg.json").write_text(json.dumps(config))
    return ["match-features", str(folder / "a"), str(folder / "b")]


JOBS: dict[str, tuple[Callable[[Path, float], list[str]], str]] = {
    "align, 200,000 rows of activations, D = 512": (_activations, ".safetensors"),
    "match-features, 16,384 x 16,384 of 512 terms": (_features, ".csv"),
}
"""Who writes the input and tells the command, and what its output is called."""


def table(rows: Sequence[results.Row]) -> list[str]:
    """Markdown, a table for each machine."""
    lines = ["Outputs are the same bytes with any number of ranks. One thread a rank."]
    for of_machine in results.by_machine(rows).values():
        kept = results.newest(of_machine)
        lines += [
            "",
            f"{kept[-1].origin} Medians by the wall.",
            "",
            "| job | ranks | the shared part, s | the command, s | processor seconds, all ranks |",
            "|---|---|---|---|---|",
        ]
        found = {(row.case, row.extra["ranks"], row.metric): row.value for row in kept}
        for case, ranks in dict.fromkeys((case, ranks) for case, ranks, _ in found):
            shown = " | ".join(f"{found[case, ranks, metric]:.2f}" for metric in MEASURED)
            lines.append(f"| {case.partition(';')[0]} | {ranks} | {shown} |")
    return lines


def main(arguments: list[str]) -> None:
    """Runs each job with each number of ranks; raises where outputs differ."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks ranks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    harness.arguments(parser)
    results.arguments(parser)
    options = parser.parse_args(arguments)
    if options.report:
        return report.write("ranks")
    part, rounds = (0.1, 1) if options.quick else (1.0, options.rounds)
    with results.appending("ranks", options) as out:
        for case, (prepare, suffix) in JOBS.items():
            with tempfile.TemporaryDirectory() as root:
                command = prepare(Path(root), part)
                written: set[bytes] = set()
                for ranks in RANKS:
                    taken = [once(command, ranks, Path(root), suffix) for _ in range(rounds)]
                    written |= {content for _, content in taken}
                    if len(written) != 1:
                        raise AssertionError(f"{case}: {ranks} ranks write other bytes")
                    for metric, unit in MEASURED.items():
                        values = Spread.of([figures[metric] for figures, _ in taken])
                        out.add(f"{case}; {ranks}", OURS, metric, unit, values, {"ranks": ranks})
                    print(f"{case}, {ranks} ranks: {taken[0][0]}", flush=True)
    if options.out is None:
        report.write("ranks")


def once(
    command: Sequence[str], ranks: int, folder: Path, suffix: str
) -> tuple[dict[str, float], bytes]:
    """What a job takes with so many ranks, and the content of its output."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        out, metrics = Path(place) / f"out{suffix}", Path(place) / "metrics"
        starter = ["-m", "torch.distributed.run", "--nproc-per-node", str(ranks)]
        options = ["--cache", f"{place}/cache", "--metrics", str(metrics), "--out", str(out)]
        code = [sys.executable, *(starter if ranks > 1 else []), "-m", "bmatch", *command, *options]
        before, start = _processor(), time.perf_counter()
        subprocess.run(
            code, check=True, capture_output=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
        seconds, processor = time.perf_counter() - start, _processor() - before
        lines = [json.loads(line) for line in metrics.read_text().splitlines()]
        shared = max(line["seconds"] for line in lines if "seconds" in line)
        return {"shared": shared, "time": seconds, "processor": processor}, out.read_bytes()


def _processor() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
