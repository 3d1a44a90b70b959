"""A copy in memory of tables of the shared Postgres, which a gateway reads for every request.

The event loop asks SQLite in memory and never waits for the network; a thread keeps the copy fresh.

Invariants:
- a committed change is in the copy within a second: Postgres notifies at once, and a notification
  that is lost is made good by asking for the number of changes every `POLL_S`;
- a copy is one snapshot: it never shows half a transaction;
- while Postgres does not answer the last copy stands, for `STALE_S` at most; that is logged when it
  begins and ends. After that reading is an error. (What was revoked meanwhile gets no answer even
  before: no answer leaves that the request log, in the same Postgres, has not taken.)
"""

import logging
import sqlite3
import threading
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import psycopg

from serving.database import DatabaseError, Rows, Schema, add_columns
from serving.postgres import CHANNEL, Connection, Server, make

POLL_S, STALE_S = 0.5, 60.0
# How long a gateway that starts waits for Postgres, and pauses between two tries later.
_START_S, _PAUSE_S = 30.0, 0.2
_log = logging.getLogger("serving.database")


@dataclass(frozen=True)
class _Copy:
    """One snapshot: its tables, and the number of changes that it was read at."""

    tables: sqlite3.Connection
    number: int


class _Found(list[Any]):
    """Rows that were read already."""

    def fetchone(self) -> Any:
        return self.pop(0) if self else None

    def fetchall(self) -> list[Any]:
        return self


class Mirror:
    """The watched tables of one schema, to be read by one thread and closed."""

    def __init__(self, url: str, schema: Schema) -> None:
        self._server, self._schema = Server.of(url), schema
        self._lock, self._closed = threading.Lock(), threading.Event()
        self._version = 0
        link = self._connect(_START_S)
        self._copy = _read(link, schema)
        self._confirmed = time.monotonic()
        name = f"mirror-{schema.name}"
        self._thread = threading.Thread(target=self._run, args=(link,), name=name, daemon=True)
        self._thread.start()

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> Rows:
        """Ask the copy.

        Raises:
            DatabaseError: Postgres has not answered for too long.
        """
        age = time.monotonic() - self._confirmed
        if age > STALE_S:
            raise DatabaseError(
                f"The database {self._server.address} has not answered for {age:.0f} s, and what "
                f"it said before counts for {STALE_S:.0f} s: see that it runs."
            )
        with self._lock:
            return _Found(self._copy.tables.execute(sql, parameters).fetchall())

    def transaction(self) -> AbstractContextManager[None]:
        """Refuse: a copy is only read."""
        raise DatabaseError("This is a copy for reading: open the database itself to change it.")

    def state(self) -> object:
        """Return which copy it is; a stale one is always another, so that `execute` is asked."""
        stale = time.monotonic() - self._confirmed > STALE_S
        return object() if stale else self._version

    def close(self) -> None:
        """End the thread."""
        self._closed.set()
        self._thread.join(2 * POLL_S)

    def _run(self, link: Connection | None) -> None:
        away = False
        while not self._closed.is_set():
            try:
                if link is None:
                    link = self._connect(0.0)
                    self._take(_read(link, self._schema))
                if away:
                    _log.warning("the database %s answers again", self._server.address)
                away = False
                self._follow(link)
            except (psycopg.Error, DatabaseError, sqlite3.Error) as error:
                if not away:
                    told = error if isinstance(error, DatabaseError) else self._server.failed(error)
                    _log.warning("%s Its last state counts for %.0f s more.", told, STALE_S)
                away = True
                if link is not None:
                    link.close()
                link = None
                self._closed.wait(_PAUSE_S)
        if link is not None:
            link.close()

    def _follow(self, link: Connection) -> None:
        """Take in each change, until told to stop or the connection is lost."""
        while not self._closed.is_set():
            for _ in link.notifies(timeout=POLL_S, stop_after=1):
                pass
            if _number(link, self._schema) != self._copy.number:
                self._take(_read(link, self._schema))
            self._confirmed = time.monotonic()

    def _take(self, copy: _Copy) -> None:
        with self._lock:
            old, self._copy = self._copy, copy
            self._version += 1
        self._confirmed = time.monotonic()
        old.tables.close()

    def _connect(self, patience_s: float) -> Connection:
        link = self._server.connect(patience_s)
        try:
            make(link, self._schema)
            # First, so that what changes after the first reading is heard of.
            link.execute(f"LISTEN {CHANNEL}".encode())
        except psycopg.Error as error:
            link.close()
            raise self._server.failed(error) from error
        return link


def _number(link: Connection, schema: Schema) -> int:
    row = link.execute("SELECT number FROM ftdm_changes WHERE name = %s", (schema.name,)).fetchone()
    return int(row[0]) if row else -1


def _read(link: Connection, schema: Schema) -> _Copy:
    """Return a copy of the watched tables, all as they are at one moment."""
    tables = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    try:
        tables.executescript(schema.tables)
        add_columns(tables, schema.added)
        with link.transaction():
            link.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            number = _number(link, schema)
            for table in schema.watched:
                _fill(tables, table, link)
    except BaseException:
        tables.close()
        raise
    return _Copy(tables, number)


def _fill(tables: sqlite3.Connection, table: str, link: Connection) -> None:
    # By name: in Postgres the columns may have come in another order, or be more.
    names = [row[1] for row in tables.execute(f"PRAGMA table_info({table})")]
    columns, marks = ", ".join(names), ", ".join("?" * len(names))
    rows = link.execute(f"SELECT {columns} FROM {table}".encode()).fetchall()  # noqa: S608
    tables.execute("BEGIN")
    tables.executemany(f"INSERT INTO {table} ({columns}) VALUES ({marks})", rows)  # noqa: S608
    tables.execute("COMMIT")
