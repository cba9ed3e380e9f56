"""Columns as a file that others read: CSV, or Parquet where pyarrow is installed."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy.typing as npt

from bmatch.files.atomic import new_file

SUFFIXES = (".csv", ".parquet")


def require_table(path: Path) -> None:
    """Refuse a name that tells no format, and Parquet where pyarrow is not installed.

    Raises
    ------
    ValueError
    """
    if path.suffix not in SUFFIXES:
        raise ValueError(f"a table must be named {' or '.join(SUFFIXES)}, got {path}")
    if path.suffix == ".parquet":
        try:
            import pyarrow.parquet  # noqa: F401
        except ImportError:
            raise ValueError(
                f"{path} is written with pyarrow: pip install pyarrow, or name it .csv"
            ) from None


def write_table(path: Path, columns: Mapping[str, npt.NDArray[Any]]) -> None:
    """Write columns of one length, whole or not at all."""
    require_table(path)
    with new_file(path) as partial:
        if path.suffix == ".parquet":
            import pyarrow
            import pyarrow.parquet

            pyarrow.parquet.write_table(pyarrow.table(dict(columns)), partial)
            return
        with partial.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(columns)
            writer.writerows(zip(*(column.tolist() for column in columns.values()), strict=True))
