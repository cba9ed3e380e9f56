"""Folders of runs whose true gauges are known: noise in place of training."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import NamedTuple

from tiny_models import WIDTH, in_gauge, noisy_copy, tiny_model

import bmatch


class Planted(NamedTuple):
    """Two runs, and the truth from the end of the first to the end of the second."""

    a: Path
    b: Path
    base: Path
    truth: bmatch.SignedPermutation


def planted_runs(root, tokenizer, steps=(50, 100, 1000)):
    """Two runs of one base in ``root/a`` and ``root/b``, every checkpoint in a gauge of its own."""
    base = tiny_model(num_hidden_layers=1)
    base.save_pretrained(root / "base")
    ends = []
    for run in ("a", "b"):
        model = base
        shutil.copytree(root / "base", root / run / "checkpoint-0")
        for k, step in enumerate(steps):
            seed = 100 * k + ord(run)
            model = noisy_copy(model, 0.1, seed)
            gauge = bmatch.SignedPermutation.random(WIDTH, seed=seed)
            in_gauge(model, gauge).save_pretrained(root / run / f"checkpoint-{step}")
        tokenizer.save_pretrained(root / run)
        ends.append(gauge)
    return Planted(root / "a", root / "b", root / "base", ends[1] @ ends[0].inverse())
