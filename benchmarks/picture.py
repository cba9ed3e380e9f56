"""Draws docs/path.png, what `bmatch path --picture` draws, or docs/formats.png, what is carried.

Of the path: the tiny runs of ``tests/trajectory``.
Two fine-tunes of one base, every checkpoint in a gauge of its own, saved every tenth step while
most is learnt, where every fifth would be needed.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

import bmatch
from benchmarks import format_picture, relatives, two_runs
from bmatch.report.heat_map import plot_path

KEPT = {*range(0, 101, 10), *range(100, two_runs.TINY.steps + 1, 50)}


def main(arguments: list[str]) -> None:
    """Trains the runs, finds the path, and draws it; or draws the tables of formats."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks picture", description=__doc__)
    parser.add_argument("what", choices=("path", "formats"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(arguments)
    if options.what == "formats":
        return format_picture.draw(options.out)
    torch.set_num_threads(1)
    recipe = two_runs.TINY
    (runs,) = two_runs.two_runs(recipe, [options.seed], KEPT)
    steps, models = runs.path(recipe.steps)
    carried, truth = two_runs.in_gauges(models, options.seed)
    path = bmatch.Trajectory(
        carried,
        relatives.batches(relatives.texts()[2], recipe.tokens, options.seed),
        base=steps.index(0),
        sites=[recipe.site],
    )
    plot_path(path, options.out, "Two fine-tunes of a tiny Llama, saved too seldom")
    print(f"{path.gauge().agreement(truth):.1%} recovered; {' '.join(path.warnings)}")
