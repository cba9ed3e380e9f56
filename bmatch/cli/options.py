"""What the commands have in common: options, and how their examples are shown."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from bmatch.cli import console

EXIT_CODES = (
    "Exit codes: 0 done, 1 bad input or failure (one sentence says which), 2 wrong usage, 3 "
    "nothing relates two models or the tokens are too few, 130 interrupted. Nothing half-written "
    "is ever left behind."
)
NOT_RELATED = 3
"""The exit code where nothing relates two models."""


def _only_json(context: typer.Context, wanted: bool) -> bool:
    if wanted:  # until all is over, wrong usage of what follows included
        context.find_root().with_resource(console.only_json())
    return wanted


AsJson = Annotated[
    bool,
    typer.Option("--json", help="Print one JSON object instead of a table.", callback=_only_json),
]
OutFile = Annotated[Path, typer.Option("--out", "-o", help="File to write.", dir_okay=False)]
GroupName = Literal[
    "auto", "signed_permutation", "permutation", "permutation_global_sign", "orthogonal"
]


def examples(*lines: str) -> str:
    """The end of a command's help."""
    return "Examples:\n\n" + "\n\n".join(f"  $ {line}" for line in lines)
