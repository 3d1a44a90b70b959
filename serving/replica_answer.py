"""Reading what a replica answers to a call, whole or as a stream.

Invariants:
- an answer that does not name the version's weights as its model is no replica's of that version,
  and nothing of it goes back to the caller;
- of what is lost on the way it is told whether a replica may have had the call; a replica that is
  silent for too long is not lost: it may still be at work, and asking again would add to the load.
"""

import json
from collections.abc import AsyncIterator
from http import HTTPStatus

import aiohttp
from starlette.responses import Response

from serving.call import Call
from serving.errors import ERROR_EVENT, ApiError
from serving.transcript import BrokenOffError, Events, Transcript
from serving.versions import Version

# A first event with the log-probabilities of a whole prompt has some megabytes.
_LONGEST_FIRST = 16 * 1024 * 1024


_END = b"\n\n"


class NotReachedError(Exception):
    """Nobody answered, and nothing has gone back yet.

    Attributes:
        sent: Whether a replica may have had it: sending it again is then work done twice.
    """

    def __init__(self, message: str, *, sent: bool = True) -> None:
        super().__init__(message)
        self.sent = sent


class OtherWeightsError(NotReachedError):
    """What answered is no replica of the version."""


async def whole(answer: aiohttp.ClientResponse, call: Call, version: Version) -> Response:
    """Read all of an answer that is no stream.

    Raises:
        NotReachedError: It breaks off, or it is no answer of the version's (OtherWeightsError).
        ApiError: It does not come in time.
    """
    try:
        content = await answer.read()
    except (TimeoutError, aiohttp.ClientError) as error:
        raise not_reached(error) from error
    if answer.status == HTTPStatus.OK:
        _require_named(content, version)
    return Response(content, answer.status, headers_of(answer, call, version))


async def first_event(answer: aiohttp.ClientResponse, version: Version) -> bytes:
    """Wait for the first event: until then the call can still be sent to another replica.

    Raises:
        NotReachedError: It breaks off, or it is no answer of the version's (OtherWeightsError).
        ApiError: It does not come in time.
    """
    first = b""
    try:
        while _END not in first and len(first) < _LONGEST_FIRST:
            chunk = await answer.content.readany()
            if not chunk:
                break
            first += chunk
    except (TimeoutError, aiohttp.ClientError) as error:
        raise not_reached(error) from error
    if not first or first.startswith(ERROR_EVENT):
        raise NotReachedError("it broke off")
    _require_named(first.partition(_END)[0].removeprefix(b"data:"), version)
    return first


def _require_named(content: bytes, version: Version) -> None:
    """Refuse an answer, or an event of one, that does not name the version's weights as its model.

    Raises:
        OtherWeightsError: It is another version's, or nothing that can be read.
    """
    try:
        answer = json.loads(content)
    except (ValueError, RecursionError):
        answer = None
    # Only its own field counts: an answer may tell in another what it was asked for.
    if not isinstance(answer, dict) or answer.get("model") != version.served_name:
        raise OtherWeightsError("what answered is no replica of it")


async def pieces(
    transcript: Transcript, answer: aiohttp.ClientResponse, first: bytes
) -> AsyncIterator[bytes]:
    """Yield what the caller does not know yet, chunk by chunk, until the answer is whole.

    Raises:
        BrokenOffError: It ends before its last event, or with an error.
        CannotGoOnError: It does not go on with what the caller has of another replica.
    """
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


def headers_of(answer: aiohttp.ClientResponse, call: Call, version: Version) -> dict[str, str]:
    """Return the headers with which an answer goes back to the caller."""
    headers = {
        "content-type": answer.headers.get("content-type", "application/json"),
        **call.told_by(version),
    }
    if "x-request-id" in answer.headers:
        headers["x-request-id"] = answer.headers["x-request-id"]
    return headers


def not_reached(error: Exception) -> Exception:
    """Return what a failure of the connection means: NotReachedError, or ApiError if too late."""
    if isinstance(error, TimeoutError) and not isinstance(error, aiohttp.ConnectionTimeoutError):
        # It may still be at work: asking again would only add to the load.
        return ApiError(504, "The replica did not answer in time.", "timeout", kind="server_error")
    refused = isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError)
    return NotReachedError("no connection" if refused else "it broke off", sent=not refused)
