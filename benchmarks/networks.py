"""Whole networks aligned: every gauge space of SmolLM2, and one layer of 14,336 neurons.

SmolLM2 is carried to a random gauge of all of its spaces; its predictions have to stay, and the
gauge has to be found again from weights with noise. The layer consists of random matrices with
noise, as an 8B model has them. Rows go to results/networks.csv, or below --out; times are of the
process, in one thread.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks import harness, provenance, report, results
from bmatch.architecture import Axes, Member, Space
from bmatch.models.checkpoint import open_checkpoint
from bmatch.models.loading import load_model, load_tokenizer
from bmatch.models.network_files import NetworkFiles
from bmatch.models.smollm2 import with_noise, write_smollm2
from bmatch.models.text import default_text, token_batches
from bmatch.network import match_networks
from bmatch.network_gauge import NetworkGauge
from bmatch.transport import network_checkpoint

NOISE = 0.1  # standard deviations of each matrix
TOKENS = 2000
LAYER = {"layer of 14336": (14336, 4096), "layer of 1536": (1536, 576)}  # neurons, stream


def aligned(
    axes: Axes, source: Mapping[str, torch.Tensor], planted: NetworkGauge
) -> dict[str, tuple[float, str]]:
    """Figures, with units, of the search for a planted gauge."""
    generator = torch.Generator().manual_seed(0)
    carry = planted.on(axes)
    target = {
        name: carry(name, with_noise(tensor, NOISE, generator)) for name, tensor in source.items()
    }
    before = time.process_time()
    found = match_networks(target.__getitem__, source.__getitem__, axes)
    taken = time.process_time() - before
    return {
        "time": (taken, "s"),
        "spaces": (len(axes.spaces), "1"),
        "units": (sum(space.size for space in axes.spaces), "1"),
        "recovered, least of a space": (min(planted.agreement(found.gauge).values()), "1"),
        "objective": (found.objective[-1], "1"),
        "least margin": (min(float(s.margin.min()) for s in found.spaces.values()), "1"),
        "passes": (found.passes, "1"),
        "memory": (1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, "B"),
    }


def layer(neurons: int, width: int) -> dict[str, tuple[float, str]]:
    """The neurons of one SwiGLU layer of random matrices."""

    def member(part: str, axis: int, odd: bool) -> Member:
        return Member(f"layers.0.mlp.{part}.weight", axis, None, (1,), (0,), (odd,))

    members = (member("gate", 0, False), member("up", 0, True), member("down", 1, True))
    axes = Axes((Space("layers.0.mlp neurons", "signed_permutation", neurons, members),))
    generator = torch.Generator().manual_seed(1)
    shapes = ((neurons, width), (neurons, width), (width, neurons))
    source = {
        m.tensor: torch.randn(shape, generator=generator)
        for m, shape in zip(members, shapes, strict=True)
    }
    return aligned(axes, source, NetworkGauge.random(axes, 2))


def smollm2() -> dict[str, tuple[float, str]]:
    """All spaces of SmolLM2: whether its predictions stay, and the gauge is found again."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_smollm2(folder / "source")
        checkpoint = open_checkpoint(folder / "source")
        files = NetworkFiles(checkpoint)
        planted = NetworkGauge.random(files.axes, 11)
        network_checkpoint(folder / "source", planted, folder / "target")
        batches = token_batches(load_tokenizer(checkpoint), default_text(), TOKENS, 250, 1)
        before, after = (_predictions(folder / name, batches) for name in ("source", "target"))
        with files.tensors() as get:
            names = {member.tensor for space in files.axes.spaces for member in space.members}
            source = {name: get(name).clone() for name in sorted(names)}
    same = float((before == after).float().mean())
    return {"same prediction": (same, "1"), **aligned(files.axes, source, planted)}


def _predictions(folder: Path, batches: Sequence[torch.Tensor]) -> torch.Tensor:
    model: Any = load_model(open_checkpoint(folder), "float32", "cpu")
    with torch.no_grad():
        return torch.cat([model(batch).logits.argmax(-1).flatten() for batch in batches])


def table(rows: Sequence[results.Row]) -> list[str]:
    """Markdown."""
    kept = results.newest(rows)
    lines = [
        f"{kept[-1].origin} Noise of {NOISE} standard deviations on every matrix, one thread.",
        "",
        "| case | figure | value | unit |",
        "|---|---|---|---|",
    ]
    return lines + [f"| {r.case} | {r.metric} | {r.value:.6g} | {r.unit} |" for r in kept]


def main(argv: list[str]) -> None:
    """Measures, and writes the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks networks", description=__doc__)
    parser.add_argument("--cases", nargs="+", choices=["smollm2", *LAYER])
    harness.arguments(parser)
    results.arguments(parser)
    options = parser.parse_args(argv)
    if options.report:
        return report.write("networks")
    torch.set_num_threads(1)
    quick = ["layer of 1536"]
    chosen = options.cases or (quick if options.quick else ["smollm2", "layer of 14336"])
    left = harness.until(options.seconds)
    with results.appending("networks", options) as out:
        for case in chosen:
            if not left():
                continue
            figures = smollm2() if case == "smollm2" else layer(*LAYER[case])
            for metric, (value, unit) in figures.items():
                row = out.add(case, "bmatch", metric, unit, value, provenance.versions())
                print(f"{row.case}: {row.metric} {row.value:.6g} {row.unit}")
    if options.out is None:
        report.write("networks")
