"""``bmatch watch``: a run while it trains, a line for each checkpoint that appears."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from bmatch.cli import console
from bmatch.cli.options import (
    NOT_RELATED,
    AsJson,
    BatchSize,
    Device,
    Dtype,
    EvidenceName,
    SequenceLength,
    SiteNumbers,
    Text,
    Tokens,
    Witness,
    examples,
    sites_of,
)
from bmatch.cli.path import Cache, read_batches
from bmatch.jobs.device import require_device
from bmatch.jobs.resume import user_cache

EXAMPLES = examples(
    "bmatch watch run/",
    "bmatch watch run/ --text notes.txt --until 10000",
    "bmatch watch run/ --patience 0 --json",
)


def watch(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help="Folder that a training writes checkpoints to.")
    ],
    text: Text = None,
    tokens: Tokens = 4096,
    sequence_length: SequenceLength = 256,
    batch_size: BatchSize = 2,
    sites: SiteNumbers = "all",
    dtype: Dtype = "float32",
    device: Device = "cpu",
    evidence: EvidenceName = "activations",
    witness: Witness = True,
    every: Annotated[float, typer.Option(help="Seconds from look to look.")] = 30.0,
    until: Annotated[int | None, typer.Option(help="Step to end with.")] = None,
    patience: Annotated[
        float | None,
        typer.Option(help="Seconds without a checkpoint to end after; 0: take what is there."),
    ] = None,
    cache: Cache = None,
    as_json: AsJson = False,
) -> None:
    """Hold each checkpoint of RUN against the one before as it appears; tell drift and alarms.

    Coordinates of a run should stay where they are. Exit code 3 if a hop related nothing.
    """
    with console.working("loading torch and transformers"):
        console.quiet_transformers()
        from bmatch.report.paths import hop_line
        from bmatch.trajectory.watch import Watch, alarms, appeared
    require_device(device, spread=True)
    if evidence == "weights" and text:
        raise ValueError("evidence from weights reads no text: leave --text out")
    raised: list[str] = []
    broken: list[str] = []
    with console.working(f"waiting for checkpoints in {run}"):
        first = appeared(run, every=every, patience=patience)
    options: dict[str, Any] = {"evidence": evidence, "witness": witness, "dtype": dtype}
    forward: list[Any] = []
    if evidence != "weights":
        sizes = tokens, sequence_length, batch_size
        forward, _ = read_batches([first], text or (), *sizes)
    watched = Watch(
        forward,
        cache_dir=cache or user_cache("hops"),
        tell=console.note,
        sites=sites_of(sites),
        device=device,
        **options,
    )
    for seen in watched.follow(run, every=every, until=until, patience=patience):
        if seen.broken is not None:
            broken.append(seen.broken)
            console.note(f"passed over: {seen.broken}")
        elif seen.hop is not None:
            if not as_json:
                console.say(hop_line(seen.hop))
            for sentence in alarms(seen.hop):
                raised.append(sentence)
                console.note(sentence)
    hops = watched.hops
    if as_json:
        console.print_json(
            {
                "hops": [hop.figures() for hop in hops],
                "drift": watched.drift,
                "alarms": raised,
                "broken": broken,
            }
        )
    else:
        console.say(f"{len(hops)} hops; {watched.drift} coordinates changed from first to last")
    if any(hop.verdict != "related" for hop in hops):
        raise typer.Exit(NOT_RELATED)
