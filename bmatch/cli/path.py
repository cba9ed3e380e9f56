"""``bmatch path``: from the end of one training run to that of another, by their checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, closing
from functools import partial
from itertools import tee
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
    EventFolder,
    EvidenceName,
    Group,
    MetricsFile,
    OutFile,
    Picture,
    RankTimeout,
    SequenceLength,
    SiteNumbers,
    Text,
    Tokens,
    Witness,
    examples,
    require_apart,
    require_picture,
    sites_of,
)
from bmatch.cli.restarted import is_over
from bmatch.files.atomic import new_files, require_new
from bmatch.jobs.device import require_device
from bmatch.jobs.metrics import Metrics, followed
from bmatch.jobs.phases import peak_bytes, peak_bytes_of_processes
from bmatch.jobs.ranks import joined, own_device
from bmatch.jobs.restarts import note_outputs
from bmatch.jobs.resume import user_cache

EXAMPLES = examples(
    "bmatch path run-a/ run-b/ --out path.safetensors",
    "bmatch path run-a/ run-b/ --base base/ --text notes.txt --tokens 8192 --out path.safetensors",
    "bmatch path run-a/ run-b/ --back --jobs 2 --json --out path.safetensors",
    "torchrun --nproc-per-node 2 -m bmatch path run-a/ run-b/ --out path.safetensors",
)

Cache = Annotated[
    Path | None,
    typer.Option(
        "--cache", help="Folder that keeps hops, by content. Default: in the user's cache."
    ),
]


def path(
    run_a: Annotated[
        Path,
        typer.Argument(
            metavar="RUN_A",
            help="Folder with checkpoints in it (checkpoint-100, ...), a checkpoint, or a text "
            "file that names folders line by line.",
        ),
    ],
    run_b: Annotated[
        Path, typer.Argument(metavar="RUN_B", help="The same; both started from one base.")
    ],
    out: OutFile,
    base: Annotated[
        Path | None,
        typer.Option(help="The checkpoint both started from. Default: one that both hold."),
    ] = None,
    text: Text = None,
    tokens: Tokens = 4096,
    sequence_length: SequenceLength = 256,
    batch_size: BatchSize = 2,
    sites: SiteNumbers = "all",
    group: Group = "auto",
    dtype: Dtype = "float32",
    device: Device = "cpu",
    evidence: EvidenceName = "activations",
    witness: Witness = True,
    back: Annotated[
        bool, typer.Option("--back", help="Go back as well, on other tokens, and compare.")
    ] = False,
    jobs: Annotated[int, typer.Option(help="Processes, with two models each.")] = 1,
    skip_broken: Annotated[
        bool, typer.Option("--skip-broken", help="Leave out what is missing or damaged.")
    ] = False,
    cache: Cache = None,
    metrics_file: MetricsFile = None,
    event_folder: EventFolder = None,
    rank_timeout: RankTimeout = 30.0,
    force: Annotated[
        bool, typer.Option("--force", help="Write the gauge even where a hop relates nothing.")
    ] = False,
    picture: Picture = None,
    as_json: AsJson = False,
) -> None:
    """Compose the gauge from the last checkpoint of RUN_A to that of RUN_B, by way of their base.

    Hops are kept as they are found: a job that was ended goes on where it was. Two models are in
    memory at once. Started by torchrun, its processes share the hops; the gauge is the same.
    """
    with joined(device, rank_timeout) as ranks, ExitStack() as ending:
        if is_over(ranks):
            return
        device = own_device(device, ranks)
        if not ranks.first:
            console.quiet_transformers()
            from bmatch.trajectory.shared import serve_hops

            serve_hops(ranks, device)
            return
        require_new(out)
        require_picture(picture)
        require_apart(out, picture, metrics_file, event_folder)
        with console.working("loading torch and transformers"):
            console.quiet_transformers()
            from bmatch.models.text import title_of
            from bmatch.report.heat_map import plot_path
            from bmatch.report.paths import hops_table, path_figures, path_table
            from bmatch.trajectory import Trajectory, path_between
        require_device(device, spread=True)
        turn = path_between(
            *(run_a, run_b, base),
            skip_broken=skip_broken,
            progress=console.track,
            tell=console.note,
        )
        sizes = tokens, sequence_length, batch_size
        forward: list[Any] = []
        backward: list[Any] | None = None
        if evidence != "weights":
            checkpoints = [stop.held for stop in turn.stops]
            forward, backward = read_batches(checkpoints, text or (), *sizes, back=back)
        elif text or back:
            raise ValueError("evidence from weights reads no text: leave --text and --back out")
        metrics = ending.enter_context(closing(Metrics(console.note, metrics_file, event_folder)))
        found = Trajectory(
            turn.stops,
            forward,
            base=turn.base,
            back=backward,
            sites=sites_of(sites),
            group=group,
            evidence=evidence,
            witness=witness,
            dtype=dtype,
            device=device,
            cache_dir=cache or user_cache("hops"),
            jobs=jobs,
            progress=followed(console.track, metrics),
            tell=console.note,
        )
        foreseen = found.foreseen_bytes
        if foreseen and not as_json:
            console.say(
                f"memory in all{' of each process' * (jobs > 1)}, two models included: about "
                f"{foreseen / 1e6:,.0f} MB"
            )
        found.find(ranks)
        peaks = ranks.gathered(max(peak_bytes(), peak_bytes_of_processes() if jobs > 1 else 0))
        metrics.add({"verdict": found.verdict})
    written = force or found.verdict == "related"
    with new_files(partial(note_outputs, ranks)) as place:
        if picture is not None:
            plot_path(found, place(picture), f"{run_a} -> {run_b}")
        if written:
            read = {} if evidence == "weights" else {"text": title_of(text or ()), "dtype": dtype}
            found.gauge().save(place(out), read)
    if as_json:
        memory = {"foreseen_bytes": foreseen, "peak_bytes": max(peaks)}
        console.print_json({"out": str(out) if written else None, **path_figures(found), **memory})
    else:
        console.show(hops_table(found.hops, found.weakest))
        console.show(path_table(found, f"{run_a} -> {run_b}"))
    for warning in found.warnings:
        console.note(warning)
    if not written:
        console.fail(
            f"a hop is {found.verdict}; no gauge was written, --force writes it all the same"
        )
        raise typer.Exit(NOT_RELATED)
    if not as_json:
        console.say(f"gauge written to {out}")
        console.say_peaks((max(peaks[0], peak_bytes()), *peaks[1:]), foreseen)


def read_batches(
    checkpoints: Sequence[Any],
    text: list[Path] | tuple[()],
    *sizes: int,
    back: bool = False,
) -> tuple[list[Any], list[Any] | None]:
    """The text in tokens of the first checkpoint that has a tokenizer; and what follows it."""
    from bmatch.models.loading import TOKENIZER_FILES, has_tokenizer, load_tokenizer
    from bmatch.models.text import default_text, file_text, later_batches, token_batches

    checkpoint = next(filter(has_tokenizer, checkpoints), None)
    if checkpoint is None:
        raise FileNotFoundError(
            f"no checkpoint has a tokenizer, nor the runs' folders: copy one of its files "
            f"({', '.join(TOKENIZER_FILES)}) into a run's folder"
        )
    tokenizer = load_tokenizer(checkpoint)
    words, again = tee(file_text(text) if text else default_text())  # a pipe is read once
    forward = token_batches(tokenizer, words, *sizes)
    return forward, later_batches(tokenizer, again, *sizes) if back else None
