"""``bmatch related``: whether one checkpoint comes from another, by the weights alone."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bmatch.cli import console
from bmatch.cli.options import NOT_RELATED, AsJson, OutFile, examples
from bmatch.files.atomic import new_files, require_new

if TYPE_CHECKING:
    from bmatch.lineage.lineage import Lineage

EXAMPLES = examples(
    "bmatch related base/ unknown/",
    "bmatch related base/ unknown/ --out gauge.safetensors --json",
)


def related(
    a: Annotated[Path, typer.Argument(metavar="A", help="Checkpoint folder.")],
    b: Annotated[Path, typer.Argument(metavar="B", help="The one that may come from A.")],
    out: OutFile | None = None,
    as_json: AsJson = False,
) -> None:
    """Tell whether B is A in another gauge, with noise, trained further, rotated, or a stranger.

    Weights alone are read. Exit code 3 if B is a stranger.
    """
    if out is not None:
        require_new(out)
    with console.working("loading torch and transformers"):
        console.quiet_transformers()
        from bmatch.lineage.lineage import related_checkpoints, sentence
        from bmatch.report.tables import figures
    found = related_checkpoints(a, b, console.track)
    written = out is not None and found.gauge is not None
    if out is not None and found.gauge is not None:
        found.gauge.metadata.update(source=a.resolve().name, target=b.resolve().name)
        with new_files() as place:
            found.gauge.save(place(out))
    values = _figures(found)
    if as_json:
        told = {"out": str(out) if written else None, "sentence": sentence(found)}
        console.print_json({**told, **values})
    else:
        rows = [
            (name.replace("_", " "), _shown(value))
            for name, value in values.items()
            if value is not None
        ]
        console.show(figures(f"{a} -> {b}", rows))
        console.say(sentence(found))
        if out is not None:
            console.say(f"gauge written to {out}" if written else "there is no gauge to write")
    if found.answer == "stranger":
        raise typer.Exit(NOT_RELATED)


def _figures(found: Lineage) -> dict[str, Any]:
    coins, witness, remains = found.coins, found.witness, found.difference
    return {
        "answer": found.answer,
        "log10_p": found.log10_p,
        "units_numbered_alike": None if coins is None else f"{coins.heads} of {coins.thrown} pairs",
        "log10_p_of_numbering": None if coins is None else coins.log10_p,
        "log10_p_of_coordinates": None if witness is None else witness.log10_p,
        **({} if remains is None else asdict(remains)),
        "left_by_rotation": found.rotation,
    }


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
