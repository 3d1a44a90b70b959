"""Sending one call to the version it means, again if need be, and its answer back.

Invariants:
- while nothing of an answer has gone back to the caller, a call is sent again for a bounded time;
  each time the pointer is read anew, so a move of the pointer takes effect at once for a waiting
  call and never fails one;
- an answer belongs to one version: once its first byte has gone back it is never mixed with
  another's; a stream that breaks goes on with another replica of the same version where that one
  writes the same, and else ends with an error event, not in silence;
- only failures to reach a replica are tried again (refused, broken off, 502, 503, the router's own
  errors), which is safe as a completion has no side effects, and so is a call that waits for the
  head of an answer when a replica of its version is found to hang (`serving.hedge`); what has
  reached a replica is sent again within a budget (`serving.retry_budget`). What a replica itself
  answered, good or bad, is passed on as it is;
- an answer that does not name the version's weights as its model is no replica's of that version:
  nothing of it goes back, the call is sent again, and `serving.rotation` is told who gave it.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, TypeVar

import aiohttp
from starlette.responses import Response, StreamingResponse

from serving.errors import ERROR_EVENT, ApiError, unreachable
from serving.hedge import Held, hedged
from serving.retry_budget import RetryBudget
from serving.rotation import Rotation
from serving.transcript import BrokenOffError, CannotGoOnError, Events, Transcript
from serving.versions import Version

_AGAIN = frozenset({502, 503})
# With the router's own code: none of the replicas that it tried could be reached.
_ROUTER_FAILED = 500
# What an engine says to a model's name that is not its own; the path is one that it has.
_UNKNOWN = 404
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 0.5
# Breaks of one answer that are made good; a replica that breaks each time would go on for ever.
_BREAKS = 3
# smg says in them which replica answered, and that an error is its own.
_ROUTED_HEADER, _ROUTER_ERROR_HEADER = "x-smg-routed-worker-id", "x-smg-error-code"
_NO_REPLICA = frozenset({"model_not_found", "no_available_workers"})
_LONGEST_FIRST = 64 * 1024

T = TypeVar("T")


@dataclass(frozen=True)
class Call:
    """One request, read and checked.

    Attributes:
        path: The API's path.
        body: The request as it came.
        resolve: Tells the version that it means at this moment.
        request_id: Goes on to the replica.
        note_usage: Is told the tokens of a stream whose caller has not asked for them.
        trace: The headers that carry its trace on.
    """

    path: str
    body: dict[str, Any]
    resolve: Callable[[], Version]
    request_id: str
    note_usage: Callable[[dict[str, Any]], None] = lambda _: None
    trace: Mapping[str, str] = field(default_factory=dict)

    @property
    def streams(self) -> bool:
        """Whether the caller asked for a stream."""
        return self.body.get("stream") is True

    @property
    def hides_usage(self) -> bool:
        """Whether the replica is asked for a stream's tokens, which the caller did not."""
        return self.streams and self.body.get("stream_options") is None

    def sent_as(self, served_name: str) -> bytes:
        """Return the body that a replica gets."""
        usage = {"stream_options": {"include_usage": True}} if self.hides_usage else {}
        return json.dumps({**self.body, **usage, "model": served_name}).encode()


class _NotReachedError(Exception):
    """Nobody answered, and nothing has gone back yet.

    Attributes:
        sent: Whether a replica may have had it: sending it again is then work done twice.
    """

    def __init__(self, message: str, *, sent: bool = True) -> None:
        super().__init__(message)
        self.sent = sent


class _OtherWeightsError(_NotReachedError):
    """What answered is no replica of the version."""


class Upstream:
    """The connections to the routers; one for each gateway process."""

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
        self._held = Held()
        rotation.on_hung = self._held.cut
        timeout = aiohttp.ClientTimeout(total=None, connect=2.0, sock_read=answer_timeout_s)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=15.0),
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
        self._budget.note_request(call.resolve().version)
        return await self._patiently(lambda: self._send_once(call, call.resolve()), call.resolve)

    async def _patiently(
        self, attempt: Callable[[], Awaitable[T]], version: Callable[[], Version]
    ) -> T:
        end = time.monotonic() + self._retry_for_s
        pause = _FIRST_PAUSE_S
        while True:
            try:
                return await attempt()
            except _NotReachedError as error:
                if time.monotonic() + pause > end:
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

    async def _send_once(self, call: Call, version: Version) -> Response:
        answer = await self._opened(call, version)
        streamed = False
        try:
            if call.streams and answer.content_type == "text/event-stream":
                first = await self._named(_first(answer, version), answer, version)
                stream = self._stream(call, version, answer, first)
                streamed = True
                return StreamingResponse(stream, answer.status, _headers(answer, version))
            return await self._named(_whole(answer, version), answer, version)
        finally:
            if not streamed:
                answer.close()

    async def _opened(self, call: Call, version: Version) -> aiohttp.ClientResponse:
        """Send a call to a version's router; return the answer, of which only the head is read."""
        if not version.router_url:
            raise _NotReachedError("it has never been started", sent=False)
        answer = await hedged(
            lambda: self._posted(call, version),
            lambda: self._rotation.hung(version),
            lambda: self._budget.take(version.version),
        )
        if (replica := _routed(answer)) is not None:
            self._held.add(replica, answer)
        return answer

    async def _posted(self, call: Call, version: Version) -> aiohttp.ClientResponse:
        content = call.sent_as(version.served_name)
        headers = {"content-type": "application/json", "x-request-id": call.request_id}
        headers |= call.trace
        try:
            answer = await self._session.post(
                f"{version.router_url}{call.path}", data=content, headers=headers
            )
        except (TimeoutError, aiohttp.ClientError) as error:
            raise _not_reached(error) from error
        fault = _fault(answer)
        if fault is None:
            return answer
        answer.close()
        if isinstance(fault, _OtherWeightsError):
            self._rotation.suspect(version, _routed(answer))
        raise fault

    async def _named(
        self, content: Awaitable[T], answer: aiohttp.ClientResponse, version: Version
    ) -> T:
        """Return what is read of an answer; tell who gave it where it is none of the version's."""
        try:
            return await content
        except _OtherWeightsError:
            self._rotation.suspect(version, _routed(answer), sure=True)
            raise

    async def _stream(
        self, call: Call, version: Version, answer: aiohttp.ClientResponse, first: bytes
    ) -> AsyncIterator[bytes]:
        """Pass a stream on; where it breaks off, go on with another replica's."""
        transcript, breaks = Transcript(call.hides_usage), 0
        try:
            while True:
                try:
                    async for piece in _pieces(transcript, answer, first):
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
                answer.close()
                answer, first = await self._patiently(
                    lambda: self._opened_stream(call, version), lambda: version
                )
        except (BrokenOffError, CannotGoOnError, ApiError, TimeoutError, aiohttp.ClientError):
            broken = unreachable("The replica broke off before the answer was whole: ask again.")
            yield b"data: " + json.dumps(broken.body()).encode() + b"\n\n"
        finally:
            answer.close()

    async def _opened_stream(
        self, call: Call, version: Version
    ) -> tuple[aiohttp.ClientResponse, bytes]:
        answer = await self._opened(call, version)
        try:
            return answer, await self._named(_first(answer, version), answer, version)
        except BaseException:
            answer.close()
            raise


def _fault(answer: aiohttp.ClientResponse) -> _NotReachedError | None:
    """Return why an answer is not the version's own, as far as its head says."""
    code = answer.headers.get(_ROUTER_ERROR_HEADER)
    if code in _NO_REPLICA:
        return _NotReachedError("its router has no replica for it", sent=False)
    if answer.status in _AGAIN or (code is not None and answer.status == _ROUTER_FAILED):
        return _NotReachedError(f"its router answers {answer.status}")
    if answer.status == _UNKNOWN:
        return _OtherWeightsError("a replica of another version answered")
    return None


def _routed(answer: aiohttp.ClientResponse) -> str | None:
    return answer.headers.get(_ROUTED_HEADER)


async def _whole(answer: aiohttp.ClientResponse, version: Version) -> Response:
    try:
        content = await answer.read()
    except (TimeoutError, aiohttp.ClientError) as error:
        raise _not_reached(error) from error
    if answer.status == HTTPStatus.OK:
        _require_named(content, version)
    return Response(content, answer.status, _headers(answer, version))


async def _first(answer: aiohttp.ClientResponse, version: Version) -> bytes:
    """Wait for the first event: until then the call can still be sent to another replica."""
    first = b""
    try:
        while b"\n\n" not in first and len(first) < _LONGEST_FIRST:
            chunk = await answer.content.readany()
            if not chunk:
                break
            first = _without_comments(first + chunk)
    except (TimeoutError, aiohttp.ClientError) as error:
        raise _not_reached(error) from error
    if not first or first.startswith(ERROR_EVENT):
        raise _NotReachedError("it broke off")
    _require_named(first, version)
    return first


def _without_comments(content: bytes) -> bytes:
    """Cut off what the router sends while a replica is silent: it says nothing of who answers."""
    while content.startswith(b":") and b"\n\n" in content:
        content = content.partition(b"\n\n")[2]
    return content


def _require_named(content: bytes, version: Version) -> None:
    """Refuse an answer that does not name the version's own weights as its model.

    Raises:
        _OtherWeightsError: It is another version's, or nothing that can be read.
    """
    name = json.dumps(version.served_name)
    if not any(f'"model":{gap}{name}'.encode() in content for gap in ("", " ")):
        raise _OtherWeightsError("what answered is no replica of it")


async def _pieces(
    transcript: Transcript, answer: aiohttp.ClientResponse, first: bytes
) -> AsyncIterator[bytes]:
    """Yield what the caller does not know yet, chunk by chunk, until the answer is whole."""
    events, chunk = Events(), first
    while chunk:
        piece, broken = transcript.take_all(events.cut(chunk))
        if piece:
            yield piece
        if broken is not None:
            raise broken
        # To its very end, which comes after the last event: the connection can be used again.
        chunk = await answer.content.readany()
    if not transcript.ended:
        raise BrokenOffError("it ended early")


def _headers(answer: aiohttp.ClientResponse, version: Version) -> dict[str, str]:
    headers = {
        "content-type": answer.headers.get("content-type", "application/json"),
        "x-ftdm-version": version.version,
        "x-ftdm-digest": version.digest,
    }
    if "x-request-id" in answer.headers:
        headers["x-request-id"] = answer.headers["x-request-id"]
    return headers


def _not_reached(error: Exception) -> Exception:
    if isinstance(error, TimeoutError) and not isinstance(error, aiohttp.ConnectionTimeoutError):
        # It may still be at work: asking again would only add to the load.
        return ApiError(504, "The replica did not answer in time.", "timeout", kind="server_error")
    refused = isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError)
    return _NotReachedError("no connection" if refused else "it broke off", sent=not refused)
