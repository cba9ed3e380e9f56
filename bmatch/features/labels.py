"""What people know of features, in the files in which they have it, by the numbers of others.

JSON: a list, or an object by number. CSV: a row a feature with its number in a column ``index``,
``feature`` or ``feature_index``, as it may stand more than once.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bmatch.features.match import FeatureMatch
from bmatch.files.atomic import new_file

SUFFIXES = (".json", ".csv")

_COLUMNS = ("index", "feature", "feature_index")


def require_labels(path: Path, out: Path) -> None:
    """Refuse labels of no known format, and an output of another.

    Raises
    ------
    FileNotFoundError, ValueError
    """
    if path.suffix not in SUFFIXES or out.suffix != path.suffix:
        raise ValueError(
            f"labels are {' or '.join(SUFFIXES)} and are written as they were read, got {path} and "
            f"{out}"
        )
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")


def carry_labels(path: Path, match: FeatureMatch, out: Path) -> int:
    """Write the labels of source features as those of the target features that they became.

    Returns
    -------
    int
        How many features of the target have one.

    Raises
    ------
    ValueError
        If the file is damaged, or numbers features that the source has not.
    """
    return (_carry_json if path.suffix == ".json" else _carry_csv)(path, match, out)


def _carry_json(path: Path, match: FeatureMatch, out: Path) -> int:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        labels = dict(enumerate(content)) if isinstance(content, list) else _numbered(content)
    except (ValueError, AttributeError) as error:
        raise ValueError(
            f"{path} must hold a list, or an object by numbers of features ({error})"
        ) from None
    carried = _carried(path, match, labels)
    with new_file(out) as partial:
        partial.write_text(json.dumps(carried, indent=2, ensure_ascii=False) + "\n", "utf-8")
    return len(carried)


def _numbered(content: Mapping[str, Any]) -> dict[int, Any]:
    return {int(number): label for number, label in content.items()}


def _carry_csv(path: Path, match: FeatureMatch, out: Path) -> int:
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
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
    carried = _carried(path, match, rows)
    with new_file(out) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names, lineterminator="\n", extrasaction="ignore")
        writer.writeheader()
        for number, known in carried.items():
            writer.writerows({**row, column: number} for row in known)
    return len(carried)


def _carried(path: Path, match: FeatureMatch, labels: Mapping[int, Any]) -> dict[int, Any]:
    try:
        return match.carried(labels)
    except IndexError as error:
        raise ValueError(f"{path}: {error}") from None
