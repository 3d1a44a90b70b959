"""How often a key may ask: a token bucket for each, in this process's memory.

Pure but for the clock that is given. A bucket holds one minute's requests and fills evenly, so a
key may spend its whole minute at once and then goes at its rate. A restart fills all buckets.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass


@dataclass
class _Bucket:
    tokens: float
    at: float
    per_minute: int


class RateLimits:
    """The buckets of all keys; `clock` gives seconds and never goes back."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._buckets: dict[str, _Bucket] = {}

    def take(self, key_id: str, per_minute: int | None) -> int:
        """Take one request from a key's bucket.

        Returns:
            0 if it may be sent; else the whole seconds to wait until the next one may.
        """
        if per_minute is None:
            return 0
        now = self._clock()
        bucket = self._buckets.get(key_id)
        if bucket is None or bucket.per_minute != per_minute:
            bucket = self._buckets[key_id] = _Bucket(per_minute, now, per_minute)
        rate = per_minute / 60
        bucket.tokens = min(per_minute, bucket.tokens + (now - bucket.at) * rate)
        bucket.at = now
        if bucket.tokens >= 1:
            bucket.tokens -= 1
            return 0
        return max(1, math.ceil((1 - bucket.tokens) / rate))
