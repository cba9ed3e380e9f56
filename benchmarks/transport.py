"""A checkpoint and a dictionary carried, beside a plain copy of their files. Rows go to
results/transport.csv, or below --out.

A plain copy is `shutil.copyfile`, which the kernel does by itself; a second one is safetensors'
`load_file` and `save_file`, a file in memory at a time. Files are in memory where ``--folder`` is,
and in the page cache otherwise: then the disk has a say, who writes faster waits for it earlier.
Ours takes a thread for every core.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from benchmarks import harness, report, results
from benchmarks.harness import Spread
from benchmarks.peers import OURS
from bmatch import SignedPermutation
from bmatch.transport import carry, checkpoint, find_object

WIDTH = 4096


def table(rows: Sequence[results.Row]) -> list[str]:
    """Markdown."""
    kept = results.newest(rows)
    lines = [
        f"{kept[-1].origin} Seconds, the median of interleaved rounds.",
        "",
        "| what | GB | bmatch | copy | load and save | the copy's time in ours |",
        "|---|---|---|---|---|---|",
    ]
    by_case: dict[str, dict[str, results.Row]] = {}
    for row in kept:
        by_case.setdefault(row.case, {})[row.provider] = row
    for case, found in by_case.items():
        ours, copy, again = (found[name] for name in (OURS, "copy", "safetensors"))
        lines.append(
            f"| {case} | {ours.extra['bytes'] / 1e9:.2f} | {ours.value:.2f} | {copy.value:.2f} | "
            f"{again.value:.2f} | {copy.value / ours.value:.2f} |"
        )
    return lines


def main(arguments: list[str]) -> None:
    """Writes, carries and copies."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks transport", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", default=".", help="whose file system is written to")
    harness.arguments(parser)
    results.arguments(parser)
    options = parser.parse_args(arguments)
    if options.report:
        return report.write("transport")
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    layers, features = (1, 4096 * 2) if options.quick else (8, 131_072 * 2)
    gauge = SignedPermutation.random(WIDTH, seed=0)
    made: dict[str, Callable[[Path], Path]] = {
        "checkpoint, bfloat16": lambda at: model(at, layers),
        "dictionary, bfloat16": lambda at: dictionary(at, features),
    }
    carried: dict[str, Callable[[Path, Path], object]] = {
        "checkpoint, bfloat16": lambda path, to: checkpoint(path, gauge, to),
        "dictionary, bfloat16": lambda path, to: carry(find_object(path), gauge, to),
    }
    with results.appending("transport", options) as out:
        for case, make in made.items():
            with tempfile.TemporaryDirectory(dir=options.folder) as root:
                path = make(Path(root) / "it")
                providers: dict[str, Callable[[Path], object]] = {
                    OURS: partial(carried[case], path),
                    "copy": copied(path),
                    "safetensors": loaded_and_saved(path),
                }
                calls = {name: fresh(Path(root) / "out", call) for name, call in providers.items()}
                size = sum(file.stat().st_size for file in path.iterdir())
                for name, times in harness.in_turns(calls, options.rounds, seed=0).items():
                    out.add(case, name, "time", "s", Spread.of(times), {"bytes": size})
                    print(f"{case}: {name} {min(times):.2f} s")
    if options.out is None:
        report.write("transport")


def fresh(out: Path, call: Callable[[Path], object]) -> Callable[[], float]:
    """The seconds of a call that writes to a folder which is not there."""

    def run() -> float:
        shutil.rmtree(out, ignore_errors=True)
        os.sync()  # what another one wrote goes to the disk before
        return harness.seconds(lambda: call(out))

    return run


def copied(path: Path) -> Callable[[Path], object]:
    """A folder's files, by the kernel."""
    return lambda out: shutil.copytree(path, out, copy_function=shutil.copyfile)


def loaded_and_saved(path: Path) -> Callable[[Path], object]:
    """A folder's weights, by safetensors."""

    def call(out: Path) -> None:
        out.mkdir()
        for file in path.glob("*.safetensors"):
            save_file(load_file(file), out / file.name)

    return call


def model(folder: Path, layers: int) -> Path:
    """A llama of random weights, a file for each layer."""
    inner, heads = 14_336, 1024
    shapes = {
        "self_attn.q_proj": (WIDTH, WIDTH),
        "self_attn.k_proj": (heads, WIDTH),
        "self_attn.v_proj": (heads, WIDTH),
        "self_attn.o_proj": (WIDTH, WIDTH),
        "mlp.gate_proj": (inner, WIDTH),
        "mlp.up_proj": (inner, WIDTH),
        "mlp.down_proj": (WIDTH, inner),
        "input_layernorm": (WIDTH,),
        "post_attention_layernorm": (WIDTH,),
    }
    folder.mkdir()
    shards = [
        {f"model.layers.{k}.{name}.weight": shape for name, shape in shapes.items()}
        for k in range(layers)
    ]
    ends = {"model.embed_tokens.weight": (32_000, WIDTH), "model.norm.weight": (WIDTH,)}
    shards.append(ends | {"lm_head.weight": (32_000, WIDTH)})
    index: dict[str, str] = {}
    for k, shard in enumerate(shards):
        name = f"model-{k:05d}.safetensors"
        save_file({key: random(shape) for key, shape in shard.items()}, folder / name)
        index |= dict.fromkeys(shard, name)
    written = {"metadata": {}, "weight_map": index}
    (folder / "model.safetensors.index.json").write_text(json.dumps(written))
    config = {
        "model_type": "llama",
        "hidden_size": WIDTH,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 32_000,
    }
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def dictionary(folder: Path, features: int) -> Path:
    """A sparse autoencoder of random weights, as SAELens writes them."""
    folder.mkdir()
    shapes: dict[str, tuple[int, ...]] = {
        "W_enc": (WIDTH, features),
        "W_dec": (features, WIDTH),
        "b_enc": (features,),
        "b_dec": (WIDTH,),
    }
    save_file(
        {name: random(shape) for name, shape in shapes.items()},
        folder / "sae_weights.safetensors",
    )
    told = {"architecture": "standard", "d_in": WIDTH, "d_sae": features}
    (folder / "cfg.json").write_text(json.dumps(told))
    return folder


def random(shape: tuple[int, ...]) -> torch.Tensor:
    """Finite numbers of bfloat16, made in a hurry."""
    return torch.empty(shape, dtype=torch.bfloat16).uniform_(-1, 1)
