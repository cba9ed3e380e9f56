"""``bmatch solve``: the assignment problem of a matrix in a file."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

import bmatch
from bmatch.cli import console
from bmatch.cli.options import AsJson, examples
from bmatch.files.atomic import new_files, require_new
from bmatch.files.pointers import require_content
from bmatch.report.tables import figures

EXAMPLES = examples(
    "bmatch solve costs.npy", "bmatch solve correlation.npy --sign-marginalized --out match.npz"
)


def solve(
    matrix: Annotated[
        Path, typer.Argument(metavar="MATRIX", help="A 2-D array written by numpy.save.")
    ],
    maximize: Annotated[bool, typer.Option("--maximize", help="Maximise the sum.")] = False,
    sign_marginalized: Annotated[
        bool, typer.Option("--sign-marginalized", help="Maximise the sum of magnitudes.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="Write row_ind, col_ind and duals (.npz).", dir_okay=False
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Solve the assignment problem of a matrix exactly."""
    if out is not None:
        require_new(out)
    cost = _read_matrix(matrix)
    start = time.perf_counter()
    with console.working(f"solving {cost.shape[0]} x {cost.shape[1]}"):
        a = bmatch.solve(cost, maximize=maximize, sign_marginalized=sign_marginalized)
    seconds = time.perf_counter() - start
    if out is not None:
        _write_assignment(out, a)
    values = {
        "shape": list(cost.shape),
        "dtype": str(cost.dtype),
        "matched": len(a.row_ind),
        "objective": a.objective,
        "gap": a.gap,
        "seconds": seconds,
    }
    if as_json:
        pairs = {} if out else {"row_ind": a.row_ind.tolist(), "col_ind": a.col_ind.tolist()}
        console.print_json({**values, **pairs})
        return
    n, m = cost.shape
    rows = [
        ("matrix", f"{n} x {m} {cost.dtype}"),
        ("matched", f"{len(a.row_ind)} pairs"),
        ("objective", f"{a.objective:.10g}"),
        ("gap", f"{a.gap:.3g} (no assignment is better by more)"),
        ("seconds", f"{seconds:.4f}"),
    ]
    console.show(figures(str(matrix), rows))
    if out is not None:
        console.say(f"row_ind, col_ind and duals written to {out}")


def _read_matrix(path: Path) -> Any:
    if not path.exists():
        raise FileNotFoundError(f"there is no file {path}")
    if not path.is_file():
        raise ValueError(f"{path} is no ordinary file, which a matrix is read from")
    require_content(path)
    try:
        cost = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError):
        raise ValueError(
            f"{path} is no array written by numpy.save (or one of Python objects)"
        ) from None
    if not isinstance(cost, np.ndarray):
        raise ValueError(f"{path} holds several arrays: give a .npy file with one")
    return cost


def _write_assignment(out: Path, a: bmatch.Assignment) -> None:
    names = ["row_ind", "col_ind", "col_of_row", "row_dual", "col_dual"]
    arrays = {name: getattr(a, name) for name in names}
    if a.sign is not None:
        arrays["sign"] = a.sign
    with new_files() as place, open(place(out), "wb") as file:
        np.savez(file, **arrays)
