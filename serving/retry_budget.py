"""How often requests of a version may be sent again: a share of those that came, and a floor.

Without it a version that answers nothing rightly gets every request many times over, just when it
can least bear it. A request that reached nobody (no connection, no replica in rotation) costs
nothing to send again and is not counted: only time bounds it.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

_SHARE, _FLOOR_PER_S, _MOST = 0.2, 10.0, 100.0


@dataclass
class _Bucket:
    tokens: float
    filled_at: float


class RetryBudget:
    """A token bucket for each version: 0.2 for each request, 10 each second, at most 100."""

    def __init__(
        self,
        share: float = _SHARE,
        floor_per_s: float = _FLOOR_PER_S,
        most: float = _MOST,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._share, self._floor_per_s, self._most = share, floor_per_s, most
        self._clock = clock
        self._buckets: dict[str, _Bucket] = {}

    def note_request(self, version: str) -> None:
        """Count a request that is sent for the first time."""
        bucket = self._bucket(version)
        bucket.tokens = min(self._most, bucket.tokens + self._share)

    def take(self, version: str) -> bool:
        """Say whether one more may be sent again, and count it if so."""
        bucket = self._bucket(version)
        if bucket.tokens < 1:
            return False
        bucket.tokens -= 1
        return True

    def _bucket(self, version: str) -> _Bucket:
        now = self._clock()
        bucket = self._buckets.setdefault(version, _Bucket(self._most, now))
        grown = bucket.tokens + (now - bucket.filled_at) * self._floor_per_s
        bucket.tokens, bucket.filled_at = min(self._most, grown), now
        return bucket
