"""What people know of features, in the files in which they have it, by the numbers of others.

JSON: a list, or an object by number. CSV: a row a feature with its number in a column ``index``,
``feature`` or ``feature_index``, as it may stand more than once.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bmatch.features.match import FeatureMatch
from bmatch.files.atomic import new_file

SUFFIXES = (".json", ".csv")

_COLUMNS = ("index", "feature", "feature_index")


@dataclass(frozen=True)
class Labels:
    """What a file tells of features.

    Attributes
    ----------
    path : Path
    known : dict
        By the number of a feature: a value of JSON, or rows of CSV by column.
    names : list of str
        Columns; none of JSON.
    column : str
        The one that has the number.
    """

    path: Path
    known: Mapping[int, Any]
    names: Sequence[str] = ()
    column: str = ""

    def require(self, count: int) -> None:
        """Refuse labels of features that a dictionary of so many has not.

        Raises
        ------
        ValueError
        """
        beyond = next((number for number in self.known if not 0 <= number < count), None)
        if beyond is not None:
            raise ValueError(
                f"{self.path}: feature {beyond} has a label, and the source has {count} features"
            )


def read_labels(path: Path) -> Labels:
    """What a file tells of features.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is of no known format, or damaged.
    """
    if path.suffix not in SUFFIXES:
        raise ValueError(f"labels must be named {' or '.join(SUFFIXES)}, got {path}")
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        text = path.read_bytes().decode("utf-8-sig")  # a spreadsheet's begin with its mark
        return _read_json(path, text) if path.suffix == ".json" else _read_csv(path, text)
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} is damaged ({error})") from None


def _read_json(path: Path, text: str) -> Labels:
    try:
        content = json.loads(text)
        return Labels(
            path, dict(enumerate(content)) if isinstance(content, list) else _numbered(content)
        )
    except (ValueError, AttributeError, RecursionError) as error:
        raise ValueError(
            f"{path} must hold a list, or an object by numbers of features ({error})"
        ) from None


def _numbered(content: Mapping[str, Any]) -> dict[int, Any]:
    return {int(number): label for number, label in content.items()}


def _read_csv(path: Path, text: str) -> Labels:
    reader = csv.DictReader(io.StringIO(text, newline=""))
    names = reader.fieldnames or []
    column = next((name for name in _COLUMNS if name in names), None)
    if column is None:
        raise ValueError(f"{path} has no column {', '.join(_COLUMNS)}, by which rows are told")
    rows: dict[int, list[dict[str, Any]]] = {}
    for row in reader:
        try:
            number = int(row[column])
        except (TypeError, ValueError):
            raise ValueError(
                f"{path}, line {reader.line_num}: {row[column]!r} is no number of a feature"
            ) from None
        rows.setdefault(number, []).append(row)
    return Labels(path, rows, names, column)


def carry_labels(labels: Labels, match: FeatureMatch, out: Path) -> int:
    """Write the labels of source features as those of the target features that they became.

    Returns
    -------
    int
        How many features of the target have one.

    Raises
    ------
    ValueError
        If the labels are of features that the source has not.
    """
    labels.require(match.shape[1])
    carried = match.carried(labels.known)
    with new_file(out) as partial:
        if labels.path.suffix == ".json":
            text = json.dumps(carried, indent=2, ensure_ascii=False)
            partial.write_text(text + "\n", "utf-8")
            return len(carried)
        with partial.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, labels.names, lineterminator="\n", extrasaction="ignore")
            writer.writeheader()
            for number, rows in carried.items():
                writer.writerows({**row, labels.column: number} for row in rows)
    return len(carried)
