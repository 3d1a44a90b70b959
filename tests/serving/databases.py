"""Both databases of serving for one test: `@both`, and SQL that the stores do not know of."""

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from serving.home import DATABASE_VARIABLE

# Runs a test twice: with SQLite in the home, and with a schema of its own in a real Postgres.
both = pytest.mark.usefixtures("database")
REFUSED = (sqlite3.IntegrityError, psycopg.errors.RestrictViolation)


def is_shared() -> bool:
    return bool(os.environ.get(DATABASE_VARIABLE))


@contextmanager
def raw(path: Path) -> Iterator[Callable[[str], object]]:
    """Yield what runs statements as somebody would who may write to the database."""
    if is_shared():
        with psycopg.connect(os.environ[DATABASE_VARIABLE], autocommit=True) as link:
            yield lambda sql: link.execute(sql.encode())
        return
    database = sqlite3.connect(path, isolation_level=None)
    try:
        yield database.execute
    finally:
        database.close()


def emptied() -> None:
    """Drop everything in the shared schema."""
    if is_shared():
        with psycopg.connect(os.environ[DATABASE_VARIABLE], autocommit=True) as link:
            (name,) = link.execute("SELECT current_schema()").fetchone() or ("",)
            link.execute(f"DROP SCHEMA {name} CASCADE; CREATE SCHEMA {name}".encode())
