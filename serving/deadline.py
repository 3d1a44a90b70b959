"""How long a caller waits at most: `X-FTDM-Timeout-Ms`, counted from the request's arrival.

Invariants:
- all of it counts: reading, waiting for another's computation, queue, tries again, the whole of a
  stream. When it has passed the caller gets 504 (an error event where a stream has begun) and what
  is computed for nobody else is broken off, which has the engine drop it;
- a request without time left is not sent at all;
- it is the one caller's own: who waits for the same computation keeps the time that it has given;
- it never lengthens what the gateway itself allows.

The openai client's `x-stainless-read-timeout` is not read: it bounds a silence, not an answer, and
a client whose time is up leaves, which breaks off its computation too.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

from starlette.responses import Response, StreamingResponse

from serving.errors import ApiError

HEADER = "x-ftdm-timeout-ms"


def deadline_of(headers: Mapping[str, str], arrived: float, longest_s: float) -> float | None:
    """Return until when a caller waits, by the loop's clock; None where it does not say.

    Raises:
        ApiError: It says no whole number.
    """
    text = headers.get(HEADER)
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) < 16):
        message = f"The header X-FTDM-Timeout-Ms is {text!r}: give milliseconds, as 1500."
        raise ApiError(400, message, "invalid_header")
    return arrived + min(int(text) / 1000, longest_s)


async def answered_by(
    deadline: float | None, answer: Callable[[], Awaitable[Response]]
) -> Response:
    """Return the answer if it comes in time.

    Raises:
        ApiError: It does not.
    """
    if deadline is None:
        return await answer()
    if asyncio.get_running_loop().time() >= deadline:
        raise _too_late("before it was sent")
    try:
        async with asyncio.timeout_at(deadline) as timeout:
            response = await answer()
    except TimeoutError as error:
        if not timeout.expired():
            raise
        raise _too_late("before an answer came") from error
    if isinstance(response, StreamingResponse):
        response.body_iterator = _until(deadline, response.body_iterator)
    return response


async def _until(deadline: float, parts: Any) -> AsyncIterator[Any]:
    iterator = aiter(parts)
    try:
        while True:
            async with asyncio.timeout_at(deadline):
                part = await anext(iterator)
            yield part
    except StopAsyncIteration:
        return
    except TimeoutError:
        late = _too_late("before the answer was whole")
        yield b"data: " + json.dumps(late.body()).encode() + b"\n\n"
    finally:
        await iterator.aclose()


def _too_late(when: str) -> ApiError:
    message = f"The time that X-FTDM-Timeout-Ms gave this request passed {when}."
    return ApiError(504, message, "deadline_exceeded", kind="server_error")
