"""Files of labels, read as the golden set's are; what is wrong with one is the label source's."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from golden import tables
from golden.tables import GoldenError, Table

T = TypeVar("T")


class SourceError(ValueError):
    """A label source cannot be read; the message says where and what to do."""


def load_table(path: Path) -> Table:
    """Read a whole file, chosen by its suffix.

    Raises:
        SourceError: one sentence that names the file, the row or line, and the remedy.
    """
    return _read(tables.load_table, path)


def read_text(path: Path) -> str:
    """Return a file's text.

    Raises:
        SourceError: if it cannot be read, or is not UTF-8; names the line.
    """
    return _read(tables.read_text, path)


def _read(read: Callable[[Path], T], path: Path) -> T:
    try:
        return read(path)
    except GoldenError as error:
        raise SourceError(str(error)) from error
