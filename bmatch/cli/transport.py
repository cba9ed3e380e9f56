"""``bmatch transport``: objects that live in a model's coordinates, carried to another's."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from bmatch.cli import console
from bmatch.cli.dry_run import DryRun, show
from bmatch.cli.options import AsJson, examples
from bmatch.files.atomic import require_new
from bmatch.gauge_file import load_gauge
from bmatch.groups import Gauge
from bmatch.network_gauge import NetworkGauge
from bmatch.report.tables import figures

EXAMPLES = examples(
    "bmatch transport gauge.safetensors refusal.gguf --out refusal_for_target.gguf",
    "bmatch transport gauge.safetensors sae/blocks.12.hook_resid_post --out sae_for_target",
)


def transport(
    gauge: Annotated[Path, typer.Argument(metavar="GAUGE", help="Gauge file.")],
    path: Annotated[
        Path, typer.Argument(metavar="OBJECT", help="File or folder: what it is, is found out.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="New file or folder.")],
    inverse: Annotated[
        bool, typer.Option("--inverse", help="Go from target to source coordinates instead.")
    ] = False,
    kind: Annotated[
        str | None,
        typer.Option(
            help="Take it for one of this kind: run, adapter, optimizer, sae, vector, list."
        ),
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option(help="Folder of the model that it belongs to, or its config.json."),
    ] = None,
    signed: Annotated[
        bool | None,
        typer.Option(
            "--signed/--unsigned",
            help="Whether the weights of a list have the signs of coordinates, where it does not "
            "tell.",
        ),
    ] = None,
    other_model: Annotated[
        bool,
        typer.Option(
            "--other-model",
            help="Go on, although OBJECT was carried to other weights than GAUGE starts at.",
        ),
    ] = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Write OBJECT in the coordinates that GAUGE leads to: steering vectors, dictionaries, ..."""
    require_new(out)
    with console.working("loading torch"):
        from bmatch.transport import carry, find_object
        from bmatch.transport.finding import UnknownObjectError
    element = of_stream(gauge)
    try:
        found = find_object(path, kind, None if model is None else config_of(model))
    except UnknownObjectError:
        _require_no_model(path)
        raise
    acting: Gauge = element.inverse() if inverse else element
    told = told_of(found)
    if dry_run:
        from bmatch.transport.planning import plan_of

        return show(plan_of(found, acting, out, other_model), out, as_json, told)
    carry(found, acting, out, console.track, signed=signed, other_model=other_model)
    if as_json:
        console.print_json({"out": str(out), **told, "group": acting.group})
        return
    console.show(figures(str(path), ((k.replace("_", " "), str(v)) for k, v in told.items())))
    console.say(f"{path} written to {out}, in other coordinates")


def told_of(found: Any) -> dict[str, Any]:
    """What there is to tell of an object."""
    if not hasattr(found, "parts"):  # a list, or a run
        rows = {"rows": found.rows} if hasattr(found, "rows") else {}
        return {"kind": found.kind, "format": found.format, **rows, **found.where}
    moved = sum(bool(along.axes) for part in found.parts for along in part.moves.values())
    return {
        "kind": found.kind,
        "format": found.format,
        "coordinates": found.width,
        **found.where,
        "tensors": sum(len(part.moves) for part in found.parts),
        "tensors_that_move": moved,
    }


def is_model(path: Path) -> bool:
    """Whether a folder has a model's config, which objects have not."""
    config = path / "config.json"
    return config.is_file() and '"model_type"' in config.read_text(errors="replace")


def of_stream(path: Path) -> Gauge:
    """The gauge of the residual stream in a file."""
    loaded = load_gauge(path)
    if isinstance(loaded, NetworkGauge):
        if loaded.residual is None:
            raise ValueError(f"{path} leaves the residual stream alone, where the object lies")
        stream = loaded.residual
        stream.metadata.update(loaded.metadata)
        return stream
    return loaded


def _require_no_model(path: Path) -> None:
    """Refuse a model, which another command carries."""
    folder = path.parent if path.name == "config.json" or path.match("model*.safetensors") else path
    if is_model(folder):
        trained = any(folder.glob("optimizer*"))
        raise ValueError(
            f"{folder} is a model: bmatch apply{' --with-optimizer' if trained else ''} carries it"
        )


def config_of(path: Path) -> Mapping[str, Any]:
    """The content of a model's config, which is the file or in the folder."""
    file = path / "config.json" if path.is_dir() else path
    if not file.is_file():
        raise FileNotFoundError(f"there is no model's config {file}")
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file} is damaged ({error})") from None
    if not isinstance(content, Mapping):
        raise ValueError(f"{file} is no model's config")
    return content
