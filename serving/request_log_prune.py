"""Taking old rows out of the request log, without taking them out of the evidence.

Invariants:
- what is taken out is written to a file first, row by row as it lay in the log, and synced;
- the log says so itself: an entry `pruned` names who did it, which rows, the digest of the last and
  the SHA-256 of the file, and is on the disk before a row is deleted. A log whose beginning no such
  entry explains was cut off;
- a log that is not whole is not pruned, and its last entry of a request always stays: the next one
  follows it.

Whoever is stopped between entry and deletion finds rows still there, and prunes again.
"""

import hashlib
import json
import os
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from serving.home import Home
from serving.request_log import Log, RequestLogError, Row, request_log
from serving.request_log_check import PRUNED, check

_PART, _PAUSE_S = 10_000, 0.02


@dataclass(frozen=True)
class Pruned:
    """What was taken out: rows by number, and the file that holds them now."""

    first: int
    last: int
    last_digest: str
    file: Path
    sha256: str


def prune(home: Path, before: str, file: Path, by: str) -> Pruned | None:
    """Move the rows of before a time into a new file; None if there are none.

    Args:
        home: The home whose log it is.
        before: ISO 8601 in UTC, or the beginning of it.
        file: Where to; it must not exist.
        by: Who does it, for the log.

    Raises:
        RequestLogError: The log is not whole, or cannot be written.
        FileExistsError: The file exists.
    """
    log = request_log(home)
    with Home.at(home).lock("request-log-prune"):
        if problems := check(log).problems:
            raise RequestLogError(f"nothing was taken out: {problems[0]}")
        last = _last(log, before)
        if last == 0:
            return None
        pruned = _exported(_until(log, last), file)
        with closing(log):
            log.append([_entry(pruned, before, by)])
        _delete(log, pruned)
    return pruned


def _last(log: Log, before: str) -> int:
    """Return the last row of those at the beginning that may go; 0: none may."""
    first = last = kept = 0
    early = True
    for row in log.rows():
        first = first or row.number
        early = early and row.at < before
        last = row.number if early else last
        # The row of a request that all later ones follow.
        kept = kept if _content(row).get("event") == PRUNED else row.number
    last = min(last, kept - 1)
    return last if last >= first else 0


def _until(log: Log, last: int) -> Iterator[Row]:
    for row in log.rows():
        if row.number > last:
            return
        yield row


def _exported(rows: Iterable[Row], file: Path) -> Pruned:
    digest, first, row = hashlib.sha256(), 0, None
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        for row in rows:
            first = first or row.number
            stream.write(row.line + b"\n")
            digest.update(row.line + b"\n")
        stream.flush()
        os.fsync(stream.fileno())
    if row is None:
        raise RequestLogError(f"{file}: the rows have gone; see who else prunes this log")
    return Pruned(first, row.number, row.digest, file, digest.hexdigest())


def _entry(pruned: Pruned, before: str, by: str) -> dict[str, Any]:
    return {
        "event": PRUNED,
        "id": uuid.uuid4().hex,
        "at": datetime.now(UTC).isoformat(timespec="microseconds"),
        "by": by,
        "before": before,
        "first": pruned.first,
        "last": pruned.last,
        "last_digest": pruned.last_digest,
        "file": pruned.file.name.encode(errors="replace").decode(),
        "sha256": pruned.sha256,
    }


def _delete(log: Log, pruned: Pruned) -> None:
    """Delete the rows, a part at a time: whoever writes meanwhile waits for one part only."""
    for last in (*range(pruned.first + _PART - 1, pruned.last, _PART), pruned.last):
        log.remove_until(last)
        time.sleep(_PAUSE_S)


def _content(row: Row) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(row.line)["content"]
    return content
