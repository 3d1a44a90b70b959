"""The request log: who asked which model for what and when, one chained entry for each answer.

Invariants:
- an entry is a line of a hash chain (`ftdm_assets.provenance.chain_links`), in a table that only
  grows (triggers refuse UPDATE and DELETE): no row can be changed, dropped, swapped or put in
  without being found. Old rows go by `serving.request_log_prune` only, which says so in the log;
- how many rows there are, and the digest of the last, stands in a head file kept apart, written
  after them: rows cut off at the end are found as well. A log that does not fit its head, or whose
  file was put away while it is written, takes no entry;
- what `append` has returned is on the disk; rows that a crash left behind the head are taken in if
  they follow. SQLite undoes a transaction that a crash has torn: it was never answered for.

Where several gateways share a database the log lies there (`serving.shared_request_log`).

SQLite and not the chain's file of lines: it is hardly slower (where both were measured, a commit of
one row took 0.14 ms, a line with `fsync` 0.10 ms; `HashChain.append`, which syncs its head as well,
three times as long), finds a time without reading all, undoes half a batch when the disk is full,
and is the same table in Postgres.
"""

import json
import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union

from ftdm_assets.provenance.chain_links import Head, following, link
from serving.database import (
    Refusal,
    Schema,
    connect,
    shared_url,
    transaction,
    trigger,
    writes_of_others,
)
from serving.head_file import HeadFile
from serving.home import Home

if TYPE_CHECKING:
    from serving.shared_request_log import SharedRequestLog

Log = Union["RequestLog", "SharedRequestLog"]

TABLES = """
CREATE TABLE IF NOT EXISTS requests (
    number INTEGER PRIMARY KEY, at TEXT NOT NULL, line BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS requests_by_time ON requests (at);
"""
GROWS = "the request log is append-only"
NEVER_DELETED = Refusal("requests_are_never_deleted", "requests", "DELETE", GROWS)
REFUSALS = (
    Refusal("requests_are_never_changed", "requests", "UPDATE", GROWS),
    NEVER_DELETED,
)
_SCHEMA = Schema("requests", "requests", TABLES, REFUSALS)
_FIRST = "SELECT min(number) FROM requests WHERE at >= ?"
_ROWS = "SELECT number, at, line FROM requests WHERE number >= ? ORDER BY number LIMIT ?"
_PAGE = 1000


class RequestLogError(Exception):
    """No entry can be written, or the log was tampered with; the message says what to do."""


@dataclass(frozen=True)
class Row:
    """One row as it lies in the table."""

    number: int
    at: str
    line: bytes

    @property
    def digest(self) -> str:
        """The digest that the row claims to have; nothing if it is no entry."""
        try:
            return str(json.loads(self.line)["digest"])
        except (ValueError, TypeError, KeyError, RecursionError):
            return ""


class RequestLog:
    """The log of one home. One thread writes; the file is opened with the first entry."""

    def __init__(self, home: Path) -> None:
        self.path = Home.at(home).request_log
        self.head_path = self.path.with_suffix(".head")
        self._file = HeadFile(self.head_path)
        self._db: sqlite3.Connection | None = None
        self._inode = 0
        self._head = Head()
        # SQLite's mark of what others have written, as it was when `_head` was the last row.
        self._others: int | None = None

    def close(self) -> None:
        """Close the file; the next entry opens it again."""
        if self._db is not None:
            self._db.close()
            self._db, self._others = None, None

    def append(self, contents: Sequence[Mapping[str, Any]]) -> Head:
        """Append entries in one transaction, and return the head once they are on the disk.

        Args:
            contents: What each entry holds; `at` is its time.

        Raises:
            RequestLogError: They cannot be written, or the log does not fit its head.
        """
        try:
            db = self._opened()
            with transaction(db):
                head, rows = self._settled(db), []
                for content in contents:
                    head, line = following(head, content)
                    rows.append((head.count, content["at"], line))
                db.executemany("INSERT INTO requests VALUES (?, ?, ?)", rows)
            self._head = head
            self._file.write(head)
        except (sqlite3.Error, OSError) as error:
            self.close()
            raise RequestLogError(
                f"{self.path}: no entry can be written ({error}); see that the disk has room and "
                "that the folder can be written"
            ) from error
        except RequestLogError:
            self.close()
            raise
        return head

    def rows(self, since: str = "") -> Iterator[Row]:
        """Yield the rows in order, those of requests from a time on; a page at a time.

        Args:
            since: ISO 8601 in UTC, or the beginning of it.
        """
        if not self.path.exists():
            return
        db = connect(self.path, _SCHEMA)
        try:
            yield from pages(lambda sql, given: db.execute(sql, given).fetchall(), since)
        finally:
            db.close()

    def heads(self) -> list[tuple[str, Head]]:
        """Return the head that was kept, by where; nothing if there is none.

        Raises:
            RequestLogError: It is damaged.
        """
        kept = self._kept()
        return [(str(self.head_path), kept)] if kept else []

    def remove_until(self, last: int) -> None:
        """Delete the rows up to one; `serving.request_log_prune` says when that may be done."""
        with closing(connect(self.path, _SCHEMA)) as db, transaction(db):
            # The rule is lifted and laid down again in one transaction.
            db.execute(f"DROP TRIGGER {NEVER_DELETED.name}")
            db.execute("DELETE FROM requests WHERE number <= ?", (last,))
            db.execute(trigger(NEVER_DELETED))

    def _kept(self) -> Head | None:
        try:
            return self._file.read()
        except ValueError:
            raise RequestLogError(f"{self.head_path}: this is no head of a log; {REMEDY}") from None

    def _opened(self) -> sqlite3.Connection:
        # `os.stat` takes half of `Path.stat`'s time, and every request waits for it.
        if self._db is not None and os.stat(self.path).st_ino != self._inode:  # noqa: PTH116
            raise RequestLogError(f"{self.path}: another file lies in its place; {REMEDY}")
        if self._db is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # For its owner only: it may hold inputs. SQLite gives its other files the same rights.
            self.path.touch(mode=0o600)
            self._db = connect(self.path, _SCHEMA)
            self._inode = self.path.stat().st_ino
            self._head = self._first_head(self._db)
        return self._db

    def _first_head(self, db: sqlite3.Connection) -> Head:
        kept = self._kept()
        if kept is None:
            if db.execute("SELECT 1 FROM requests LIMIT 1").fetchone():
                raise RequestLogError(
                    f"{self.path}: its head {self.head_path} is missing; {REMEDY}"
                )
            # The head comes first, so that a log without one is never the work of a crash.
            self._file.write(Head())
        return kept or Head()

    def _settled(self, db: sqlite3.Connection) -> Head:
        """Return the head that the next entry follows; take in what others have written since."""
        if (others := writes_of_others(db)) == self._others:
            return self._head
        head, checked = self._head, self._head.count == 0
        for row in (Row(*one) for one in db.execute(_ROWS, (head.count, -1))):
            if row.number == head.count and not checked:
                checked = row.digest == head.digest
                continue
            digest, problem = link(row.line, head.count + 1, head.digest)
            if problem or digest is None:
                raise RequestLogError(f"{self.path}, row {row.number}: {problem}; {REMEDY}")
            head = Head(head.count + 1, digest)
        if not checked:
            raise RequestLogError(f"{self.path}: its last row is not what its head says; {REMEDY}")
        self._others = others
        return head


def request_log(home: Path) -> Log:
    """Return the log of a home, wherever it lies.

    Raises:
        DatabaseError: The address of the shared database is none.
    """
    if not (url := shared_url(home)):
        return RequestLog(home)
    from serving.shared_request_log import SharedRequestLog

    return SharedRequestLog(home, url)


def pages(ask: Callable[[str, Sequence[Any]], list[Any]], since: str) -> Iterator[Row]:
    """Yield the rows of requests from a time on, as a database gives them, a page at a time."""
    ((first,),) = ask(_FIRST, (since,))
    while first is not None and (page := ask(_ROWS, (first, _PAGE))):
        yield from (row for row in (Row(*one) for one in page) if row.at >= since)
        first = page[-1][0] + 1


REMEDY = (
    "somebody changed the log. `ftdm verify --request-log` says where; keep its files as evidence "
    "by renaming them, and a new log begins"
)
