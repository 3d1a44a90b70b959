"""Sending one call to the version it means, again if need be, and its answer back.

Invariants:
- a call is sent again only while nothing of an answer has gone back to the caller, and for a
  bounded time; each time the pointer is read anew, so a move of the pointer takes effect at once
  for a waiting call and never fails one;
- an answer belongs to one version: once its first byte has gone back it is never mixed with
  another's; a stream that breaks ends with an error event, not in silence;
- only failures to reach a replica are tried again (refused, broken off, 502, 503); what a replica
  itself answered, good or bad, is passed on as it is.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import aiohttp
from starlette.responses import Response, StreamingResponse

from serving.errors import ApiError, unreachable
from serving.versions import Version

_AGAIN = frozenset({502, 503})
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 0.5
_ERROR_EVENT = b'data: {"error"'


@dataclass(frozen=True)
class Call:
    """One request, read and checked; `resolve` tells the version it means at this moment."""

    path: str
    body: dict[str, Any]
    resolve: Callable[[], Version]
    request_id: str

    @property
    def streams(self) -> bool:
        """Whether the caller asked for a stream."""
        return self.body.get("stream") is True


class _NotReachedError(Exception):
    """Nobody answered, and nothing has gone back yet."""


class Upstream:
    """The connections to the routers; one for each gateway process."""

    def __init__(self, retry_for_s: float, answer_timeout_s: float) -> None:
        self._retry_for_s = retry_for_s
        timeout = aiohttp.ClientTimeout(total=None, connect=2.0, sock_read=answer_timeout_s)
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=15.0)
        self._session = aiohttp.ClientSession(
            connector=connector, timeout=timeout, auto_decompress=False, trust_env=False
        )

    async def close(self) -> None:
        """Close every connection."""
        await self._session.close()

    async def send(self, call: Call) -> Response:
        """Return the answer to a call.

        Raises:
            ApiError: Nobody could be reached in time, or the name means nothing (any more).
        """
        end = time.monotonic() + self._retry_for_s
        pause = _FIRST_PAUSE_S
        while True:
            version = call.resolve()
            try:
                return await self._send_once(call, version)
            except _NotReachedError as error:
                if time.monotonic() + pause > end:
                    raise unreachable(
                        f"No replica of {version.version} can be reached ({error}): "
                        "try again shortly."
                    ) from error
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE_S)

    async def _send_once(self, call: Call, version: Version) -> Response:
        if not version.router_url:
            raise _NotReachedError("it has never been started")
        content = json.dumps({**call.body, "model": version.served_name}).encode()
        headers = {"content-type": "application/json", "x-request-id": call.request_id}
        try:
            answer = await self._session.post(
                f"{version.router_url}{call.path}", data=content, headers=headers
            )
        except (TimeoutError, aiohttp.ClientError) as error:
            raise _not_reached(error) from error
        streamed = False
        try:
            if answer.status in _AGAIN:
                raise _NotReachedError(f"its router answers {answer.status}")
            if call.streams and answer.content_type == "text/event-stream":
                response = await _stream(answer, version)
                streamed = True
                return response
            return await _whole(answer, version)
        finally:
            if not streamed:
                answer.close()


async def _whole(answer: aiohttp.ClientResponse, version: Version) -> Response:
    try:
        content = await answer.read()
    except (TimeoutError, aiohttp.ClientError) as error:
        raise _not_reached(error) from error
    return Response(content, answer.status, _headers(answer, version))


async def _stream(answer: aiohttp.ClientResponse, version: Version) -> Response:
    """Wait for the first event: until then the call can still be sent to another replica."""
    try:
        first = await answer.content.readany()
    except (TimeoutError, aiohttp.ClientError) as error:
        raise _not_reached(error) from error
    if not first or first.startswith(_ERROR_EVENT):
        raise _NotReachedError("it broke off")
    return StreamingResponse(_events(first, answer), answer.status, _headers(answer, version))


async def _events(first: bytes, answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    try:
        yield first
        async for chunk in answer.content.iter_any():
            yield chunk
    except (TimeoutError, aiohttp.ClientError):
        broken = unreachable("The replica broke off before the answer was whole: ask again.")
        yield b"data: " + json.dumps(broken.body()).encode() + b"\n\n"
    finally:
        answer.close()


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
    return _NotReachedError("no connection" if refused else "it broke off")
