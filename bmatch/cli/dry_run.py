"""What a command would do, told in place of doing it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bmatch.cli import console
from bmatch.report.tables import figures

if TYPE_CHECKING:
    from bmatch.models.plan import Plan

DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        help="Write nothing: tell what would be read and written, how long it takes and how much "
        "memory.",
    ),
]


def show(plan: Plan, out: Path, as_json: bool, more: Mapping[str, Any] | None = None) -> None:
    """Print a plan; more, by name, stands before it."""
    told = dict(more or {})
    if as_json:
        console.print_json({"out": str(out), "dry_run": True, **told, **asdict(plan)})
        return
    free = "" if plan.free_bytes >= plan.written_bytes else ": too little"
    rows = {
        **{name.replace("_", " "): str(value) for name, value in told.items()},
        "reads": _bytes(plan.read_bytes),
        "writes": f"{_bytes(plan.written_bytes)}, {plan.files} files with {plan.tensors} tensors",
        "free there": f"{_bytes(plan.free_bytes)}{free}",
        "memory": f"at most {_bytes(plan.memory_bytes)} beside Python and its libraries",
        "time": f"about {_seconds(plan.seconds)}, {_rate(plan)}; disks may be slower",
    }
    console.show(figures(f"{out} would be written", rows.items()))


def _bytes(count: int) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count / 1e3:.1f} kB"


def _seconds(seconds: float) -> str:
    if seconds >= 90:
        return f"{seconds / 60:.0f} min"
    return f"{seconds:.0f} s" if seconds >= 1 else "less than 1 s"


def _rate(plan: Plan) -> str:
    return f"{_bytes(round(plan.written_bytes / max(plan.seconds, 1e-9)))} a second"
