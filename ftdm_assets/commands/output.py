"""How commands speak: a rich terminal where there is one, plain lines elsewhere, JSON when asked.

Exit codes: 0 done or true, 1 a verdict of no, 2 a usage or configuration error, 3 a component
could not be reached.
"""

import json
import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

DONE, NO, USAGE, UNREACHABLE = 0, 1, 2, 3


def console(*, error: bool = False) -> Console:
    """Return a console; piped output is plain and is not wrapped."""
    stream = sys.stderr if error else sys.stdout
    return Console(file=stream, highlight=False, soft_wrap=True)


def print_json(value: Any) -> None:
    """Write one JSON document to standard output."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n")


def fail(message: str) -> None:
    """Write an error to standard error."""
    console(error=True).print(f"[red]error:[/red] {_escape(message)}")


def say(message: str) -> None:
    """Write a line to standard output."""
    console().print(_escape(message))


def note(message: str) -> None:
    """Write a line to standard error: progress beside a document on standard output."""
    console(error=True).print(_escape(message))


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Write a table: drawn in a terminal, columns with two spaces between elsewhere."""
    out = console()
    if out.is_terminal:
        drawn = Table(*headings, box=None, pad_edge=False, header_style="bold")
        for row in rows:
            drawn.add_row(*(_escape(cell) for cell in row))
        out.print(drawn)
        return
    cells = [list(headings), *[list(row) for row in rows]]
    widths = [max(len(row[column]) for row in cells) for column in range(len(headings))]
    for row in cells:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        sys.stdout.write(line.rstrip() + "\n")


def _escape(text: str) -> str:
    return text.replace("[", "\\[")
