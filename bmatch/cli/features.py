"""``bmatch match-features``: the features of one dictionary found in another."""

from __future__ import annotations

import hashlib
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from bmatch._version import __version__
from bmatch.cli import console
from bmatch.cli.options import (
    NOT_RELATED,
    AsJson,
    CacheFolder,
    EventFolder,
    MetricsFile,
    OneDevice,
    Picture,
    RankTimeout,
    examples,
    require_apart,
    require_picture,
)
from bmatch.cli.restarted import is_over
from bmatch.cli.transport import of_stream
from bmatch.files.atomic import new_files, require_new
from bmatch.jobs.device import require_device
from bmatch.jobs.metrics import Metrics, followed
from bmatch.jobs.progress import Progress, silent
from bmatch.jobs.restarts import note_outputs
from bmatch.jobs.resume import KeptParts, KeptState, content_key, user_cache

if TYPE_CHECKING:
    import torch

    from bmatch.features import FeatureMatch
    from bmatch.groups import Gauge

EXAMPLES = examples(
    "bmatch match-features sae_a/ sae_b/ --out pairs.csv --picture pairs.png",
    "bmatch match-features sae_a/ sae_b/ --gauge b_to_a.safetensors --out pairs.parquet \\\n\n"
    "      --labels labels_b.json --labels-out labels_a.json",
    "torchrun --nproc-per-node 2 -m bmatch match-features sae_a/ sae_b/ --out pairs.csv",
)
_AT_ONCE = 4096  # tokens of activations


def match_features(
    target: Annotated[Path, typer.Argument(metavar="TARGET", help="Dictionary: file or folder.")],
    source: Annotated[
        Path, typer.Argument(metavar="SOURCE", help="The one whose features are looked for there.")
    ],
    out: Annotated[
        Path,
        typer.Option("--out", "-o", help="Table of pairs: .csv or .parquet.", dir_okay=False),
    ],
    by: Annotated[
        Literal["decoder", "encoder", "activations"],
        typer.Option(
            help="What is compared: directions, or what features did over the same tokens (then "
            "TARGET and SOURCE are .npy files [tokens, features])."
        ),
    ] = "decoder",
    gauge: Annotated[
        Path | None,
        typer.Option(help="Gauge file, from SOURCE's coordinates to TARGET's, where they differ."),
    ] = None,
    sign_marginalized: Annotated[
        bool,
        typer.Option("--sign-marginalized", help="A feature may match the negative of another."),
    ] = False,
    least: Annotated[
        float | None,
        typer.Option(help="Keep all pairs of a larger cosine, in place of what strangers tell."),
    ] = None,
    false_share: Annotated[
        float, typer.Option(help="Strangers among the pairs that are kept, as a share.")
    ] = 0.01,
    labels: Annotated[
        Path | None,
        typer.Option(help="What is known of SOURCE's features: .json or .csv.", dir_okay=False),
    ] = None,
    labels_out: Annotated[
        Path | None, typer.Option(help="The same, of TARGET's features.", dir_okay=False)
    ] = None,
    cache: CacheFolder = None,
    save_every: Annotated[
        float, typer.Option(min=0.0, help="Minutes after which that is kept.")
    ] = 5.0,
    metrics_file: MetricsFile = None,
    event_folder: EventFolder = None,
    rank_timeout: RankTimeout = 30.0,
    picture: Picture = None,
    device: OneDevice = "cpu",
    as_json: AsJson = False,
) -> None:
    """Match the features of two sparse dictionaries; those without a partner stay out.

    Exit code 3 if no pair is closer than strangers come.
    """
    with console.working("loading torch"):
        from bmatch.features.labels import carry_labels, read_labels
        from bmatch.features.match import match_features as matched
        from bmatch.features.table import require_table
        from bmatch.jobs.ranks import joined, own_device
        from bmatch.report.features import plot_features
    known = None
    with joined(device, rank_timeout) as ranks, ExitStack() as ending:
        if is_over(ranks):
            return
        progress: Progress = silent
        if ranks.first:
            require_table(out)
            require_new(out)
            require_picture(picture)
            require_apart(out, picture, labels_out, metrics_file, event_folder)
            if (labels is None) != (labels_out is None):
                raise ValueError(
                    "--labels and --labels-out go together: what is read, and what is written"
                )
            if labels is not None and labels_out is not None:
                if labels_out.suffix != labels.suffix:
                    raise ValueError(
                        f"labels are written as they were read, got {labels} and {labels_out}"
                    )
                require_new(labels_out)
                known = read_labels(labels)
            metrics = ending.enter_context(
                closing(Metrics(console.note, metrics_file, event_folder))
            )
            progress = followed(console.track, metrics)
        where = own_device(device, ranks)
        require_device(where)
        acting = None if gauge is None else of_stream(gauge)
        ours = _rows(target, by, progress).to(where)
        theirs = _carried(_rows(source, by, progress), acting, by).to(where)
        if known is not None:
            known.require(len(theirs))
        kept = None
        if ranks.first:
            deciding = {
                "rows": [_sha256(rows) for rows in (ours, theirs)],
                "least": least,
                "magnitudes": sign_marginalized,
                "device": where.partition(":")[0],
                "version": __version__,
            }
            parts = KeptParts(cache or user_cache("features"), "pairs", console.note)
            kept = KeptState(parts, content_key(deciding), save_every)
        match = matched(
            ours,
            theirs,
            sign_marginalized=sign_marginalized,
            least=least,
            false_share=false_share,
            progress=progress,
            ranks=ranks,
            kept=kept,
        )
        if not ranks.first:
            return
        metrics.add({"matched": len(match.target_ind)})
    labelled = None
    with new_files(partial(note_outputs, ranks)) as place:
        match.save(place(out))
        if known is not None and labels_out is not None:
            labelled = carry_labels(known, match, place(labels_out))
        if picture is not None:
            plot_features(match, place(picture), f"{source.name} in {target.name}")
    if kept is not None:
        kept.forget()
    _tell(match, target, source, out, picture, labels_out, labelled, as_json)
    if not len(match.target_ind):
        raise typer.Exit(NOT_RELATED)


def _sha256(rows: torch.Tensor) -> str:
    taken = hashlib.sha256(repr(tuple(rows.shape)).encode())
    taken.update(rows.cpu().contiguous().numpy().data)
    return taken.hexdigest()


def _rows(path: Path, by: str, progress: Progress) -> torch.Tensor:
    """A row a feature."""
    from bmatch.transport.sae_directions import sae_directions

    if by == "activations":
        return _sketch(path, progress)
    return sae_directions(path, "encoder" if by == "encoder" else "decoder").float()


def _sketch(path: Path, progress: Progress) -> torch.Tensor:
    import numpy as np

    from bmatch.features import ActivationSketch
    from bmatch.files.containers import open_container

    if path.suffix != ".npy":
        raise ValueError(f"--by activations reads .npy files [tokens, features], got {path}")
    container = open_container(path)
    shape = container.shapes[""]
    if len(shape) != 2 or not shape[1]:
        raise ValueError(f"{path} must hold [tokens, features], got shape {list(shape)}")
    activations = container.read("")
    sketch = ActivationSketch(shape[1])
    for start in progress(range(0, shape[0], _AT_ONCE), f"Reading {path.name}"):
        sketch.update(np.asarray(activations[start : start + _AT_ONCE], np.float32))
    return sketch.directions()


def _carried(rows: torch.Tensor, gauge: Gauge | None, by: str) -> torch.Tensor:
    if gauge is None:
        return rows
    if by == "activations":
        raise ValueError("activations of features have no coordinates: leave --gauge out")
    if rows.shape[1] % gauge.dim:
        raise ValueError(
            f"the gauge acts on {gauge.dim} coordinates, and SOURCE has {rows.shape[1]}"
        )
    places = rows.reshape(len(rows), -1, gauge.dim)  # of a crosscoder several
    moved: torch.Tensor = gauge.apply(places, 2)
    return moved.flatten(1)


def _tell(
    match: FeatureMatch,
    target: Path,
    source: Path,
    out: Path,
    picture: Path | None,
    labels_out: Path | None,
    labelled: int | None,
    as_json: bool,
) -> None:
    from bmatch.report.features import features_table

    if as_json:
        console.print_json(
            {
                "out": str(out),
                "features": list(match.shape),
                "matched": len(match.target_ind),
                "expected_right": float(match.probability.mean()) if len(match.cosine) else None,
                "least_cosine": float(match.cosine.min()) if len(match.cosine) else None,
                "limit": match.limit,
                "labelled": labelled,
            }
        )
        return
    console.show(features_table(match, f"{source} -> {target}"))
    console.say(f"pairs written to {out}")
    if labelled is not None:
        console.say(f"labels of {labelled:,} features written to {labels_out}")
    if picture is not None:
        console.say(f"picture written to {picture}")
