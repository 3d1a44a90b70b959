"""Sending one call to the version it means, again if need be, and its answer back.

Invariants:
- while nothing of an answer has gone back to the caller, a call is sent again for a bounded time
  from when it was lost, however long it was at work before; each time the pointer is read anew, so
  a move of the pointer takes effect at once for a waiting call and never fails one;
- an answer belongs to one version: once its first byte has gone back it is never mixed with
  another's; a stream that breaks goes on with another replica of the same version where that one
  writes the same, and else ends with an error event, not in silence;
- each goes to the replica in rotation (`serving.rotation`) that has the fewest (`serving.balance`);
- only failures to reach a replica are tried again, with another if there is one (refused, broken
  off, 502, 503), which is safe as a completion has no side effects, and so is a call that waits for
  the head of an answer of a replica that is found to hang (`serving.hedge`); what has reached a
  replica is sent again within a budget (`serving.retry_budget`). What a replica itself answered,
  good or bad, is passed on as it is, but for a first 500 where another replica can be asked;
- of an answer that is no replica's of the version (`serving.replica_answer`) nothing goes back: the
  call is sent again, and the replica is out of rotation.
"""

import asyncio
import json
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TypeVar

import aiohttp
from starlette.responses import Response, StreamingResponse

from serving.balance import Balance
from serving.call import Call
from serving.errors import ApiError, unreachable
from serving.hedge import Held, hedged
from serving.replica_answer import (
    NotReachedError,
    OtherWeightsError,
    first_event,
    headers_of,
    not_reached,
    pieces,
    whole,
)
from serving.retry_budget import RetryBudget
from serving.rotation import Rotation
from serving.transcript import BrokenOffError, CannotGoOnError, Transcript
from serving.versions import Version

_AGAIN = frozenset({502, 503})
# An engine that is ending says so to what it has at work; so does one with a fault of its own.
_FAILED = 500
# What an engine says to a model's name that is not its own; the path is one that it has.
_UNKNOWN = 404
# Shorter than the engine's 5 s: a connection that it has just closed would cost a try.
_KEEP_ALIVE_S = 4.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 0.5
# Breaks of one answer that are made good; a replica that breaks each time would go on for ever.
_BREAKS = 3

T = TypeVar("T")


class _Given:
    """An answer that has begun, and who gives it; until it is closed it counts as work there."""

    def __init__(
        self, answer: aiohttp.ClientResponse, replica: str, closed: Callable[[str], None]
    ) -> None:
        self.answer, self.replica = answer, replica
        self._closed: Callable[[str], None] | None = closed

    def close(self) -> None:
        self.answer.close()
        if self._closed is not None:
            self._closed(self.replica)
            self._closed = None

    def __del__(self) -> None:
        # A stream whose caller has left before it began is never closed by whoever would read it.
        self.close()


class Upstream:
    """The connections to the replicas; one for each gateway process."""

    def __init__(
        self,
        retry_for_s: float,
        answer_timeout_s: float,
        rotation: Rotation,
        budget: RetryBudget | None = None,
    ) -> None:
        self._retry_for_s = retry_for_s
        self._rotation = rotation
        self._budget = budget or RetryBudget()
        self._balance = Balance()
        self._held = Held()
        rotation.on_hung = self._held.cut
        timeout = aiohttp.ClientTimeout(total=None, connect=2.0, sock_read=answer_timeout_s)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEP_ALIVE_S),
            # One caller's call must never carry what another's answer has set.
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=timeout,
            auto_decompress=False,
            trust_env=False,
        )

    async def close(self) -> None:
        """Close every connection."""
        await self._session.close()

    async def send(self, call: Call) -> Response:
        """Return the answer to a call.

        Raises:
            ApiError: Nobody could be reached in time, or the name means nothing (any more).
        """
        failed: list[str] = []
        counted = False

        async def attempt() -> Response:
            nonlocal counted
            version = call.resolve()
            if not counted:
                self._budget.note_request(version.version)
                counted = True
            return await self._send_once(call, version, failed)

        return await self._patiently(attempt, call.resolve)

    async def _patiently(
        self, attempt: Callable[[], Awaitable[T]], version: Callable[[], Version]
    ) -> T:
        end, lost, pause = math.inf, 0, _FIRST_PAUSE_S
        while True:
            began = time.monotonic()
            try:
                return await attempt()
            except NotReachedError as error:
                now = time.monotonic()
                # While a replica was at work with it nobody was searched for.
                worked = now - began > self._retry_for_s
                if end == math.inf or (worked and lost < _BREAKS):
                    end, lost, pause = now + self._retry_for_s, lost + 1, _FIRST_PAUSE_S
                if now + pause > end:
                    raise unreachable(
                        f"No replica of {version().version} can be reached ({error}): "
                        "try again shortly."
                    ) from error
                if error.sent and not self._budget.take(version().version):
                    raise unreachable(
                        f"{version().version} fails so often that no more of its requests are sent "
                        f"twice ({error}): try again shortly."
                    ) from error
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE_S)

    async def _send_once(self, call: Call, version: Version, failed: list[str]) -> Response:
        given = await self._opened(call, version, failed)
        if given.answer.status == _FAILED and self._may_ask_another(version, given, failed):
            given.close()
            raise NotReachedError("it answers 500")
        answer, streamed = given.answer, False
        try:
            if call.streams and answer.content_type == "text/event-stream":
                first = await self._named(first_event(answer, version), given, version)
                stream = self._stream(call, version, given, first)
                streamed = True
                return StreamingResponse(stream, answer.status, headers_of(answer, call, version))
            return await self._named(whole(answer, call, version), given, version)
        finally:
            if not streamed:
                given.close()

    def _may_ask_another(self, version: Version, given: _Given, failed: list[str]) -> bool:
        """Say whether a replica's failure may be its own: once, and if there is another to ask."""
        if failed or not set(self._rotation.fit(version)) - {given.replica}:
            return False
        failed.append(given.replica)
        self._rotation.suspect(version, given.replica)
        return True

    async def _opened(self, call: Call, version: Version, but: Sequence[str] = ()) -> _Given:
        """Send a call to a replica of a version; of the answer only the head is read."""
        tried = list(but)
        given = await hedged(
            lambda: self._posted(call, version, tried),
            lambda: self._rotation.hung(version),
            lambda url: url in tried and self._budget.take(version.version),
        )
        self._held.add(given.replica, given.answer)
        return given

    async def _posted(self, call: Call, version: Version, tried: list[str]) -> _Given:
        """Send a call to one replica, and note in `tried` to which."""
        replica = self._balance.take(self._rotation.fit(version), tried)
        if replica is None:
            raise NotReachedError("none of them is well", sent=False)
        tried.append(replica)
        kept = False
        try:
            answer = await self._post(call, version, replica)
            kept = True
            return _Given(answer, replica, self._balance.give_back)
        finally:
            if not kept:
                self._balance.give_back(replica)

    async def _post(self, call: Call, version: Version, replica: str) -> aiohttp.ClientResponse:
        content = call.sent_as(version)
        headers = {"content-type": "application/json", "x-request-id": call.request_id}
        headers |= call.trace
        try:
            answer = await self._session.post(
                f"{replica}{call.path}", data=content, headers=headers
            )
        except (TimeoutError, aiohttp.ClientError) as error:
            raise self._noted(not_reached(error), version, replica) from error
        if answer.status in _AGAIN:
            answer.close()
            raise NotReachedError(f"it answers {answer.status}")
        if answer.status == _UNKNOWN:
            answer.close()
            self._rotation.suspect(version, replica)
            raise OtherWeightsError("a replica of another version answered")
        return answer

    def _noted(self, error: Exception, version: Version, replica: str) -> Exception:
        """Tell the watch of a replica that could not be reached."""
        if isinstance(error, NotReachedError):
            self._rotation.suspect(version, replica, None if error.sent else "dead")
        return error

    async def _named(self, content: Awaitable[T], given: _Given, version: Version) -> T:
        """Return what is read of an answer; tell who gave it where it is none of the version's."""
        try:
            return await content
        except OtherWeightsError:
            self._rotation.suspect(version, given.replica, "garbage")
            raise

    async def _stream(
        self, call: Call, version: Version, given: _Given, first: bytes
    ) -> AsyncIterator[bytes]:
        """Pass a stream on; where it breaks off, go on with another replica's."""
        transcript, breaks = Transcript(call.hides_usage), 0
        try:
            while True:
                try:
                    async for piece in pieces(transcript, given.answer, first):
                        # Before the stream's last event, after which nobody listens.
                        if transcript.usage is not None:
                            call.note_usage(transcript.usage)
                        yield piece
                except (BrokenOffError, TimeoutError, aiohttp.ClientError) as error:
                    if transcript.ended:
                        return
                    breaks += 1
                    # A silent replica may still be at work: asking again would add to the load.
                    if breaks > _BREAKS or isinstance(error, TimeoutError):
                        raise
                else:
                    return
                transcript.start_again()
                given.close()
                given, first = await self._patiently(
                    lambda: self._opened_stream(call, version), lambda: version
                )
        except (BrokenOffError, CannotGoOnError, ApiError, TimeoutError, aiohttp.ClientError):
            broken = unreachable("The replica broke off before the answer was whole: ask again.")
            yield b"data: " + json.dumps(broken.body()).encode() + b"\n\n"
        finally:
            given.close()

    async def _opened_stream(self, call: Call, version: Version) -> tuple[_Given, bytes]:
        given = await self._opened(call, version)
        try:
            return given, await self._named(first_event(given.answer, version), given, version)
        except BaseException:
            given.close()
            raise
