"""Rows of a JSON lines, CSV or Parquet file, each with its number; the whole file or an error.

Invariants:
* No row is skipped: a row that cannot be read stops the reading, with one sentence that names the
  file, the row and the remedy. (Only blank lines hold no row.)
* A row's number is the line in a JSON lines file, and counts data rows from 1 in CSV and Parquet.
"""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow
from pyarrow import parquet

from golden.json_values import object_without_repeats, refuse_constant

Rows = list[tuple[int, dict[str, Any]]]
_JSONL = {".jsonl", ".ndjson"}


class GoldenError(ValueError):
    """A golden set or question file cannot be used; the message says where and what to do."""


@dataclass(frozen=True)
class Table:
    """The rows of a file with their numbers, and the columns that any of them has."""

    path: Path
    columns: tuple[str, ...]
    rows: Rows

    def place(self, number: int) -> str:
        """Return where a row is, for a message."""
        word = "line" if self.path.suffix.lower() in _JSONL else "row"
        return f"{self.path}, {word} {number}"


def kind_of(value: Any) -> str:
    """Return what a JSON value is, for a message."""
    names = {bool: "true or false", int: "a number", float: "a number", list: "a list"}
    return names.get(type(value), "an object" if isinstance(value, dict) else type(value).__name__)


def load_table(path: Path) -> Table:
    """Read a whole file, chosen by its suffix (.jsonl or .ndjson, .csv, .parquet).

    Raises:
        GoldenError: one sentence that names the file, the row or line, and the remedy.
    """
    suffix = path.suffix.lower()
    readers = {".csv": _read_csv, ".parquet": _read_parquet, **dict.fromkeys(_JSONL, _read_jsonl)}
    if suffix not in readers:
        raise GoldenError(f"{path}: unknown kind of file; use .jsonl, .csv or .parquet")
    if not path.exists():
        raise GoldenError(f"{path}: no such file; check the path in the model's settings")
    if not path.is_file():
        raise GoldenError(f"{path}: not a file; name one .jsonl, .csv or .parquet file")
    table = readers[suffix](path)
    if not table.rows:
        raise GoldenError(f"{path}: the file holds no rows; add some or correct the path")
    return table


def read_rows(path: Path) -> Rows:
    """Read all rows of a file; see ``load_table``."""
    return load_table(path).rows


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


def read_text(path: Path) -> str:
    """Return a file's text.

    Raises:
        GoldenError: if it cannot be read, or is not UTF-8; names the line.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise GoldenError(f"{path}: cannot be read ({error.strerror}); check its rights") from error
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # utf-8-sig counts from behind the byte order mark.
        start = error.start + (3 if content.startswith(b"\xef\xbb\xbf") else 0)
        line = content.count(b"\n", 0, start) + 1
        raise GoldenError(
            f"{path}, line {line}: byte 0x{content[start]:02x} at position {start} is not UTF-8; "
            "save the file as UTF-8"
        ) from error


def _read_jsonl(path: Path) -> Table:
    rows: list[tuple[int, dict[str, Any]]] = []
    columns: dict[str, None] = {}
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(
                line, parse_constant=refuse_constant, object_pairs_hook=object_without_repeats
            )
            json.dumps(row, ensure_ascii=False).encode()
        except (ValueError, RecursionError) as error:
            raise GoldenError(
                f"{path}, line {number}: not valid JSON ({_reason(error)}); "
                "correct or remove the line"
            ) from error
        if not isinstance(row, dict):
            raise GoldenError(
                f"{path}, line {number}: {kind_of(row)}, not a JSON object; write one object a line"
            )
        columns.update(dict.fromkeys(row))
        rows.append((number, row))
    return Table(path, tuple(columns), rows)


def _reason(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at column {error.colno}"
    if isinstance(error, UnicodeEncodeError):
        return "a lone surrogate, which is no character"
    if isinstance(error, RecursionError):
        return "nested too deeply"
    return str(error)


def _read_csv(path: Path) -> Table:
    reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    rows: list[tuple[int, dict[str, Any]]] = []
    try:
        header = next(reader, [])
        if len(set(header)) != len(header):
            twice = next(name for name in header if header.count(name) > 1)
            raise GoldenError(f"{path}: the column {twice!r} occurs twice; rename one of them")
        for number, cells in enumerate((row for row in reader if row), start=1):
            if len(cells) != len(header):
                raise GoldenError(
                    f"{path}, row {number} (line {reader.line_num}): {len(cells)} cells for "
                    f"{len(header)} columns; put quotes around cells that contain commas"
                )
            rows.append((number, dict(zip(header, cells, strict=True))))
    except csv.Error as error:
        raise GoldenError(
            f"{path}, line {reader.line_num}: not valid CSV ({error}); correct the line"
        ) from error
    return Table(path, tuple(header), rows)


def _read_parquet(path: Path) -> Table:
    try:
        content = parquet.read_table(path)
        rows = content.to_pylist()
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        reason = str(error).split("\n", maxsplit=1)[0]
        raise GoldenError(
            f"{path}: not a readable Parquet file ({reason}); write it again"
        ) from error
    return Table(path, tuple(content.column_names), list(enumerate(rows, start=1)))
