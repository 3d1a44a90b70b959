"""The request log of several gateways, in Postgres: one chain over all of them.

Invariants:
- as in `serving.request_log`: each row is a link of the chain, the table only grows (triggers
  refuse UPDATE, DELETE and TRUNCATE), and what `append` has returned is committed;
- the head is a row that every append locks first, so that one gateway appends at a time; it is
  written in the transaction of the rows and only ever grows;
- each machine also keeps, in a file of its own, the head of what it has written last: rows and head
  that were rewritten together inside Postgres no longer fit it. Before it appends, a machine
  compares the last row with the head, and the row of its own head with its file, if it was not
  pruned; the rows between, and who pruned, are for `ftdm verify --request-log`. A machine without
  that file takes the head as it is;
- a lost connection is made again and the append repeated, for `PATIENCE_S` at most. Whether a
  commit that nobody has confirmed was made is read from the log: a row's digest tells its content
  and its place, and the lock lets an unfinished transaction end first. So nothing is lost, and
  nothing stands there twice.
"""

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg

from ftdm_assets.provenance.chain_links import GENESIS, Head, following
from serving.database import DatabaseError, Refusal, Schema
from serving.head_file import HeadFile
from serving.home import DATABASE_VARIABLE, Home
from serving.postgres import Connection, Server, make
from serving.request_log import (
    GROWS,
    NEVER_DELETED,
    REFUSALS,
    TABLES,
    RequestLogError,
    Row,
    pages,
)

# Less than requests wait for their entry (`serving.group_commit`): they hear why.
PATIENCE_S = 12.0
_PAUSE_S = 0.1
_SCHEMA = Schema(
    name="requests",
    table="requests",
    tables=TABLES
    + f"""
CREATE TABLE IF NOT EXISTS request_head (
    id INTEGER PRIMARY KEY CHECK (id = 1), count INTEGER NOT NULL, digest TEXT NOT NULL);
INSERT INTO request_head VALUES (1, 0, '{GENESIS}') ON CONFLICT DO NOTHING;
""",  # noqa: S608
    refusals=(
        *REFUSALS,
        Refusal("request_head_stays", "request_head", "DELETE", GROWS),
        Refusal(
            "request_head_only_grows", "request_head", "UPDATE", GROWS, "NEW.count <= OLD.count"
        ),
    ),
)
_HEAD = b"SELECT count, digest FROM request_head"
_ROWS = b"SELECT number, at, line FROM requests WHERE number = ANY (%s::bigint[]) OR number > %s"
_INSERT = b"INSERT INTO requests SELECT * FROM unnest(%s::bigint[], %s::text[], %s::bytea[])"
_KEEP = b"UPDATE request_head SET count = %s, digest = %s"
# Serialisation, deadlock, lock, time-out, idle too long, and a server that has become a standby.
_PASSING = ("40001", "40P01", "55P03", "57014", "25P03", "25006")
_log = logging.getLogger("serving.request_log")


class SharedRequestLog:
    """The log as one machine writes and reads it. One thread writes."""

    def __init__(self, home: Path, url: str) -> None:
        self._server = Server.of(url)
        self.path = f"{self._server.address}, table requests"
        self.head_path = Home.at(home).request_log.with_name("requests.shared.head")
        self._file = HeadFile(self.head_path)
        self._link: Connection | None = None
        # The last head that this machine has written, and one of which nobody knows whether it has.
        self._own, self._doubtful = Head(), Head()

    def close(self) -> None:
        """Close the connection; the next entry opens it again."""
        if self._link is not None:
            self._link.close()
            self._link = None

    def append(self, contents: Sequence[Mapping[str, Any]]) -> Head:
        """Append entries in one transaction, and return the head once they are committed.

        Raises:
            RequestLogError: They cannot be written, or the log does not fit its heads.
        """
        end, waits = time.monotonic() + PATIENCE_S, False
        self._doubtful = Head()
        while True:
            try:
                head = self._appended(contents)
                break
            except (psycopg.Error, DatabaseError) as error:
                told = error if isinstance(error, DatabaseError) else self._server.failed(error)
                lasting = self._lasts(error)
                self.close()
                if lasting or time.monotonic() + _PAUSE_S > end:
                    raise RequestLogError(f"{self.path}: no entry can be written. {told}") from None
                if not waits:
                    _log.warning("requests wait for the request log. %s", told)
                waits = True
            except RequestLogError:
                self.close()
                raise
            time.sleep(_PAUSE_S)
        if waits:
            _log.warning("the request log can be written again")
        self._own = head
        self._keep(head)
        return head

    def rows(self, since: str = "") -> Iterator[Row]:
        """Yield the rows in order, those of requests from a time on; a page at a time.

        Raises:
            DatabaseError: They cannot be read.
        """
        with self._server.connect() as link:
            make(link, _SCHEMA)

            def ask(sql: str, parameters: Sequence[Any]) -> list[Any]:
                return link.execute(sql.replace("?", "%s").encode(), parameters).fetchall()

            try:
                yield from pages(ask, since)
            except psycopg.Error as error:
                raise self._server.failed(error) from error

    def heads(self) -> list[tuple[str, Head]]:
        """Return the heads that were kept, each by where: the row, and this machine's file.

        Raises:
            RequestLogError: One is damaged.
            DatabaseError: The row cannot be read.
        """
        with self._server.connect() as link:
            make(link, _SCHEMA)
            row = link.execute(_HEAD).fetchone()
        own = self._kept()
        kept = [("the row of request_head", self._head_of(row))]
        return kept + ([(str(self.head_path), own)] if own else [])

    def _appended(self, contents: Sequence[Mapping[str, Any]]) -> Head:
        link = self._opened()
        with link.pipeline():
            link.execute("BEGIN")
            found = link.execute(_HEAD + b" FOR UPDATE")
        before = self._head_of(found.fetchone())
        # A statement of its own: that one's snapshot is older than the lock.
        wanted = [before.count, self._own.count, self._doubtful.count]
        rows = {row[0]: Row(*row) for row in link.execute(_ROWS, (wanted, before.count))}
        if self._doubtful.count and _fits(rows, self._doubtful):
            link.execute("ROLLBACK")
            return self._doubtful
        self._require_whole(before, rows)
        head, written = before, []
        for content in contents:
            head, line = following(head, content)
            written.append((head.count, content["at"], line))
        self._doubtful = head
        with link.pipeline():
            link.execute(_INSERT, [list(column) for column in zip(*written, strict=True)])
            link.execute(_KEEP, (head.count, head.digest))
            link.execute("COMMIT")
        return head

    def _lasts(self, error: Exception) -> bool:
        """Say whether an error is none of the connection, nor of what passes."""
        state = getattr(error, "sqlstate", None)
        lost = self._link is None or self._link.closed
        return not lost and state not in _PASSING

    def _require_whole(self, head: Head, rows: Mapping[int, Row]) -> None:
        if max(rows, default=0) > head.count:
            raise RequestLogError(f"{self.path}: there are rows behind its head; {REMEDY}")
        if not _fits(rows, head):
            raise RequestLogError(f"{self.path}: its last row is not what its head says; {REMEDY}")
        fits = _fits(rows, self._own) or self._own.count < self._first()
        if self._own.count > head.count or not fits:
            raise RequestLogError(
                f"{self.path}: row {self._own.count} is not what {self.head_path} says; {REMEDY}"
            )

    def _first(self) -> int:
        """Return the number of the first row that was not pruned."""
        found = self._opened().execute(b"SELECT min(number) FROM requests").fetchone()
        return int(found[0]) if found and found[0] else 0

    def remove_until(self, last: int) -> None:
        """Delete the rows up to one; `serving.request_log_prune` says when that may be done.

        Raises:
            RequestLogError: The role of the address does not own the table, or it failed.
        """
        rule = f"TRIGGER {NEVER_DELETED.name}"
        try:
            with self._server.connect() as link, link.transaction():
                # The rule is lifted and laid down again in one transaction.
                link.execute(f"ALTER TABLE requests DISABLE {rule}".encode())
                link.execute(b"DELETE FROM requests WHERE number <= %s", (last,))
                link.execute(f"ALTER TABLE requests ENABLE {rule}".encode())
        except psycopg.Error as error:
            raise RequestLogError(
                f"{self.path}: rows cannot be deleted, which takes the table's owner. "
                f"{self._server.failed(error)}"
            ) from error

    def _opened(self) -> Connection:
        if self._link is None:
            link = self._server.connect(0.0)
            try:
                make(link, _SCHEMA)
            except BaseException:
                link.close()
                raise
            self._link, self._own = link, self._kept() or self._own
        return self._link

    def _head_of(self, row: tuple[Any, ...] | None) -> Head:
        if row is None:
            raise RequestLogError(f"{self.path}: the row of request_head is missing; {REMEDY}")
        return Head(*row)

    def _kept(self) -> Head | None:
        try:
            return self._file.read()
        except ValueError:
            raise RequestLogError(f"{self.head_path}: this is no head of a log; {REMEDY}") from None

    def _keep(self, head: Head) -> None:
        # The entries are committed: a head that cannot be kept fails nobody's request.
        with suppress(OSError):
            self.head_path.parent.mkdir(parents=True, exist_ok=True)
            self._file.write(head)


def _fits(rows: Mapping[int, Row], head: Head) -> bool:
    return head.count == 0 or (head.count in rows and rows[head.count].digest == head.digest)


REMEDY = (
    "somebody changed the log, or an older copy of the database took its place. `ftdm verify "
    "--request-log` says where; keep the tables `requests` and `request_head` as evidence by "
    f"renaming them, with each machine's head file, or let {DATABASE_VARIABLE} name another "
    "database, and a new log begins"
)
