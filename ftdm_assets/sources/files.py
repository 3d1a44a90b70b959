"""Label files on disk: JSON lines, CSV and Parquet become the raw frame, whole or not at all.

Invariants:
* No row is skipped and nothing is guessed about a value: a row that cannot be read stops the
  reading with one sentence that names the file, the row and the remedy. (Only blank lines of a
  JSON lines file hold no row.)
* A row's number is the line in a JSON lines file, and counts data rows from 1 in CSV and Parquet.
* A missing output is not an error here but a blank one: the contract reports it with all others.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from ftdm_assets.label_settings import ColumnSettings
from ftdm_assets.sources.tables import SourceError, load_table
from golden.tables import Table, kind_of

__all__ = [
    "ColumnNames",
    "RecordDefaults",
    "SourceError",
    "find_columns",
    "read_named_columns",
    "read_records",
    "read_rows",
]

_CANDIDATES: dict[str, str] = {
    "input": "input text utterance ticket message body content question prompt query sentence "
    "description instruction",
    "output": "output label category intent completion response answer target class tag",
    "record_id": "record_id id example_id ticket_id uuid",
    "annotator": "annotator labeller labeler annotated_by labelled_by labeled_by rater",
    "annotated_at": "annotated_at labelled_at labeled_at created_at updated_at timestamp",
    "source": "source origin",
    "data_class": "data_class sensitivity",
    "actor": "actor updated_by",
    "role": "annotation_role",
}
_REQUIRED = ("input", "output")


@dataclass(frozen=True)
class ColumnNames:
    """Which column of a file is which field; None where the file has none."""

    input: str
    output: str
    record_id: str | None = None
    annotator: str | None = None
    annotated_at: str | None = None
    source: str | None = None
    data_class: str | None = None
    actor: str | None = None
    role: str | None = None


@dataclass(frozen=True)
class RecordDefaults:
    """What a record gets where the file says nothing.

    The actor is the annotator, the role is ``label``. A blank
    ``annotated_at`` means that the time is not known; ``source`` defaults to the file name.
    """

    annotator: str = "unknown"
    annotated_at: str = ""
    source: str = ""
    data_class: str = "internal"


def find_columns(
    path: Path, *, input_column: str | None = None, output_column: str | None = None
) -> ColumnNames:
    """Find which column is which, by the usual names, case-insensitively.

    Raises:
        SourceError: naming the columns that the file has and the flags that choose one.
    """
    return _find_columns(load_table(Path(path)), input_column, output_column)


def read_records(
    path: Path,
    columns: ColumnNames | None = None,
    defaults: RecordDefaults | None = None,
) -> pd.DataFrame:
    """Read a file into the raw frame: one row an annotation, all texts str, ``row`` int.

    Raises:
        SourceError: one sentence that names the file, the row or line, and the remedy.
    """
    table = load_table(Path(path))
    columns = columns or _find_columns(table, None, None)
    _require_columns(table, columns)
    return _frame(table, columns, defaults or RecordDefaults())


def _frame(table: Table, columns: ColumnNames, defaults: RecordDefaults) -> pd.DataFrame:
    records = [_record(table, number, row, columns, defaults) for number, row in table.rows]
    _refuse_duplicate_ids(table, records)
    return pd.DataFrame.from_records(records)


def read_named_columns(path: Path, named: ColumnSettings, defaults: RecordDefaults) -> pd.DataFrame:
    """Read a table's rows as annotations; columns that the settings do not name are found.

    Raises:
        SourceError: one sentence that names file, row and remedy.
    """
    columns = find_columns(path, input_column=named.input, output_column=named.output)
    chosen = named.model_dump(include={"record_id", "annotator", "annotated_at"})
    columns = replace(columns, **{name: value for name, value in chosen.items() if value})
    return read_records(path, columns, defaults)


def read_rows(
    rows: Sequence[dict[str, Any]], where: str, defaults: RecordDefaults | None = None
) -> pd.DataFrame:
    """Return rows that a platform gave, named as in ``ColumnNames``, as the raw frame.

    Raises:
        SourceError: one sentence that names ``where``, the row and the remedy.
    """
    found = tuple(dict.fromkeys(name for row in rows for name in row))
    table = Table(Path(where), found, list(enumerate(rows, start=1)))
    columns = ColumnNames(**{name: name for name in _CANDIDATES if name in found})
    return _frame(table, columns, defaults or RecordDefaults())


def _record(
    table: Table,
    number: int,
    row: dict[str, Any],
    columns: ColumnNames,
    defaults: RecordDefaults,
) -> dict[str, Any]:
    if columns.input not in row:
        raise SourceError(
            f"{table.place(number)}: no field {columns.input!r}; add it or remove the line"
        )
    value = row[columns.input]
    if value is not None and not isinstance(value, str):
        raise SourceError(
            f"{table.place(number)}: {columns.input!r} is {kind_of(value)}, not a text; "
            "write it as a string, or choose another column with --input-column"
        )

    def optional(name: str | None, default: str) -> str:
        text = _as_text(table, number, name, row.get(name)) if name else ""
        return text if text.strip() else default

    annotator = optional(columns.annotator, defaults.annotator)
    return {
        "record_id": optional(columns.record_id, f"{table.path.stem}-{number:06d}"),
        "input": value or "",
        "output": _as_text(table, number, columns.output, row.get(columns.output)),
        "annotator": annotator,
        "annotated_at": optional(columns.annotated_at, defaults.annotated_at),
        "source": optional(columns.source, defaults.source or table.path.name),
        "data_class": optional(columns.data_class, defaults.data_class),
        "actor": optional(columns.actor, annotator),
        "role": optional(columns.role, "label"),
        "row": number,
    }


def _as_text(table: Table, number: int, column: str, value: Any) -> str:
    """Return a value as text: structured outputs as compact JSON with sorted keys."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, date | datetime):
        return value.isoformat()
    if isinstance(value, dict | list):
        try:
            return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        except TypeError:
            pass
    raise SourceError(
        f"{table.place(number)}: {column!r} is {kind_of(value)}, not a text; write it as a string"
    )


def input_column(table: Table, given: str | None) -> str:
    """Return the column that holds the texts: the one that is given, or one that looks like it.

    Raises:
        SourceError: if there is none.
    """
    found = _match(table, "input", given)
    if found is None:
        raise _no_column(table, "input", given)
    return found


def _find_columns(table: Table, input_column: str | None, output_column: str | None) -> ColumnNames:
    chosen = {"input": input_column, "output": output_column}
    found: dict[str, str] = {}
    for name in _CANDIDATES:
        match = _match(table, name, chosen.get(name))
        if match is not None and match not in found.values():
            found[name] = match
        elif name in _REQUIRED:
            raise _no_column(table, name, chosen[name])
    return ColumnNames(**found)


def _match(table: Table, name: str, given: str | None) -> str | None:
    lowered: dict[str, str] = {}
    for column in table.columns:
        lowered.setdefault(column.strip().lower(), column)
    wanted = [given.strip().lower()] if given else _CANDIDATES[name].split()
    return next((lowered[word] for word in wanted if word in lowered), None)


def _require_columns(table: Table, columns: ColumnNames) -> None:
    for name in _CANDIDATES:
        column = getattr(columns, name)
        if column is not None and column not in table.columns:
            raise _no_column(table, name, column)


def _no_column(table: Table, name: str, given: str | None) -> SourceError:
    what = f"no column {given!r}" if given else f"no column that looks like the {name}"
    remedy = (
        f"choose one with --{name}-column"
        if name in _REQUIRED
        else f"correct the {name} column in the settings"
    )
    return SourceError(f"{table.path}: {what}; it has {', '.join(table.columns)}: {remedy}")


def _refuse_duplicate_ids(table: Table, records: Sequence[dict[str, Any]]) -> None:
    seen: dict[str, int] = {}
    for record in records:
        first = seen.setdefault(record["record_id"], record["row"])
        if first != record["row"]:
            raise SourceError(
                f"{table.place(record['row'])}: record_id {record['record_id']!r} was given to "
                f"{first} already; give every annotation an id of its own"
            )
