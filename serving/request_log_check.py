"""Whether the request log is whole: each row's digest and place, and the heads that were kept."""

import json
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ftdm_assets.provenance.chain_links import GENESIS, Head, link
from serving.request_entry import STREAM_BEGAN, STREAM_ENDED
from serving.request_log import RequestLog, RequestLogError, Row

if TYPE_CHECKING:
    from serving.shared_request_log import SharedRequestLog

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
    log: "RequestLog | SharedRequestLog", kept: Iterable[tuple[str, Head]] = ()
) -> RequestLogReport:
    """Check a log against its own heads and heads kept elsewhere, each by where it was kept.

    Its own are read first: rows that are written meanwhile come after it.
    """
    report = RequestLogReport()
    try:
        own = log.heads()
        heads = [*kept, *own]
        walk = _Walk(report, {head.count for _, head in heads})
        for row in log.rows():
            walk.take(row)
        if not own and walk.count:
            report.problems.append(f"{log.path}: its head {log.head_path} is missing")
        report.problems += [
            _told(where, head, walk) for where, head in heads if _differs(head, walk)
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


class _Walk:
    """Goes from row to row, and remembers the digests that heads ask for."""

    def __init__(self, report: RequestLogReport, wanted: set[int]) -> None:
        self._report, self._wanted = report, wanted
        self._previous: str | None = GENESIS
        self.count = 0
        self.digests: dict[int, str | None] = {0: GENESIS}
        self.open_streams: set[str] = set()

    def take(self, row: Row) -> None:
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
            self._streams(row)

    def _misplaced(self, row: Row, expected: int) -> str:
        if row.number != expected:
            return f"rows {expected} to {row.number - 1} are missing"
        return "" if f'"at":"{row.at}"'.encode() in row.line else "its time is not its entry's"

    def _streams(self, row: Row) -> None:
        content = json.loads(row.line)["content"]
        if content.get("event") == STREAM_BEGAN:
            self.open_streams.add(str(content.get("id")))
        elif content.get("event") == STREAM_ENDED:
            self.open_streams.discard(str(content.get("id")))


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
