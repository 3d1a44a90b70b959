"""Redis or Valkey as a place that may fail: whoever asks it always gets an answer, and soon.

Invariants:
- no failure of the store reaches a caller: dead, hanging, full or talking nonsense, `get` finds
  nothing and `put` keeps nothing;
- one operation takes at most `timeout_s`, connecting included; after one that failed the store is
  passed over without being asked, and tried again aside, until it answers: at once, for it may have
  been this process that was late, then every `retry_s`;
- a store that is late in vain several times in a row is passed over as well; one time alone may be
  the lateness of this process, whose timer then rings long after its time;
- a refusal in so many words (full, say) is no failure: what it still can do it is asked for.
"""

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ResponseError

from serving.home import CACHE_VARIABLE

_log = logging.getLogger("serving.cache")
_CONNECTIONS = 32
# Late: after half the time that it has. So many times in a row are too many.
_LATE = 3
# A timer that rings after so many times its time tells of this process, not of the store.
_OWN_LATENESS = 1.5
# Pauses after which a failure is not the last one's continuation.
_LONG = 10


class CacheAddressError(ValueError):
    """The address of the store is none; the message says what it looks like."""


class CacheStore:
    """One store of bytes by name, with an end for each entry.

    Raises:
        CacheAddressError: The address is none.
    """

    def __init__(
        self, url: str, timeout_s: float = 0.05, retry_s: float = 1.0, max_bytes: int = 262_144
    ) -> None:
        self._client = Redis.from_pool(_pool(url, max(timeout_s, retry_s)))
        self._timeout_s, self._retry_s, self._max_bytes = timeout_s, retry_s, max_bytes
        self._trials: asyncio.Task[None] | None = None
        self._refuses = False
        self._late = 0
        self._answers_since = -math.inf

    @property
    def passed_over(self) -> bool:
        """Whether the store is not asked at the moment."""
        return self._trials is not None

    async def close(self) -> None:
        """Close every connection."""
        if self._trials:
            self._trials.cancel()
            with suppress(asyncio.CancelledError):
                await self._trials
        with suppress(Exception):
            await self._client.aclose()

    async def get(self, name: str) -> bytes | None:
        """Return what is kept under a name, or None."""
        found = await self._asked(lambda: self._client.get(name))
        return found if isinstance(found, bytes) and len(found) <= self._max_bytes else None

    async def put(self, name: str, content: bytes, ttl_s: int) -> None:
        """Keep a content for `ttl_s` seconds at most; one that is too large is not kept."""
        if len(content) <= self._max_bytes:
            await self._asked(lambda: self._client.set(name, content, ex=ttl_s))

    async def _asked(self, operation: Callable[[], Awaitable[Any]]) -> Any:
        if self.passed_over:
            return None
        began = time.monotonic()
        try:
            async with asyncio.timeout(self._timeout_s):
                done = await operation()
        except ResponseError as error:
            self._say_refusal(error)
            return None
        except Exception as error:  # Whatever a broken store and its client come up with.
            took = time.monotonic() - began
            if not isinstance(error, TimeoutError) or took < _OWN_LATENESS * self._timeout_s:
                self._pass_over(error)
            self._count_lateness(took)
            return None
        self._refuses = False
        self._count_lateness(0.0 if isinstance(done, bytes) else time.monotonic() - began)
        return done

    def _count_lateness(self, took_s: float) -> None:
        """Count an operation that found nothing for its caller; one that did takes 0 s."""
        self._late = self._late + 1 if took_s > self._timeout_s / 2 else 0
        if self._late == _LATE:
            self._pass_over(TimeoutError())

    def _say_refusal(self, error: ResponseError) -> None:
        if not self._refuses:
            _log.warning("The result cache refuses (%s): requests go on.", type(error).__name__)
        self._refuses = True

    def _pass_over(self, error: Exception) -> None:
        if self.passed_over:  # Many may have waited for it at once.
            return
        _log.warning(
            "The result cache does not answer in time (%s): requests go on without it; it is tried "
            "again every %g s.",
            *(type(error).__name__, self._retry_s),
        )
        self._trials = asyncio.create_task(self._try_again())

    async def _try_again(self) -> None:
        if time.monotonic() - self._answers_since < _LONG * self._retry_s:
            await asyncio.sleep(self._retry_s)
        while not await self._answers():
            await asyncio.sleep(self._retry_s)
        self._trials, self._late = None, 0
        self._answers_since = time.monotonic()
        _log.warning("The result cache answers again.")

    async def _answers(self) -> bool:
        with suppress(Exception):
            async with asyncio.timeout(self._retry_s):  # Nobody waits for the connection.
                await self._client.ping()
            async with asyncio.timeout(self._timeout_s / 2):
                return await self._client.ping() is True
        return False


def _pool(url: str, timeout_s: float) -> BlockingConnectionPool:
    try:
        return BlockingConnectionPool.from_url(
            url,
            max_connections=_CONNECTIONS,
            timeout=timeout_s,
            # One attempt: trying again is what costs time.
            retry=Retry(NoBackoff(), 0),
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            protocol=2,
            driver_info=None,
        )
    except ValueError:  # Its text may hold a part of the address, and that a password.
        raise CacheAddressError(
            f"{CACHE_VARIABLE} is no address of a Redis or Valkey: write `redis://HOST:PORT/0`, "
            "`rediss://USER:PASSWORD@HOST:PORT/0` or `unix://PATH`."
        ) from None
