"""Files that list coordinates by number: JSON and CSV, with signs, layers, sites and weights.

JSON is a list of records, or a dict of lists; CSV has a line of names. How many coordinates there
are, a list does not tell.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bmatch.architecture import residual_axes
from bmatch.files.atomic import new_files, require_new
from bmatch.groups import Gauge
from bmatch.transport.neurons import INDEX, SIGN, SITE, WEIGHT, carried_columns
from bmatch.transport.objects import SIDECAR, notes_of, require_same_model

_COLUMNS = (INDEX, SIGN, WEIGHT, SITE)


@dataclass(frozen=True)
class NeuronList:
    """A file that lists coordinates.

    Attributes
    ----------
    path : Path
    kind : str
        An attribution list if there are weights, else a neuron set.
    format : str
        JSON records, JSON columns, or CSV.
    rows : int
    width : int or None
        Coordinates of the stream, if the model is given.
    where : mapping of str to str
        The columns that tell layers and sites.
    """

    path: Path
    kind: str
    format: str
    rows: int
    width: int | None = None
    where: Mapping[str, str] = field(default_factory=dict)


def find_list(path: Path, model: Mapping[str, Any] | None = None) -> NeuronList | None:
    """A list of coordinates in a JSON or CSV file; None if it has no column ``index``.

    Parameters
    ----------
    path : path
    model : mapping, optional
        Content of ``config.json`` of the model whose stream it numbers.

    Raises
    ------
    ValueError
        If the file is damaged, or its rows are not alike.
    """
    table = _read(path)
    if table is None:
        return None
    columns = table.columns
    told = {
        name: ", ".join(sorted({str(value) for value in columns[name] if value is not None})[:8])
        for name in ("layer", SITE)
        if name in columns
    }
    return NeuronList(
        path,
        "attribution list" if WEIGHT in columns else "neuron set",
        table.format,
        len(columns[INDEX]),
        None if model is None else residual_axes(model).dim,
        {name: values for name, values in told.items() if values},
    )


def carry_list(
    found: NeuronList,
    gauge: Gauge,
    out: str | os.PathLike[str],
    signed: bool | None = None,
    other_model: bool = False,
) -> None:
    """Write a list of coordinates with the numbers and signs that they have in the target.

    Parameters
    ----------
    found : NeuronList
    gauge : SignedPermutation
        From the coordinates that it numbers to those wanted.
    out : path
        A file that does not exist yet, of the same format; the gauge is noted in another beside it.
    signed : bool, optional
        Whether weights turn with their coordinates; needed where the list does not tell.
    other_model : bool
        Whether to go on where the list was carried to other weights than the gauge starts at.

    Raises
    ------
    TypeError, ValueError
        If the gauge rotates, acts on another width or starts at other weights, or a row has no
        number, sign or weight.
    FileExistsError, OSError
        If `out` exists or cannot be written. Nothing is left behind.

    Notes
    -----
    Other columns, rows and their order stay. Rows that were chosen by their largest signed weights
    are not those that would be chosen in the target: choose by magnitude, or carry all scores.
    """
    out = Path(out)
    sidecar = out.with_name(f"{out.name}.{SIDECAR}")
    require_new(out)
    require_new(sidecar)
    if found.width not in (None, gauge.dim):
        raise ValueError(
            f"the gauge acts on {gauge.dim} coordinates, and the stream of {found.path} has "
            f"{found.width}"
        )
    if not other_model:
        require_same_model(found.path, gauge)
    table = _read(found.path)
    if table is None:
        raise ValueError(f"{found.path} lists no coordinates: it has no column {INDEX!r}")
    try:
        moved = carried_columns(table.columns, gauge, signed)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{found.path}: {error}") from None
    with new_files() as place:
        place(out).write_bytes(table.written(moved))
        place(sidecar).write_text(json.dumps(notes_of(gauge), indent=2) + "\n")


@dataclass(frozen=True)
class _Json:
    content: Any
    indent: int | None

    @property
    def format(self) -> str:
        return "JSON records" if isinstance(self.content, list) else "JSON columns"

    @property
    def columns(self) -> dict[str, list[Any]]:
        if isinstance(self.content, dict):
            rows = len(self.content[INDEX])
            lists = {k: v for k, v in self.content.items() if isinstance(v, list)}
            # One site may be told for all.
            return {SITE: [self.content.get(SITE)] * rows} | lists
        names = [*dict.fromkeys(name for record in self.content for name in record)]
        return {name: [record.get(name) for record in self.content] for name in names}

    def written(self, moved: Mapping[str, Sequence[Any]]) -> bytes:
        if isinstance(self.content, dict):
            made: Any = {**self.content, **moved}
        else:
            made = [
                {name: moved[name][row] if name in moved else record[name] for name in record}
                for row, record in enumerate(self.content)
            ]
        return json.dumps(made, indent=self.indent, ensure_ascii=False).encode()


@dataclass(frozen=True)
class _Csv:
    names: list[str]
    rows: list[list[str]]
    encoding: str
    layout: Mapping[str, Any]
    format: str = "CSV"

    @property
    def columns(self) -> dict[str, list[str]]:
        return {name: [row[k] for row in self.rows] for k, name in enumerate(self.names)}

    def written(self, moved: Mapping[str, Sequence[Any]]) -> bytes:
        columns = self.columns | {name: list(values) for name, values in moved.items()}
        text = io.StringIO()
        writer = csv.writer(text, **self.layout)
        writer.writerow(self.names)
        writer.writerows(zip(*(columns[name] for name in self.names), strict=True))
        return text.getvalue().encode(self.encoding)


def _read(path: Path) -> _Json | _Csv | None:
    if not path.is_file() or path.suffix not in (".json", ".csv", ".tsv"):
        return None
    data = path.read_bytes()
    encoding = "utf-8-sig" if data.startswith(codecs.BOM_UTF8) else "utf-8"
    try:
        text = data.decode(encoding)
        return _json(path, text) if path.suffix == ".json" else _csv(path, text, encoding)
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError, csv.Error) as error:
        raise ValueError(f"{path} is damaged ({error})") from None


def _json(path: Path, text: str) -> _Json | None:
    content = json.loads(text)
    if isinstance(content, list):
        if not content or not all(isinstance(record, dict) for record in content):
            return None
        having = [record for record in content if INDEX in record]
        if not having:
            return None
        if len(having) < len(content):
            raise ValueError(f"{path}: {len(content) - len(having)} records have no {INDEX!r}")
    elif isinstance(content, dict) and isinstance(content.get(INDEX), list):
        single = [n for n in (SIGN, WEIGHT) if not isinstance(content.get(n, []), list)]
        if single:
            raise ValueError(f"{path}: {single[0]} is no list, as {INDEX} is")
        lengths = {len(content[name]) for name in _COLUMNS if isinstance(content.get(name), list)}
        if len(lengths) > 1:
            raise ValueError(f"{path}: its columns are of different lengths, {sorted(lengths)}")
    else:
        return None
    return _Json(content, 2 if "\n" in text.strip() else None)


def _csv(path: Path, text: str, encoding: str) -> _Csv | None:
    head = text.partition("\n")[0]
    delimiter = max(",\t;", key=head.count)
    names, *rows = [*csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)] or [[]]
    if INDEX not in names:
        return None
    odd = next((k for k, row in enumerate(rows) if len(row) != len(names)), None)
    if odd is not None or len(set(names)) < len(names):
        where = "two columns have one name" if odd is None else f"row {odd} has {len(rows[odd])}"
        raise ValueError(f"{path} has {len(names)} columns, and {where}")
    ending = "\r\n" if head.endswith("\r") else "\n"
    return _Csv(names, rows, encoding, {"delimiter": delimiter, "lineterminator": ending})
