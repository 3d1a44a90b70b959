"""Whether the request log is whole: each row's digest and place, and the heads that were kept.

Rows that were pruned (`serving.request_log_prune`) may be given back from their files: the chain is
then checked from its first row. Without them it begins after them, where an entry says so.
"""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ftdm_assets.provenance.chain_links import GENESIS, Head, link
from serving.request_entry import STREAM_BEGAN, STREAM_ENDED
from serving.request_log import Log, RequestLogError, Row

# An entry that says which rows were taken out at the beginning.
PRUNED = "pruned"
_MOST_SHOWN = 20


@dataclass
class RequestLogReport:
    """What a check found.

    Attributes:
        head: The last row that follows from the first without a break.
        problems: What is wrong and where; none means that the log is whole.
        notes: What a person should know though it is no fault.
    """

    head: Head = field(default_factory=Head)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def check(
    log: Log,
    kept: Iterable[tuple[str, Head]] = (),
    archives: Sequence[Path] = (),
) -> RequestLogReport:
    """Check a log against its own heads and heads kept elsewhere, each by where it was kept.

    Args:
        log: The log.
        kept: The heads.
        archives: Files with the rows that were pruned, oldest first.

    Its own are read first: rows that are written meanwhile come after them.
    """
    report = RequestLogReport()
    try:
        own = log.heads()
        heads = [*kept, *own]
        walk = _Walk(report, {head.count for _, head in heads})
        for row in _rows(log, archives):
            walk.take(row)
        report.problems += walk.unexplained()
        if not own and walk.count:
            report.problems.append(f"{log.path}: its head {log.head_path} is missing")
        gone = [where for where, head in heads if 0 < head.count < walk.beginning.count]
        if gone:
            report.notes.append(
                f"{len(gone)} heads that were kept ({gone[0]} first) are of rows that were pruned: "
                "give their files with --archive to compare"
            )
        report.problems += [
            _told(where, head, walk)
            for where, head in heads
            if where not in gone and _differs(head, walk)
        ]
        if walk.open_streams:
            report.notes.append(
                f"{len(walk.open_streams)} streams have begun and not ended: they run, or the "
                "gateway was stopped hard"
            )
    except (RequestLogError, sqlite3.Error) as error:
        report.problems.append(f"{log.path}: {error}")
    hidden = len(report.problems) - _MOST_SHOWN
    if hidden > 0:
        report.problems[_MOST_SHOWN:] = [f"{hidden} further problems"]
    return report


def _rows(log: Log, archives: Sequence[Path]) -> Iterator[Row]:
    last = 0
    for path in archives:
        with path.open("rb") as lines:
            for line in lines:
                row = _archived(path, line.rstrip(b"\n"))
                last = max(last, row.number)
                yield row
    # What a prune that was stopped has left in the log stands in its file as well.
    yield from (row for row in log.rows() if row.number > last)


def _archived(path: Path, line: bytes) -> Row:
    try:
        entry = json.loads(line)
        return Row(int(entry["number"]), str(entry["content"]["at"]), line)
    except (ValueError, KeyError, TypeError, RecursionError):
        raise RequestLogError(f"{path}: this is no file of pruned rows") from None


class _Walk:
    """Goes from row to row, and remembers the digests that heads ask for."""

    def __init__(self, report: RequestLogReport, wanted: set[int]) -> None:
        self._report, self._wanted = report, wanted
        self._previous: str | None = GENESIS
        self.count = 0
        self.digests: dict[int, str | None] = {0: GENESIS}
        self.open_streams: set[str] = set()
        # What the first row follows; more than nothing where rows were pruned.
        self.beginning, self._explained = Head(), True

    def unexplained(self) -> list[str]:
        """Return what is wrong with the log's beginning."""
        if self._explained:
            return []
        return [f"rows 1 to {self.beginning.count} are missing, and no entry says who pruned them"]

    def take(self, row: Row) -> None:
        if self.count == 0 and row.number > 1:
            self._begin(row)
        expected = self.count + 1
        self._previous, problem = link(row.line, expected, self._previous)
        problem = problem or self._misplaced(row, expected)
        if problem:
            self._report.problems.append(f"row {row.number}: {problem}")
        elif self.count == self._report.head.count and self._previous:
            self._report.head = Head(expected, self._previous)
        # From here on, so that one missing row is one problem.
        self.count = row.number
        if row.number in self._wanted:
            self.digests[row.number] = self._previous
        if not problem:
            self._events(row)

    def _begin(self, row: Row) -> None:
        try:
            previous = str(json.loads(row.line)["previous"])
        except (ValueError, KeyError, TypeError, RecursionError):
            return
        self.beginning, self._explained = Head(row.number - 1, previous), False
        self.count, self._previous = row.number - 1, previous
        self.digests[self.count] = previous
        self._report.head = self.beginning

    def _misplaced(self, row: Row, expected: int) -> str:
        if row.number != expected:
            return f"rows {expected} to {row.number - 1} are missing"
        return "" if f'"at":"{row.at}"'.encode() in row.line else "its time is not its entry's"

    def _events(self, row: Row) -> None:
        content = json.loads(row.line)["content"]
        if content.get("event") == STREAM_BEGAN:
            self.open_streams.add(str(content.get("id")))
        elif content.get("event") == STREAM_ENDED:
            self.open_streams.discard(str(content.get("id")))
        elif content.get("event") == PRUNED:
            self._explained = self._explained or self._explains(content)

    def _explains(self, pruned: dict[str, Any]) -> bool:
        """Say whether the log may begin where it does; earlier, if a prune was stopped."""
        last, own = pruned.get("last"), self.beginning
        if not isinstance(last, int) or own.count > last:
            return False
        return own.count < last or own.digest == pruned.get("last_digest")


def _differs(head: Head, walk: _Walk) -> bool:
    return walk.digests.get(head.count) != head.digest


def _told(where: str, head: Head, walk: _Walk) -> str:
    if head.count > walk.count:
        return (
            f"{where} counts {head.count} rows, the log ends after {walk.count}: rows were cut off "
            "at the end"
        )
    found = walk.digests.get(head.count)
    return (
        f"{where} names row {head.count} with digest {head.digest[:12]}; the log has "
        f"{found[:12] if found else 'nothing'} there: it was written anew since"
    )
