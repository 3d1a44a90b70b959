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

SQLite and not the chain's file of lines: it is hardly slower (where both were measured, a commit of
one row took 0.14 ms, a line with `fsync` 0.10 ms; `HashChain.append`, which syncs its head as well,
three times as long), finds a time without reading all, undoes half a batch when the disk is full,
and becomes a table of Postgres as it is.
"""

import json
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftdm_assets.provenance.chain_links import Head, following, link
from serving.database import connect, transaction
from serving.home import Home

_SCHEMA = """
CREATE TABLE IF NOT EXISTS requests (
    number INTEGER PRIMARY KEY, at TEXT NOT NULL, line BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS requests_by_time ON requests (at);
CREATE TRIGGER IF NOT EXISTS requests_are_never_changed BEFORE UPDATE ON requests
    BEGIN SELECT RAISE(ABORT, 'the request log is append-only'); END;
CREATE TRIGGER IF NOT EXISTS requests_are_never_deleted BEFORE DELETE ON requests
    BEGIN SELECT RAISE(ABORT, 'the request log is append-only'); END;
"""
_ROWS = "SELECT number, at, line FROM requests WHERE number >= ? ORDER BY number LIMIT ?"
_PAGE = 1000
_HEAD_BYTES = 128


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
        self._db: sqlite3.Connection | None = None
        self._inode = 0
        self._head = Head()

    def close(self) -> None:
        """Close the file; the next entry opens it again."""
        if self._db is not None:
            self._db.close()
            self._db = None

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
            self._keep(head)
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
        db = connect(self.path, "requests", _SCHEMA)
        try:
            found = db.execute("SELECT min(number) FROM requests WHERE at >= ?", (since,))
            (first,) = found.fetchone()
            while first is not None and (page := db.execute(_ROWS, (first, _PAGE)).fetchall()):
                yield from (row for row in (Row(*one) for one in page) if row.at >= since)
                first = page[-1][0] + 1
        finally:
            db.close()

    def kept_head(self) -> Head | None:
        """Return the head that the head file keeps; None if there is no such file.

        Raises:
            RequestLogError: It is damaged.
        """
        if not self.head_path.exists():
            return None
        try:
            return Head.parse(self.head_path.read_text(encoding="ascii"))
        except ValueError:
            raise RequestLogError(f"{self.head_path}: this is no head of a log; {REMEDY}") from None

    def _opened(self) -> sqlite3.Connection:
        if self._db is not None and self.path.stat().st_ino != self._inode:
            raise RequestLogError(f"{self.path}: another file lies in its place; {REMEDY}")
        if self._db is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # For its owner only: it may hold inputs. SQLite gives its other files the same rights.
            self.path.touch(mode=0o600)
            self._db = connect(self.path, "requests", _SCHEMA)
            self._inode = self.path.stat().st_ino
            self._head = self._first_head(self._db)
        return self._db

    def _first_head(self, db: sqlite3.Connection) -> Head:
        kept = self.kept_head()
        if kept is None:
            if db.execute("SELECT 1 FROM requests LIMIT 1").fetchone():
                raise RequestLogError(
                    f"{self.path}: its head {self.head_path} is missing; {REMEDY}"
                )
            # The head comes first, so that a log without one is never the work of a crash.
            self._keep(Head())
        return kept or Head()

    def _settled(self, db: sqlite3.Connection) -> Head:
        """Return the head that the next entry follows; take in what others have written since."""
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
        return head

    def _keep(self, head: Head) -> None:
        # In place and without waiting for the disk: a head that lost its last change in a power cut
        # stands before the end of the log, whose further rows are then taken in.
        descriptor = os.open(self.head_path, os.O_WRONLY | os.O_CREAT, 0o640)
        try:
            os.pwrite(descriptor, f"{head}\n".rjust(_HEAD_BYTES).encode(), 0)
        finally:
            os.close(descriptor)


REMEDY = (
    "somebody changed the log. `ftdm verify --request-log` says where; keep its files as evidence "
    "by renaming them, and a new log begins"
)
