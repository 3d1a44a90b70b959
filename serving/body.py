"""Reading a request's body: a JSON object, no larger and no slower than is allowed."""

import asyncio
import json
import math
from typing import Any

from starlette.requests import Request

from serving.errors import ApiError


async def json_object(request: Request, most_bytes: int, timeout_s: float) -> dict[str, Any]:
    """Return the JSON object that a request brings.

    Args:
        request: The request.
        most_bytes: The largest body that is taken.
        timeout_s: How long all of it may take to come: a caller that sends a byte now and then
            would else hold its place for ever.

    Raises:
        ApiError: 413, too large; 408, too slow; 400, no JSON object.
    """
    try:
        async with asyncio.timeout(timeout_s):
            content = await _content(request, most_bytes)
    except TimeoutError as error:
        message = f"The request did not come whole within {timeout_s:g} s: send it again."
        raise ApiError(408, message, "request_timeout", headers={"connection": "close"}) from error
    try:
        body = json.loads(content, parse_float=_number, parse_constant=_number)
    except (ValueError, RecursionError) as error:
        raise ApiError(400, f"The body is no valid JSON: {error}.", "invalid_json") from error
    if not isinstance(body, dict):
        raise ApiError(400, "The body must be a JSON object.", "invalid_json")
    return body


def _number(text: str) -> float:
    """Return a number that JSON has a form for; Python would read `NaN` and `1e999`, too."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:40]} is no finite number")
    return number


async def _content(request: Request, most_bytes: int) -> bytes:
    message = f"The request is larger than {most_bytes} bytes."
    too_large = ApiError(413, message, "request_too_large")
    declared = request.headers.get("content-length", "0")
    if declared.isdecimal() and int(declared) > most_bytes:
        raise too_large
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        if len(content) > most_bytes:
            raise too_large
    return bytes(content)
