"""The databases of serving: SQLite in the home, or one Postgres that several machines share.

`FTDM_DATABASE_URL=postgresql://…` names the Postgres; without it every home has its own SQLite
files. A schema is written once, in words that both understand (`serving.postgres` translates types
and triggers), so that a new column is one line for both.

Invariants:
- what was committed is on the disk; a process that is killed leaves the state before or the state
  after a transaction, never between (SQLite: WAL and synchronous FULL);
- of the transactions over one schema one runs at a time, in whichever process or machine;
- what a table refuses (`Refusal`) the database itself refuses, whoever asks it;
- nothing of Postgres is imported where SQLite is used: a rollback stays fast.
"""

import asyncio
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, Protocol, TypeVar

from serving.home import DATABASE_VARIABLE, Home

T = TypeVar("T")


class DatabaseError(Exception):
    """The shared database cannot be asked; the message names its address, never its password."""


@dataclass(frozen=True)
class Refusal:
    """A change that a table refuses, by a trigger.

    A database of before it came is given it when it is opened, told by its name: one that is to
    refuse more than it did needs another name. The old one stays beside it there.

    Attributes:
        name: The trigger's.
        table: Whose rows it guards.
        event: What it refuses.
        message: What whoever tries is told.
        when: A condition over OLD and NEW, in words of both databases; blank for always.
    """

    name: str
    table: str
    event: Literal["UPDATE", "DELETE"]
    message: str
    when: str = ""


@dataclass(frozen=True)
class Column:
    """A column that came later: a database of before it is given it when it is opened."""

    table: str
    name: str
    definition: str


@dataclass(frozen=True)
class Schema:
    """Tables that are made together, on first use.

    Attributes:
        name: What its transactions lock and its watchers watch.
        table: Is there if all are there.
        tables: Statements that make them, in SQLite's words.
        refusals: What they refuse.
        added: Columns that a database of an older release lacks.
        watched: Those that a gateway keeps a copy of (`serving.mirror`).
    """

    name: str
    table: str
    tables: str
    refusals: tuple[Refusal, ...] = ()
    added: tuple[Column, ...] = ()
    watched: tuple[str, ...] = ()


class Rows(Protocol):
    """What a query has found."""

    def fetchone(self) -> Any:
        """Return the next row, or None."""

    def fetchall(self) -> list[Any]:
        """Return all that are left."""


class Database(Protocol):
    """A connection to the tables of one schema."""

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> Rows:
        """Run one statement with `?` where its parameters go."""

    def transaction(self) -> AbstractContextManager[None]:
        """Do several things or none, and nobody else anything meanwhile."""

    def state(self) -> object | None:
        """Return what changes with every change of the tables; None: cannot say, read anew."""

    def close(self) -> None:
        """Close the connection."""


def shared_url(home: Path) -> str:
    """Return the address of the Postgres that a home shares with others; blank: SQLite."""
    url = os.environ.get(DATABASE_VARIABLE, "").strip()
    return "" if Home.at(home).own_database.exists() else url


def open_database(home: Path, schema: Schema, *, watching: bool = False) -> Database:
    """Open the tables of a schema where this home has them.

    Args:
        home: Whose.
        schema: Made if it is not there.
        watching: Only to read, often, and without waiting for a network (a gateway): of a shared
            database a copy is kept in memory.

    Raises:
        DatabaseError: The shared database cannot be reached.
    """
    url = shared_url(home)
    if not url:
        return (Watched if watching else SqliteDatabase)(Home.at(home).database, schema)
    if watching:
        from serving.mirror import Mirror

        return Mirror(url, schema)
    from serving.postgres import PostgresDatabase

    return PostgresDatabase(url, schema)


def exists(home: Path) -> bool:
    """Say whether a home has a database already."""
    return bool(shared_url(home)) or Home.at(home).database.is_file()


class SqliteDatabase:
    """Tables in a file of the home."""

    def __init__(self, path: Path, schema: Schema) -> None:
        self.connection = connect(path, schema)

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> Rows:
        """Run one statement."""
        return self.connection.execute(sql, parameters)

    def transaction(self) -> AbstractContextManager[None]:
        """Do several things or none."""
        return transaction(self.connection)

    def state(self) -> object:
        """Return a mark of all writes, those of others and our own."""
        return writes_of_others(self.connection), self.connection.total_changes

    def close(self) -> None:
        """Close the file."""
        self.connection.close()


class Watched(SqliteDatabase):
    """Tables in a file of the home, whose mark of all writes is asked for on every request.

    Within one turn of the event loop it is asked once: nothing that has come later than that is
    answered in this turn. Outside of a loop it is asked each time.
    """

    def __init__(self, path: Path, schema: Schema) -> None:
        super().__init__(path, schema)
        self._state: object | None = None

    def state(self) -> object:
        """Return a mark of all writes, as it was at some moment of this turn of the loop."""
        if self._state is None:
            state = super().state()
            try:
                asyncio.get_running_loop().call_soon(self._forget)
            except RuntimeError:
                return state
            self._state = state
        return self._state

    def _forget(self) -> None:
        self._state = None


class Remembered(Generic[T]):
    """What was read of a database, by name, for as long as nobody has written to it."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._state: object | None = None
        self._known: dict[str, T] = {}

    def known(self) -> dict[str, T]:
        """Return what still counts, for the caller to add to.

        The database says each time whether anybody has written since; where it cannot say, nothing
        counts.
        """
        if (now := self._database.state()) is None or now != self._state:
            self._known, self._state = {}, now
        return self._known


def connect(path: Path, schema: Schema) -> sqlite3.Connection:
    """Open a SQLite file; what is missing of the schema is made first, in one transaction."""
    path.parent.mkdir(parents=True, exist_ok=True)
    db = sqlite3.connect(path, timeout=10.0, isolation_level=None)
    try:
        db.execute("PRAGMA busy_timeout = 10000")
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA foreign_keys = ON")
        if not db.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (schema.table,)).fetchone():
            made = "".join([schema.tables, *map(trigger, schema.refusals)])
            db.executescript(f"BEGIN IMMEDIATE; {made} COMMIT;")
        add_columns(db, schema.added)
        _add_triggers(db, schema.refusals)
    except BaseException:
        db.close()
        raise
    return db


def writes_of_others(db: sqlite3.Connection) -> int:
    """Return what changes with every write to the file by another connection."""
    return int(db.execute("PRAGMA data_version").fetchone()[0])


@contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    """Do several things or none."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        # After an error such as a full disk SQLite may have rolled back by itself.
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def trigger(one: Refusal) -> str:
    """Return the statement with which SQLite refuses a change."""
    when = f"WHEN {one.when} " if one.when else ""
    return (
        f"CREATE TRIGGER IF NOT EXISTS {one.name} BEFORE {one.event} ON {one.table} {when}"
        f"BEGIN SELECT RAISE(ABORT, '{one.message}'); END;\n"
    )


def add_columns(db: sqlite3.Connection, columns: Sequence[Column]) -> None:
    """Add those of the columns that are missing."""
    if all(_has(db, one) for one in columns):
        return
    with transaction(db):
        for one in columns:
            if not _has(db, one):  # Another process may have been first.
                db.execute(f"ALTER TABLE {one.table} ADD COLUMN {one.name} {one.definition}")


def _add_triggers(db: sqlite3.Connection, refusals: Sequence[Refusal]) -> None:
    known = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type='trigger'")}
    if known.issuperset(one.name for one in refusals):
        return
    with transaction(db):
        for one in refusals:
            db.execute(trigger(one))


def _has(db: sqlite3.Connection, column: Column) -> bool:
    return any(row[1] == column.name for row in db.execute(f"PRAGMA table_info({column.table})"))
