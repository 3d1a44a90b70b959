"""Rows of a JSON lines, CSV or Parquet file, each with its number; the whole file or an error.

Invariants:
* No row is skipped: a row that cannot be read stops the reading, with one sentence that names it.
* A row's number is the line in a JSON lines file, and counts data rows from 1 in CSV and Parquet.
"""

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import pyarrow
from pyarrow import parquet

Rows = list[tuple[int, dict[str, Any]]]


class GoldenError(ValueError):
    """A golden set or question file cannot be used; the message says where and what to do."""


def read_rows(path: Path) -> Rows:
    """Read all rows of a file, chosen by its suffix (.jsonl, .csv, .parquet).

    Raises:
        GoldenError: naming the file, the row or line, and the remedy.
    """
    readers = {".jsonl": _jsonl, ".csv": _csv, ".parquet": _parquet}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise GoldenError(f"{path}: unknown kind of file; use .jsonl, .csv or .parquet")
    if not path.is_file():
        raise GoldenError(f"{path}: no such file; check the path in the model's settings")
    rows = reader(path)
    if not rows:
        raise GoldenError(f"{path}: the file holds no rows; add at least one")
    return rows


def field(row: dict[str, Any], names: Sequence[str]) -> Any:
    """Return the first of these columns that a row has (case-insensitively), else None."""
    lowered = {str(name).strip().lower(): value for name, value in row.items()}
    return next((lowered[name] for name in names if lowered.get(name) is not None), None)


def required_text(path: Path, number: int, row: dict[str, Any], names: Sequence[str]) -> str:
    """Return a text that must not be blank.

    Raises:
        GoldenError: naming the row, the columns that it has and those that would do.
    """
    value = field(row, names)
    if value is None:
        raise GoldenError(
            f"{path}, row {number}: none of the columns {', '.join(names)}; it has "
            f"{', '.join(map(str, row))}; rename one of them"
        )
    if not isinstance(value, str) or not value.strip():
        raise GoldenError(f"{path}, row {number}: {names[0]} must be a text that is not blank")
    return value


def _text(path: Path) -> str:
    content = path.read_bytes()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise GoldenError(
            f"{path}, line {line}: byte {error.start} is not UTF-8; save the file as UTF-8"
        ) from error


def _jsonl(path: Path) -> Rows:
    rows: Rows = []
    for number, line in enumerate(_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line, parse_constant=_refuse_constant)
            line.encode()
            json.dumps(row, ensure_ascii=False).encode()
        except (ValueError, RecursionError) as error:
            raise GoldenError(
                f"{path}, line {number}: not valid JSON ({error}); correct or remove the line"
            ) from error
        if not isinstance(row, dict):
            raise GoldenError(f"{path}, line {number}: not a JSON object; write one object a line")
        rows.append((number, row))
    return rows


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _csv(path: Path) -> Rows:
    reader = csv.reader(io.StringIO(_text(path), newline=""), strict=True)
    try:
        header = next(reader, [])
        if len(set(header)) != len(header):
            raise GoldenError(f"{path}: a column name occurs twice; rename one of them")
        rows: Rows = []
        for number, cells in enumerate((row for row in reader if row), start=1):
            if len(cells) != len(header):
                raise GoldenError(
                    f"{path}, row {number} (line {reader.line_num}): {len(cells)} cells for "
                    f"{len(header)} columns; quote the cells that contain commas"
                )
            rows.append((number, dict(zip(header, cells, strict=True))))
    except csv.Error as error:
        raise GoldenError(
            f"{path}, line {reader.line_num}: not valid CSV ({error}); correct the line"
        ) from error
    return rows


def _parquet(path: Path) -> Rows:
    try:
        rows = parquet.read_table(path).to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise GoldenError(f"{path}: not a Parquet file ({error}); write it again") from error
    return list(enumerate(rows, start=1))
