"""``bmatch apply`` and ``bmatch compose``: gauges at work on a checkpoint, and on each other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

import bmatch
from bmatch.cli import console
from bmatch.cli.dry_run import DryRun, show
from bmatch.cli.options import AsJson, OutFile, examples
from bmatch.cli.transport import is_model
from bmatch.files.atomic import new_files, require_new
from bmatch.gauge_file import load_gauge
from bmatch.groups import Composable, Gauge
from bmatch.models.digest import differ
from bmatch.network_gauge import NetworkGauge

APPLY_EXAMPLES = examples(
    "bmatch apply gauge.safetensors base/ --out base_in_target_coordinates/",
    "bmatch apply gauge.safetensors finetuned/ --inverse --out realigned/",
    "bmatch apply gauge.safetensors big/ --out moved/ --dry-run",
    "bmatch apply gauge.safetensors run/checkpoint-500/ --with-optimizer --out checkpoint-500/",
)
COMPOSE_EXAMPLES = examples(
    "bmatch compose b_to_c.safetensors a_to_b.safetensors --out a_to_c.safetensors"
)


def apply(
    gauge: Annotated[Path, typer.Argument(metavar="GAUGE", help="Gauge file.")],
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="Checkpoint folder.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="New folder.")],
    inverse: Annotated[
        bool, typer.Option("--inverse", help="Go from target to source coordinates instead.")
    ] = False,
    with_optimizer: Annotated[
        bool,
        typer.Option(
            "--with-optimizer", help="Carry the optimizer's state, too, and keep the trainer's."
        ),
    ] = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Write MODEL in the coordinates that GAUGE leads to; it computes the same function."""
    require_new(out)
    with console.working("loading torch"):
        from bmatch.transport import checkpoint, network_checkpoint, trainer_checkpoint
    g = load_gauge(gauge)
    _require_no_object(model)
    if dry_run:
        return _plan(gauge, g.inverse() if inverse else g, model, out, with_optimizer, as_json)
    if isinstance(g, NetworkGauge):
        _require_no_optimizer(gauge, with_optimizer)
        network = g.inverse() if inverse else g
        digest = network_checkpoint(model, network, out, console.track, console.note)
    else:
        stream: Gauge = g.inverse() if inverse else g
        carry = trainer_checkpoint if with_optimizer else checkpoint
        digest = carry(model, stream, out, console.track, console.note)
    role = "target" if inverse else "source"
    expected = g.metadata.get(f"{role}_sha256")
    known = None if expected is None else expected == digest
    if as_json:
        console.print_json({"out": str(out), "model_sha256": digest, f"is_{role}": known})
        return
    console.say(f"{model} written to {out}, in other coordinates")
    if known is False:
        console.note(
            f"{model} is not the {role} that the gauge was estimated from: the result means "
            f"something only if it lives in the same coordinates as that {role}"
        )


def _plan(
    gauge: Path, acting: Gauge | NetworkGauge, model: Path, out: Path, optimizer: bool, json: bool
) -> None:
    """Tell what would be done to a checkpoint, or to one of its config where no weights are."""
    from bmatch.models.hollow import whole_or_hollow
    from bmatch.models.plan import Planning
    from bmatch.transport import checkpoint, network_checkpoint, trainer_checkpoint
    from bmatch.transport.weights import copies_under

    with whole_or_hollow(model) as folder:
        try:
            if isinstance(acting, NetworkGauge):
                _require_no_optimizer(gauge, optimizer)
                planning = Planning(copies=3)  # as read, moved along one axis, and along the next
                network_checkpoint(folder, acting, out, console.track, console.note, planning)
            else:
                planning = Planning(copies_under(acting))
                carry = trainer_checkpoint if optimizer else checkpoint
                carry(folder, acting, out, console.track, console.note, planning)
        except ValueError as error:
            raise ValueError(str(error).replace(str(folder), str(model))) from None
    show(planning.plan, out, json)


def _require_no_optimizer(gauge: Path, wanted: bool) -> None:
    if wanted:
        raise ValueError(
            f"{gauge} is a gauge of a whole network, and an optimizer's state is carried along "
            "the residual stream alone: align with --spaces residual"
        )


def _require_no_object(path: Path) -> None:
    """Refuse what is no model, and is known to another command."""
    if not path.exists() or is_model(path):
        return
    from bmatch.transport.finding import UnknownObjectError, find_object

    try:
        found = find_object(path)
    except UnknownObjectError:
        return
    raise ValueError(
        f"{path} is no model but {found.kind} ({found.format}): bmatch transport carries it"
    )


def compose(
    gauges: Annotated[
        list[Path],
        typer.Argument(metavar="G3 G2 G1", help="Gauge files G3 G2 G1: the last acts first."),
    ],
    out: OutFile,
    as_json: AsJson = False,
) -> None:
    """Write the product G3 @ G2 @ G1 of gauges: the last one named acts first."""
    require_new(out)
    chain = [load_gauge(path) for path in gauges]
    _require_one_kind(gauges, chain)
    _require_chain(gauges, chain)
    product = bmatch.compose(chain)
    with new_files() as place:
        product.save(place(out), {"hops": str(len(chain)), "bmatch_version": bmatch.__version__})
    units = product.dim
    if as_json:
        console.print_json({"out": str(out), "dim": units, "hops": len(chain)})
    else:
        console.say(f"{len(chain)} gauges of {units} coordinates composed into {out}")


def _require_one_kind(paths: list[Path], chain: Sequence[object]) -> None:
    whole = [isinstance(gauge, NetworkGauge) for gauge in chain]
    if any(whole) and not all(whole):
        raise ValueError(
            f"{paths[whole.index(True)]} is a gauge of a whole network and "
            f"{paths[whole.index(False)]} one of the residual stream alone: they cannot be composed"
        )


def _require_chain(paths: list[Path], chain: Sequence[Composable]) -> None:
    """Each gauge must start where the one after it on the command line ends, if they tell."""
    for k in range(len(chain) - 1):
        later, earlier = chain[k].metadata, chain[k + 1].metadata
        starts, ends = later.get("source_sha256"), earlier.get("target_sha256")
        if differ(starts, ends):
            raise ValueError(
                f"{paths[k]} starts at the checkpoint {later.get('source')!r} and {paths[k + 1]} "
                f"ends at {earlier.get('target')!r}, which has other weights: the last gauge named "
                "acts first"
            )
