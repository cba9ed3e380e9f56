"""Fits the logistics of bmatch/verdict/calibration.json on pairs whose truth is known.

Pairs are those of ``verdict``, from families of their own. Every pair counts alike, whatever its
width; a ridge keeps coefficients finite where classes can be told apart exactly. A strong one
tells too little of what is sure: fitted on families 0 to 26, one of 1e-3 missed the recovered share
of pairs from families 27 to 35 by 0.041 on average, one of 1e-4 by 0.031 (activations). The file
is written anew, with its provenance.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from benchmarks import provenance, relatives
from benchmarks.verdict import Measured, by_what_was_read, in_parts, load_families, tally
from bmatch.verdict import calibration

SEEDS = range(36)
KIN, STRANGERS = 640, 320
RIDGE = 1e-4


def fit(rows: Sequence[Measured], names: Sequence[str]) -> list[float]:
    """Intercept and slopes of the logistic that tells right coordinates from wrong ones.

    More of any feature speaks for a match, but for a decoy that its row takes: no slope is let
    have the other sign.
    """
    from scipy.optimize import minimize

    x = np.concatenate([row.evidence.features() for row in rows])
    x = np.column_stack([np.ones(len(x)), x])
    y = np.concatenate([np.where(row.right, 1.0, -1.0) for row in rows])
    weight = np.concatenate([np.full(len(row.right), 1 / len(row.right)) for row in rows])
    weight /= weight.sum()

    def loss(slopes: np.ndarray) -> tuple[float, np.ndarray]:
        margin = y * (x @ slopes)
        pull = -weight * y / (1 + np.exp(np.clip(margin, -700, 700)))
        value = weight @ np.logaddexp(0, -margin) + RIDGE * slopes[1:] @ slopes[1:] / 2
        return float(value), x.T @ pull + RIDGE * np.append(0, slopes[1:])

    signs = [(None, 0.0) if name == "decoy" else (0.0, None) for name in names]
    bounds = [(None, None), *signs]
    found = minimize(loss, np.zeros(x.shape[1]), jac=True, method="L-BFGS-B", bounds=bounds)
    return [round(float(slope), 4) for slope in found.x]


def main(arguments: list[str]) -> None:
    """Measures pairs, fits, and writes the file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks calibrate", description=__doc__)
    parser.add_argument("--families", type=Path, help="file to keep trained models in")
    parser.add_argument("--kin", type=int, default=KIN)
    parser.add_argument("--strangers", type=int, default=STRANGERS)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--out", type=Path, default=calibration.FILE)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    families = load_families(options.families, SEEDS)
    rows = in_parts(families, options.kin, options.strangers, options.seed, options.processes)
    content: dict[str, object] = {
        kind: fit(
            [row for row in rows if row.evidence.kind == kind and not row.evidence.incomparable],
            names,
        )
        for kind, names in calibration.FEATURES.items()
    }
    content["provenance"] = {
        "made_by": "python -m benchmarks calibrate",
        "commit": provenance.commit(),
        "features": {kind: list(names) for kind, names in calibration.FEATURES.items()},
        "kin": options.kin,
        "strangers": options.strangers,
        "seed": options.seed,
        "families": f"{len(families)} of widths {', '.join(map(str, relatives.WIDTHS))}",
        "noises": relatives.NOISES,
        "tokens": relatives.TOKENS,
        "ridge": RIDGE,
    }
    options.out.write_text(json.dumps(content, indent=1) + "\n")
    calibration.coefficients.cache_clear()
    for read, own in by_what_was_read(rows).items():
        print(read, tally(own))
