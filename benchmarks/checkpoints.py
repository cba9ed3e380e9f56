"""Folders of many shards: a gauge applied, beside a plain copy and safetensors' load and save.

Each runs in a process of its own, in turns: seconds, processor seconds, and the most resident
memory above that of the imports. The model is a llama of bfloat16, of `--gigabytes` in some 30
files. Its weights are holes, which take no room on the disk; what is written of them does, and
zeros take the time of other numbers. A dry run of the same layout with 60 GB stands beside. Rows go
to results/checkpoints.csv, or below --out.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks import harness, report, results
from benchmarks.harness import Spread
from benchmarks.peers import OURS

WIDTH = 4096
INNER = 14_336
SHARDS = 30
LAYER = 2 * (2 * WIDTH * WIDTH + 2 * WIDTH * WIDTH // 4 + 3 * WIDTH * INNER + 2 * WIDTH)
"""Bytes of a layer."""
LARGE = 60 * 10**9
"""Bytes of the folder that the dry run is of."""
PROVIDERS = (OURS, "copy", "safetensors")
MEASURED = {"time": "s", "processor": "s", "memory": "B"}


def table(rows: Sequence[results.Row]) -> list[str]:
    """Markdown."""
    kept = results.newest(rows)
    lines = [
        f"{kept[-1].origin} Medians of interleaved rounds, each in a process of its own.",
        "",
        "| what | GB | shards | seconds | processor seconds | memory beside imports, MB |",
        "|---|---|---|---|---|---|",
    ]
    found = {(row.case, row.provider, row.metric): row for row in kept}
    for case, provider in dict.fromkeys((row.case, row.provider) for row in kept):
        cells = [found[case, provider, metric] for metric in MEASURED]
        told = cells[0].extra
        seconds, processor, memory = (cell.value for cell in cells)
        lines.append(
            f"| {provider}, {case} | {told['bytes'] / 1e9:.1f} | {told['shards']} | "
            f"{seconds:.2f} | {processor:.2f} | {memory / 1e6:.0f} |"
        )
    return lines


def main(arguments: list[str]) -> None:
    """Writes a hollow model, and has it applied to, copied and loaded in turns."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks checkpoints", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--gigabytes", type=float, default=3.0, help="of weights that are written")
    parser.add_argument("--folder", default=".", help="whose file system is written to")
    harness.arguments(parser)
    results.arguments(parser)
    options = parser.parse_args(arguments)
    if options.report:
        return report.write("checkpoints")
    size = 0.5e9 if options.quick else 1e9 * options.gigabytes
    rounds = 1 if options.quick else options.rounds
    with (
        tempfile.TemporaryDirectory(dir=options.folder) as root,
        results.appending("checkpoints", options) as out,
    ):
        folder = Path(root)
        model(folder / "model", round(size))
        model(folder / "large", LARGE)
        cases = {"applied, beside copies": ("model", PROVIDERS), "a dry run": ("large", ("plan",))}
        for case, (name, providers) in cases.items():
            shards = list((folder / name).glob("*.safetensors"))
            extra = {"bytes": sum(s.stat().st_size for s in shards), "shards": len(shards)}
            calls = {p: in_process(p, folder / name, folder / "out") for p in providers}
            for provider, times in harness.in_turns(calls, rounds, seed=0).items():
                for metric, unit in MEASURED.items():
                    values = [taken[metric] for taken in times]
                    label = OURS if provider == "plan" else provider
                    out.add(case, label, metric, unit, Spread.of(values), extra)
                print(f"{case}: {provider} {times[0]}", flush=True)
    if options.out is None:
        report.write("checkpoints")


def in_process(provider: str, folder: Path, out: Path) -> Callable[[], dict[str, Any]]:
    """What a provider takes in a process of its own, with as many threads as there are cores."""

    def run() -> dict[str, Any]:
        cores = str(len(os.sched_getaffinity(0)))
        code = [sys.executable, "-m", "benchmarks.checkpoints", provider, str(folder), str(out)]
        environment = {**os.environ, "OMP_NUM_THREADS": cores}
        done = subprocess.run(code, stdout=subprocess.PIPE, check=True, env=environment)
        shutil.rmtree(out, ignore_errors=True)
        taken: dict[str, Any] = json.loads(done.stdout)
        return taken

    return run


def one(provider: str, folder: str, out: str) -> dict[str, float]:
    """Carry, copy, load and save, or plan; what that took of this process."""
    from benchmarks.transport import copied, loaded_and_saved
    from bmatch import SignedPermutation
    from bmatch.jobs.phases import Phase, phase
    from bmatch.models.plan import Planning
    from bmatch.transport import checkpoint

    gauge = SignedPermutation.random(WIDTH, seed=0)
    calls: dict[str, Callable[[], object]] = {
        OURS: lambda: checkpoint(folder, gauge, out),
        "plan": lambda: checkpoint(folder, gauge, out, writer=Planning()),
        "copy": lambda: copied(Path(folder))(Path(out)),
        "safetensors": lambda: loaded_and_saved(Path(folder))(Path(out)),
    }
    phases: list[Phase] = []
    with phase("imports", phases):
        pass
    before = _processor()
    start = time.perf_counter()
    with phase("call", phases):
        calls[provider]()
    return {
        "time": time.perf_counter() - start,
        "processor": _processor() - before,
        "memory": phases[1].peak_bytes - phases[0].peak_bytes,
    }


def _processor() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def model(folder: Path, size: int) -> None:
    """A llama of about so many bytes, in sparse files."""
    from bmatch.models import hollow

    config = {
        **{"model_type": "llama", "hidden_size": WIDTH, "intermediate_size": INNER},
        **{"num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 32_000},
        **{"num_hidden_layers": max(1, round(size / LAYER)), "dtype": "bfloat16"},
    }
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    hollow.write_hollow(folder, config, shard=size // SHARDS)


if __name__ == "__main__":
    print(json.dumps(one(*sys.argv[1:])))
