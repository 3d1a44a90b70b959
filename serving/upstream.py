"""Sending one call to the version it means, again if need be, and its answer back.

Invariants:
- while nothing of an answer has gone back to the caller, a call is sent again for a bounded time;
  each time the pointer is read anew, so a move of the pointer takes effect at once for a waiting
  call and never fails one;
- an answer belongs to one version: once its first byte has gone back it is never mixed with
  another's; a stream that breaks goes on with another replica of the same version where that one
  writes the same, and else ends with an error event, not in silence;
- only failures to reach a replica are tried again (refused, broken off, 502, 503); what a replica
  itself answered, good or bad, is passed on as it is;
- an answer that does not name the version's weights as its model is no replica's of that version:
  nothing of it goes back, and the call is sent again.
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

from serving.answer_form import HEADER, Form, fields_of, form_for, held_to
from serving.errors import ERROR_EVENT, ApiError, unreachable
from serving.transcript import BrokenOffError, CannotGoOnError, Events, Transcript
from serving.versions import Version

_AGAIN = frozenset({502, 503})
# What an engine says to a model's name that is not its own; the path is one that it has.
_UNKNOWN = 404
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 0.5
# Breaks of one answer that are made good; a replica that breaks each time would go on for ever.
_BREAKS = 3
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
        free: Whether the caller asks for an answer that is held to no form.
        key_id: Whose it is.
    """

    path: str
    body: dict[str, Any]
    resolve: Callable[[], Version]
    request_id: str
    note_usage: Callable[[dict[str, Any]], None] = lambda _: None
    trace: Mapping[str, str] = field(default_factory=dict)
    free: bool = False
    key_id: str = ""

    @property
    def streams(self) -> bool:
        """Whether the caller asked for a stream."""
        return self.body.get("stream") is True

    @property
    def hides_usage(self) -> bool:
        """Whether the replica is asked for a stream's tokens, which the caller did not."""
        return self.streams and self.body.get("stream_options") is None

    def form(self, version: Version) -> Form:
        """Return the form that the answer of a version is held to."""
        return form_for(self.path, self.body, version.form, self.free)

    def sent_as(self, version: Version) -> bytes:
        """Return the body that a replica gets."""
        usage = {"stream_options": {"include_usage": True}} if self.hides_usage else {}
        form = fields_of(self.form(version))
        return json.dumps({**self.body, **usage, **form, "model": version.served_name}).encode()

    def told_by(self, version: Version) -> dict[str, str]:
        """Return the headers that say of an answer which version gave it, held to what."""
        return {
            "x-ftdm-version": version.version,
            "x-ftdm-digest": version.digest,
            HEADER: held_to(self.body, self.form(version)),
        }


class _NotReachedError(Exception):
    """Nobody answered, and nothing has gone back yet."""


class Upstream:
    """The connections to the routers; one for each gateway process."""

    def __init__(self, retry_for_s: float, answer_timeout_s: float) -> None:
        self._retry_for_s = retry_for_s
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
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE_S)

    async def _send_once(self, call: Call, version: Version) -> Response:
        answer = await self._opened(call, version)
        streamed = False
        try:
            if call.streams and answer.content_type == "text/event-stream":
                first = await _first(answer, version)
                stream = self._stream(call, version, answer, first)
                streamed = True
                return StreamingResponse(stream, answer.status, _headers(answer, call, version))
            return await _whole(answer, call, version)
        finally:
            if not streamed:
                answer.close()

    async def _opened(self, call: Call, version: Version) -> aiohttp.ClientResponse:
        """Send a call to a version's router; return the answer, of which only the head is read."""
        if not version.router_url:
            raise _NotReachedError("it has never been started")
        content = call.sent_as(version)
        headers = {"content-type": "application/json", "x-request-id": call.request_id}
        headers |= call.trace
        try:
            answer = await self._session.post(
                f"{version.router_url}{call.path}", data=content, headers=headers
            )
        except (TimeoutError, aiohttp.ClientError) as error:
            raise _not_reached(error) from error
        if answer.status in _AGAIN:
            answer.close()
            raise _NotReachedError(f"its router answers {answer.status}")
        if answer.status == _UNKNOWN:
            answer.close()
            raise _NotReachedError("a replica of another version answered")
        return answer

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
            return answer, await _first(answer, version)
        except BaseException:
            answer.close()
            raise


async def _whole(answer: aiohttp.ClientResponse, call: Call, version: Version) -> Response:
    try:
        content = await answer.read()
    except (TimeoutError, aiohttp.ClientError) as error:
        raise _not_reached(error) from error
    if answer.status == HTTPStatus.OK:
        _require_named(content, version)
    return Response(content, answer.status, _headers(answer, call, version))


async def _first(answer: aiohttp.ClientResponse, version: Version) -> bytes:
    """Wait for the first event: until then the call can still be sent to another replica."""
    first = b""
    try:
        while b"\n\n" not in first and len(first) < _LONGEST_FIRST:
            chunk = await answer.content.readany()
            if not chunk:
                break
            first += chunk
    except (TimeoutError, aiohttp.ClientError) as error:
        raise _not_reached(error) from error
    if not first or first.startswith(ERROR_EVENT):
        raise _NotReachedError("it broke off")
    _require_named(first, version)
    return first


def _require_named(content: bytes, version: Version) -> None:
    """Refuse an answer that does not name the version's own weights as its model.

    Raises:
        _NotReachedError: It is another version's, or nothing that can be read.
    """
    name = json.dumps(version.served_name)
    if not any(f'"model":{gap}{name}'.encode() in content for gap in ("", " ")):
        raise _NotReachedError("what answered is no replica of it")


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


def _headers(answer: aiohttp.ClientResponse, call: Call, version: Version) -> dict[str, str]:
    headers = {
        "content-type": answer.headers.get("content-type", "application/json"),
        **call.told_by(version),
    }
    if "x-request-id" in answer.headers:
        headers["x-request-id"] = answer.headers["x-request-id"]
    return headers


def _not_reached(error: Exception) -> Exception:
    if isinstance(error, TimeoutError) and not isinstance(error, aiohttp.ConnectionTimeoutError):
        # It may still be at work: asking again would only add to the load.
        return ApiError(504, "The replica did not answer in time.", "timeout", kind="server_error")
    refused = isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError)
    return _NotReachedError("no connection" if refused else "it broke off")
