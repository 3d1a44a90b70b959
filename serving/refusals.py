"""Requests without a key that counts: the request log gets one entry a second and reason, a count.

An entry for each would let anybody fill the disk, and slow the log down for those who have a key.

Invariants:
- every such request is counted in an entry; the answer to it does not wait for that entry, so a
  gateway that is killed forgets up to a second of them;
- reasons are few: the error, and the key where it is one that has ended.
"""

import asyncio
import uuid
from dataclasses import dataclass
from typing import Any

from serving.group_commit import GroupCommit
from serving.request_entry import RequestEntry

REFUSED = "refused"
_TOGETHER_S = 1.0


@dataclass
class _Count:
    """Requests that were refused for one reason, within a second."""

    first: RequestEntry
    until: str
    count: int
    timer: asyncio.TimerHandle

    def content(self) -> dict[str, Any]:
        return {
            "event": REFUSED,
            "id": uuid.uuid4().hex,
            "at": self.first.at,
            "until": self.until,
            "count": self.count,
            "status": self.first.status,
            "error": self.first.error,
            "key_id": self.first.key_id,
            "key_name": self.first.key_name,
        }


class Refusals:
    """What one gateway process has refused and not yet written."""

    def __init__(self, log: GroupCommit) -> None:
        self._log = log
        self._counts: dict[tuple[str, str], _Count] = {}

    def close(self) -> None:
        """Hand over what was counted; before the log is closed."""
        for reason in list(self._counts):
            self._write(reason)

    def note(self, entry: RequestEntry) -> None:
        """Count a request."""
        reason = (entry.error, entry.key_id)
        counted = self._counts.get(reason)
        if counted is None:
            timer = asyncio.get_running_loop().call_later(_TOGETHER_S, self._write, reason)
            counted = self._counts[reason] = _Count(entry, entry.at, 0, timer)
        counted.count += 1
        counted.until = max(counted.until, entry.at)

    def _write(self, reason: tuple[str, str]) -> None:
        counted = self._counts.pop(reason)
        counted.timer.cancel()
        self._log.put(counted.content())
