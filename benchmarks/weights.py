"""Gauges by weights alone, beside those by activations at few tokens: coordinates recovered.

SmolLM2-135M beside itself with noise on its weights, and two fine-tunes of one tiny model:
byte-level Llamas of 128 coordinates and 4 blocks, trained for 200 steps before the two part, one on
Python's language reference, the other on Python sources. The target is in a planted gauge of its
stream, and once more in one of all of its spaces: its heads and neurons are numbered anew. Rows go
to results/weights.csv, or below --out.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch

import bmatch
from benchmarks import provenance, relatives, report, results
from benchmarks.two_runs import SEPARATING, two_runs
from bmatch.network_gauge import NetworkGauge

NOISES = (0.3, 1.0, 2.0)
SEEDS = (0, 1)
KEPT = (50, 250, 500, 1000, 1500)
FEW = 64
"""Tokens that the fine-tunes read, at one site."""
SITE = 2
TOKENS = 512
"""Tokens that SmolLM2 reads, at all sites."""

READ = ("activations", "weights", "weights, renumbered")


class Case(NamedTuple):
    """A pair of models in one gauge, and what they are to read."""

    name: str
    source: Any
    target: Any
    batches: list[torch.Tensor]
    sites: Any
    tokens: int


def measure(case: Case, seed: int) -> Iterator[tuple[str, float, float]]:
    """By what was read: the share of coordinates recovered, and seconds of the process."""
    axes = bmatch.architecture.derive(case.source.config)
    planted = NetworkGauge.random(axes, seed)
    truth = planted.residual
    assert truth is not None
    target = relatives.in_gauge(case.target, truth)
    for read in READ:
        if read == READ[2]:
            target = relatives.in_all_gauges(case.target, planted, axes)
        before = time.process_time()
        found = bmatch.estimate_gauge(
            target,
            case.source,
            case.batches if read == READ[0] else (),
            case.sites,
            evidence="activations" if read == READ[0] else "weights",
            witness=False,
        )
        yield read, found.gauge.agreement(truth), time.process_time() - before


def smollm2(noises: Sequence[float]) -> Iterator[Case]:
    """SmolLM2 and itself with noise on its matrices."""
    from bmatch.models.smollm2 import read_smollm2
    from bmatch.models.text import default_text, token_batches

    model, tokenizer = read_smollm2()
    model.eval()
    batches = list(token_batches(tokenizer, default_text(), TOKENS))
    for k, noise in enumerate(noises):
        noisy = relatives.noisy(model, noise, k)
        yield Case(f"SmolLM2, noise {noise}", model, noisy, batches, "all", TOKENS)


def fine_tunes(seed: int, kept: Sequence[int]) -> Iterator[Case]:
    """Two runs from one base, after the same numbers of steps."""
    held_out = relatives.texts()[2]
    (runs,) = two_runs(SEPARATING._replace(steps=max(kept)), [seed], kept)
    batches = relatives.batches(held_out, FEW, seed)
    for step in kept:
        name = f"fine-tunes, seed {seed}, {step} steps"
        yield Case(name, runs.a[step], runs.b[step], batches, [SITE], FEW)


def table(rows: Sequence[results.Row]) -> list[str]:
    """Markdown, a line a pair of models."""
    kept = [row for row in results.newest(rows) if row.metric == "recovered"]
    lines = [
        f"{kept[-1].origin} Share of coordinates recovered, index and sign.",
        "",
        f"| models | tokens read | {' | '.join(READ)} |",
        "|---|---|---|---|---|",
    ]
    for case in dict.fromkeys(row.case for row in kept):
        found = {row.provider: row for row in kept if row.case == case}
        shares = " | ".join(f"{found[read].value:.1%}" for read in READ)
        lines.append(f"| {case} | {found[READ[0]].extra['tokens']} | {shares} |")
    return lines


def main(argv: list[str]) -> None:
    """Measures, and writes the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks weights", description=__doc__)
    parser.add_argument("--noises", type=float, nargs="*", default=NOISES)
    parser.add_argument("--seeds", type=int, nargs="*", default=SEEDS, help="of fine-tunes")
    parser.add_argument("--steps", type=int, nargs="+", default=KEPT, help="of fine-tunes")
    results.arguments(parser)
    options = parser.parse_args(argv)
    if options.report:
        return report.write("weights")
    torch.set_num_threads(1)
    with results.appending("weights", options) as out:
        for k, cases in enumerate(
            (smollm2(options.noises), *(fine_tunes(seed, options.steps) for seed in options.seeds))
        ):
            if k == 0 and not options.noises:
                continue
            for case in cases:
                for read, share, seconds in measure(case, seed=len(case.name)):
                    extra = {"tokens": case.tokens, **provenance.versions()}
                    out.add(case.name, read, "recovered", "share", share, extra)
                    out.add(case.name, read, "time", "s", seconds, extra)
                    print(f"{case.name}: {read} {share:.1%}, {seconds:.1f} s", flush=True)
    if options.out is None:
        report.write("weights")
