"""What the commands have in common: options, and how their examples are shown."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Annotated, Literal

import typer

from bmatch.cli import console
from bmatch.files.atomic import require_new

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

Text = Annotated[
    list[Path] | None,
    typer.Option(
        "--text",
        help="UTF-8 text to read, - for standard input; repeatable. Default: Python's language "
        "reference.",
    ),
]
Tokens = Annotated[int, typer.Option(min=1, help="Tokens to count.")]
SequenceLength = Annotated[int, typer.Option(min=1, help="Tokens a sequence.")]
BatchSize = Annotated[int, typer.Option(min=1, help="Sequences a batch.")]
SiteNumbers = Annotated[
    str, typer.Option(help="'all', or after how many blocks to read, as 0,8,-1.")
]
Group = Annotated[GroupName, typer.Option(help="Gauge group; 'auto': that of the architecture.")]
Dtype = Annotated[
    Literal["float32", "bfloat16", "float16"], typer.Option(help="Of the forward passes.")
]
Device = Annotated[
    str,
    typer.Option(
        help="Where the models run: cpu, cuda, cuda:1; or auto: spread over all GPUs, memory and "
        "disk, as accelerate does it."
    ),
]
OneDevice = Annotated[str, typer.Option(help="Where it is computed: cpu, cuda, cuda:1.")]
EvidenceName = Annotated[
    Literal["activations", "weights", "both"],
    typer.Option(help="'weights' needs no text, no tokenizer and no forward pass."),
]
Witness = Annotated[
    bool,
    typer.Option(help="Ask the weights what they say of a match of activations."),
]
Picture = Annotated[
    Path | None, typer.Option("--picture", help="PNG file to draw it into.", dir_okay=False)
]
CacheFolder = Annotated[
    Path | None,
    typer.Option(
        "--cache", help="Folder that keeps how far it has come. Default: in the user's cache."
    ),
]
RankTimeout = Annotated[
    float,
    typer.Option(
        min=0.01, max=1e6, help="Minutes without a word after which a rank counts as lost."
    ),
]
MetricsFile = Annotated[
    Path | None,
    typer.Option("--metrics", help="File to add JSON lines to as it goes on.", dir_okay=False),
]
EventFolder = Annotated[
    Path | None,
    typer.Option(
        "--tensorboard", help="Folder to add the same to, for TensorBoard.", file_okay=False
    ),
]


def require_picture(path: Path | None) -> None:
    """Refuse a picture of another format, one that is there already, or one that nobody draws."""
    if path is not None:
        if path.suffix != ".png":
            raise ValueError(f"the picture must be named .png, got {path}")
        require_new(path)
        if importlib.util.find_spec("matplotlib") is None:
            raise ValueError(
                f"{path} is drawn with matplotlib: pip install matplotlib, or leave it out"
            )


def require_apart(*outputs: Path | None) -> None:
    """Refuse one place for two outputs, of which the later would take that of the earlier."""
    named: set[str] = set()
    for path in outputs:
        place = "" if path is None else os.path.realpath(path)
        if place and place in named:
            raise ValueError(f"{path} is named for two outputs: name one of them otherwise")
        named.add(place)


def sites_of(text: str) -> Literal["all"] | list[int]:
    """What ``--sites`` says."""
    if text == "all":
        return "all"
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"--sites must be 'all' or numbers like 0,8,-1; got {text!r}") from None


def examples(*lines: str) -> str:
    """The end of a command's help."""
    return "Examples:\n\n" + "\n\n".join(f"  $ {line}" for line in lines)
