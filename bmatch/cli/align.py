"""``bmatch align``: two checkpoints or their activations in, the gauge between them out."""

from __future__ import annotations

from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from bmatch.cli import console
from bmatch.cli.networks import align_spaces
from bmatch.cli.options import (
    NOT_RELATED,
    AsJson,
    BatchSize,
    CacheFolder,
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
    Witness,
    examples,
    require_apart,
    require_picture,
    sites_of,
)
from bmatch.cli.restarted import is_over
from bmatch.files.atomic import new_files, require_new
from bmatch.jobs.metrics import Metrics
from bmatch.jobs.pace import Pace
from bmatch.jobs.phases import peak_bytes
from bmatch.jobs.ranks import joined, own_device, require_one_process
from bmatch.jobs.restarts import note_outputs
from bmatch.jobs.resume import user_cache

if TYPE_CHECKING:
    from bmatch.align import Alignment

EXAMPLES = examples(
    "bmatch align base/ finetuned/ --out gauge.safetensors",
    "bmatch align base/ finetuned/ --text notes.txt --tokens 16384 --out gauge.safetensors",
    "bmatch align base/ finetuned/ --evidence weights --out gauge.safetensors",
    "bmatch align base/ finetuned/ --spaces all --out gauge.safetensors",
    "bmatch align base-activations/ finetuned-activations/ --out gauge.safetensors",
    "torchrun --nproc-per-node 2 -m bmatch align base/ finetuned/ --tokens 262144 --out g",
)

_SHARES = "--shard shares models out among the processes that torchrun starts"


def align(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE",
            help="Checkpoint folder (config, safetensors); or activations on disk, an npy or "
            "safetensors file or a folder of them.",
        ),
    ],
    target: Annotated[
        Path,
        typer.Argument(metavar="TARGET", help="The same, with a stream of the same width."),
    ],
    out: OutFile,
    text: Text = None,
    tokens: Annotated[
        int | None, typer.Option(min=1, help="Tokens to count. Default: 4096; of activations, all.")
    ] = None,
    sequence_length: SequenceLength = 256,
    batch_size: BatchSize = 2,
    sites: SiteNumbers = "all",
    group: Group = "auto",
    dtype: Dtype = "float32",
    device: Device = "cpu",
    evidence: EvidenceName = "activations",
    witness: Witness = True,
    force: Annotated[
        bool, typer.Option("--force", help="Write the gauge even where nothing relates the two.")
    ] = False,
    spaces: Annotated[
        str | None,
        typer.Option(
            help="Align whole networks by their weights, no token read: 'all', or some of "
            "residual,neurons,heads,experts.",
        ),
    ] = None,
    cache: CacheFolder = None,
    save_every: Annotated[
        float, typer.Option(min=0.0, help="Minutes after which that is kept, from 16 batches on.")
    ] = 5.0,
    metrics_file: MetricsFile = None,
    event_folder: EventFolder = None,
    rank_timeout: RankTimeout = 30.0,
    shard: Annotated[
        bool,
        typer.Option(
            "--shard",
            help="Processes that torchrun starts share the models out (FSDP2), not the tokens.",
        ),
    ] = False,
    picture: Picture = None,
    as_json: AsJson = False,
) -> None:
    """Estimate the gauge from SOURCE to TARGET coordinates and write it to a file.

    Where nothing relates the two, or the tokens are too few to tell, none is written. Started by
    torchrun, its processes share the tokens; the gauge is the same. Of activations, row t of both
    is the same token.
    """
    if picture is not None and (group == "orthogonal" or spaces is not None):
        raise ValueError(
            "--picture draws partners in the stream: leave it out with a rotation or --spaces"
        )
    if spaces is not None and shard:
        raise ValueError(f"{_SHARES}: leave it out with --spaces, which runs none")
    if spaces is not None:
        require_one_process("--spaces")
        require_new(out)
        return align_spaces(source, target, out, spaces, as_json)
    with joined(device, rank_timeout) as ranks, ExitStack() as ending:
        if is_over(ranks):
            return
        device = own_device(device, ranks)
        if not ranks.first:
            console.quiet_transformers()
            from bmatch.stream_jobs import serve

            serve(source, target, dtype=dtype, device=device, ranks=ranks, shard=shard)
            return
        require_new(out)
        require_picture(picture)
        require_apart(out, picture, metrics_file, event_folder)
        with console.working("loading torch and transformers"):
            console.quiet_transformers()
            from bmatch.align import align_checkpoints
            from bmatch.align_stored import align_activations
            from bmatch.matching import GaugeMatch
            from bmatch.models.stored_activations import are_activations, open_activations
            from bmatch.report.plots import plot_alignment
            from bmatch.report.tables import alignment_table
            from bmatch.verdict.verdict import sentence
        stored = are_activations(source)
        if stored != are_activations(target):
            raise ValueError(
                f"one of {source} and {target} holds activations and the other does not: take "
                "two checkpoints (with their config.json) or the activations of both"
            )
        if shard and (stored or ranks.world == 1):
            raise ValueError(
                f"{_SHARES}: leave it out "
                f"{'with activations on disk' if stored else 'without torchrun'}"
            )
        if stored and (text or evidence != "activations" or group == "orthogonal"):
            raise ValueError(
                "activations on disk are read without a model, text or weights: leave out --text, "
                "--evidence and --group orthogonal"
            )
        total = 4096 if tokens is None else tokens
        if stored:
            held = [open_activations(place) for place in (source, target)]
            total = int(held[0].counted(held[0].first_rows(tokens), skip_positions=1).sum())
        warnings: list[str] = []

        def warn(sentence: str) -> None:
            warnings.append(sentence)
            console.note(sentence)

        metrics = ending.enter_context(closing(Metrics(warn, metrics_file, event_folder)))
        options: dict[str, Any] = {
            "sites": sites_of(sites),
            "device": device,
            "progress": console.track,
            "tell": None if as_json else console.say,
            "warn": warn,
            "cache_dir": cache or user_cache("streams"),
            "save_every": save_every,
            "passed": Pace(total, console.note, metrics),
            "ranks": ranks,
        }
        if stored:
            assert group != "orthogonal"  # as was refused
            alignment = align_activations(
                *held,
                tokens=tokens,
                batch_tokens=sequence_length * batch_size,
                group="signed_permutation" if group == "auto" else group,
                **options,
            )
        else:
            alignment = align_checkpoints(
                source,
                target,
                text=text or (),
                tokens=total,
                sequence_length=sequence_length,
                batch_size=batch_size,
                group=group,
                dtype=dtype,
                evidence=evidence,
                witness=witness,
                shard=shard,
                **options,
            )
        match = alignment.match
        metrics.add({"verdict": None if match.group == "orthogonal" else match.verdict})
    told = None if match.group == "orthogonal" else sentence(match)  # of rotations none is judged
    written = force or match.group == "orthogonal" or match.verdict == "related"
    with new_files(partial(note_outputs, ranks)) as place:
        if written:
            alignment.gauge.save(place(out))
        if picture is not None and isinstance(match, GaugeMatch):
            title = f"{source} -> {target}"
            plot_alignment(alignment.correlation, match, place(picture), title)
    if picture is not None and not isinstance(match, GaugeMatch):
        console.note("no picture was drawn: a rotation has no partners to show")
    if written and alignment.kept is not None:
        alignment.kept.forget()
    if as_json:
        figures = {"warnings": warnings, **_alignment_figures(alignment)}
        console.print_json({"out": str(out) if written else None, **figures})
    else:
        console.show(alignment_table(alignment, f"{source} -> {target}"))
    if not written:
        console.fail(f"{told}; no gauge was written, --force writes it all the same")
        raise typer.Exit(NOT_RELATED)
    if not as_json:
        if told is not None:
            console.say(told)
        console.say(f"gauge written to {out}")
        console.say_peaks((peak_bytes(), *alignment.peaks[1:]), alignment.foreseen_bytes)
        _warn(alignment)


def _alignment_figures(alignment: Alignment) -> dict[str, Any]:
    m = alignment.match
    read = {
        "dim": m.gauge.dim,
        "group": m.group,
        "evidence": m.gauge.metadata["evidence"],
        **_what_was_read(alignment),
        "score": m.score,
        "metadata": m.gauge.metadata,
    }
    if m.group == "orthogonal":
        return read | {
            "undetermined": m.undetermined,
            "singular_value_least": float(m.singular_values[-1]),
        }
    return read | {
        "verdict": m.verdict,
        "expected_recovered": m.expected_recovered,
        "probability": [] if m.probability is None else m.probability.round(4).tolist(),
        "margin_least": float(m.margin.min()),
        "margins_exact": int(m.margin_exact.sum()),
        "margin_median": float(np.median(m.margin)),
        "positive_fraction": m.positive_fraction,
        "mean_abs_off_diagonal": m.mean_abs_off_diagonal,
        "tied": m.tied.tolist(),
        "no_signal": m.no_signal.tolist(),
        "gap": m.assignment.gap,
    }


def _what_was_read(alignment: Alignment) -> dict[str, Any]:
    read: dict[str, Any] = {}
    if (streams := alignment.streams) is not None:
        read |= {"tokens": streams.tokens, "sites": list(streams.sites)}
        read["correlation_bytes"] = alignment.correlation_bytes
        read["foreseen_bytes"] = alignment.foreseen_bytes
        read["peak_bytes"] = peak_bytes()
    if (weights := alignment.weights) is not None:
        read |= {"weight_rows": weights.rows, "weight_tensors": weights.tensors}
        read["weight_tensors_left_out"] = list(weights.left_out)
    return read


def _warn(alignment: Alignment) -> None:
    m = alignment.match
    if m.group == "orthogonal":
        if m.undetermined:
            console.note(
                f"the tokens say nothing of {m.undetermined} directions: where these go is "
                "arbitrary, and more tokens would settle them"
            )
        return
    if len(m.no_signal):
        console.note(
            f"{len(m.no_signal)} coordinates carry no signal (target {_few(m.no_signal)}): where "
            "they go is arbitrary"
        )
    unclear = np.setdiff1d(np.flatnonzero(m.margin < 0.01), m.no_signal)
    if len(unclear):
        more = "more tokens" if alignment.streams is not None else "--evidence both"
        console.note(
            f"{len(unclear)} coordinates have margins below 0.01 (target {_few(unclear)}): {more}, "
            "or checkpoints closer to each other, would settle them"
        )


def _few(indices: Any) -> str:
    shown = ", ".join(map(str, indices[:6]))
    return shown if len(indices) <= 6 else f"{shown}, ..."
