"""``bmatch merge``: checkpoints in one, in the coordinates of the first."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from bmatch.cli import console
from bmatch.cli.dry_run import DryRun, show
from bmatch.cli.options import NOT_RELATED, AsJson, examples
from bmatch.cli.transport import of_stream
from bmatch.files.atomic import require_new
from bmatch.groups import Gauge

EXAMPLES = examples(
    "bmatch merge base/ finetuned/ --method task_arithmetic --weight 0.5 --out merged/",
    "bmatch merge a/ b/ --gauge b_to_a.safetensors --out average/",
    "bmatch merge base/ one/ two/ --method ties --weight 1 --weight 1 --density 0.5 --out merged/",
)


def merge(
    base: Annotated[
        Path, typer.Argument(metavar="BASE", help="Checkpoint whose coordinates are kept.")
    ],
    models: Annotated[list[Path], typer.Argument(metavar="MODEL...", help="The others.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="New folder.")],
    method: Annotated[
        Literal["average", "task_arithmetic", "slerp", "ties", "dare_ties", "dare_linear"],
        typer.Option(
            help="Shares of all, or the base and shares of what sets others off; the last four "
            "are mergekit's, which is run."
        ),
    ] = "average",
    weight: Annotated[
        list[float] | None,
        typer.Option(
            help="Of each MODEL in turn; of the base in an average it is 1; of slerp how far "
            "to go. Default: 1, of slerp 0.5."
        ),
    ] = None,
    density: Annotated[
        float | None,
        typer.Option(help="Share of entries that ties and dare keep. Default: mergekit's."),
    ] = None,
    gauge: Annotated[
        list[Path] | None,
        typer.Option(
            help="From the coordinates of each MODEL in turn to those of BASE. Default: estimated "
            "by their weights."
        ),
    ] = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Write the average of checkpoints, or a base with others' changes, as one checkpoint."""
    require_new(out)
    for name, given in (("--weight", weight), ("--gauge", gauge)):
        if given and len(given) != len(models):
            raise ValueError(f"{name} is given {len(given)} times, for {len(models)} models")
    if density is not None and method in ("average", "task_arithmetic"):
        raise ValueError(f"--density is of ties and dare, and {method} keeps all entries")
    with console.working("loading torch and transformers"):
        console.quiet_transformers()
        from bmatch.transport.by_mergekit import find_mergekit, merge_by_mergekit
        from bmatch.transport.merge import COPIES, Merged
        from bmatch.transport.merge import merge as merged
    if method != "average" and method != "task_arithmetic":
        if dry_run:
            raise ValueError(f"--dry-run is of average and task_arithmetic, and not of {method}")
        find_mergekit(method)  # before a gauge is estimated, not after
    shares = weight or [0.5 if method == "slerp" else 1.0] * len(models)
    together = [Merged(m, None, w) for m, w in zip(models, shares, strict=True)]
    gauges: list[Gauge | None] = [None] * len(models)
    if gauge:
        gauges = [of_stream(path) for path in gauge]
    elif not dry_run:
        gauges = [_estimated(m, base) for m in models]
    together = [replace(one, gauge=g) for one, g in zip(together, gauges, strict=True)]
    shown: Any = {"progress": console.track, "tell": console.note}
    if method != "average" and method != "task_arithmetic":
        merge_by_mergekit(base, together, out, method, density=density, **shown)
    elif dry_run:
        from bmatch.models.checkpoint import open_checkpoint
        from bmatch.models.plan import Planning

        planning = Planning(COPIES)
        merged(base, together, out, method, tell=console.note, writer=planning)
        plan = planning.plan
        read = plan.read_bytes + sum(open_checkpoint(model).num_bytes for model in models)
        return show(replace(plan, read_bytes=read), out, as_json, {"method": method})
    else:
        merged(base, together, out, method, **shown)
    if as_json:
        console.print_json({"out": str(out), "method": method, "weights": shares})
    else:
        console.say(f"{len(models) + 1} checkpoints merged into {out} by {method}")


def _estimated(model: Path, base: Path) -> Gauge:
    from bmatch.align import align_checkpoints
    from bmatch.verdict.verdict import sentence

    found = align_checkpoints(model, base, evidence="weights", progress=console.track).match
    if found.group == "orthogonal" or found.verdict != "related":
        said = "" if found.group == "orthogonal" else sentence(found)
        console.fail(f"{model} and {base}: {said}; nothing was merged")
        raise typer.Exit(NOT_RELATED)
    return found.gauge
