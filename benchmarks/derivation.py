"""Tables of full-size models, derived and proved from their configs alone: no weights.

Each case is a process of its own, as a command finds it that meets a type without a table:
libraries loaded, a tiny copy derived and proved, its table carried over to all tensors of the full
config. Rows go to results/derivation.csv, or below --out.

It fails where a derivation takes 60 s of processor time or more, or the process 2 GB.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

from benchmarks import report, results
from benchmarks.peers import OURS
from bmatch.jobs.phases import peak_bytes

MOST_SECONDS = 60
MOST_BYTES = 2_000_000_000

_8B: dict[str, Any] = {
    "hidden_size": 4096,
    "intermediate_size": 14_336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
}
CONFIGS: dict[str, dict[str, Any]] = {  # sizes of Meta-Llama-3-8B and of Mixtral-8x7B-v0.1
    "llama of 8B": {"model_type": "llama", "vocab_size": 128_256, **_8B},
    "mixtral of 47B": {
        "model_type": "mixtral",
        "vocab_size": 32_000,
        "num_local_experts": 8,
        "num_experts_per_tok": 2,
        **_8B,
    },
}


def derived(config: dict[str, Any]) -> dict[str, float]:
    """Figures of one derivation in this process, which has done nothing else."""
    from bmatch.architecture.derived import derived_axes

    axes = derived_axes(config)
    return {
        "time": time.process_time(),
        "memory": peak_bytes(),
        "tensors": sum(rule.required for rule in axes.family.rules),
        "kinds": len(axes.family.kinds),
    }


def in_a_process(case: str) -> dict[str, float]:
    """The same in a process of its own."""
    command = [sys.executable, "-m", "benchmarks", "derivation", "--one", case]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def versions() -> dict[str, str]:
    """Of the libraries whose classes are derived and run."""
    import torch
    import transformers

    return {"torch": torch.__version__, "transformers": transformers.__version__}


def table(rows: Sequence[results.Row]) -> list[str]:
    """Markdown."""
    kept = results.newest(rows)
    lines = [
        f"{kept[-1].origin} One thread; processor time and peak memory of a process each, "
        "libraries loaded.",
        "",
        "| config | s | MB | kinds of tensors | kinds of spaces |",
        "|---|---|---|---|---|",
    ]
    found: dict[str, dict[str, float]] = {}
    for row in kept:
        found.setdefault(row.case, {})[row.metric] = row.value
    for case, told in found.items():
        lines.append(
            f"| {case} | {told['time']:.3g} | {told['memory'] / 1e6:.0f} | "
            f"{told['tensors']:.0f} | {told['kinds']:.0f} |"
        )
    return lines


def main(arguments: list[str]) -> None:
    """Derives each table; raises beyond 60 s or 2 GB."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks derivation", description=__doc__)
    parser.add_argument("--one", choices=CONFIGS, help=argparse.SUPPRESS)
    results.arguments(parser)
    options = parser.parse_args(arguments)
    if options.report:
        return report.write("derivation")
    if options.one:
        return print(json.dumps(derived(CONFIGS[options.one])))
    with results.appending("derivation", options) as out:
        for case in CONFIGS:
            found = in_a_process(case)
            if found["time"] >= MOST_SECONDS or found["memory"] >= MOST_BYTES:
                raise AssertionError(f"{case}: {found}")
            for metric, unit in {"time": "s", "memory": "B", "tensors": "1", "kinds": "1"}.items():
                out.add(case, OURS, metric, unit, found[metric], versions())
            print(f"{case}: {found['time']:.3g} s, {found['memory'] / 1e6:.0f} MB")
    if options.out is None:
        report.write("derivation")
