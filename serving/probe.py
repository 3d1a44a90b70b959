"""Asking a replica who it is, and whether what it answers is its version's: asynchronous.

Invariants:
- what answers and does not say that it is the version's (`serving.identity`) is `wrong`, however
  healthy it calls itself;
- what is late with a completion of a single token proves nothing, as a queue is no fault;
- every question ends in time, whatever the other side sends;
- a time-out that this process is late itself to notice says nothing of the replica.
"""

import asyncio
import json
from http import HTTPStatus
from typing import Any, Literal

import aiohttp

from serving.identity import is_completion, names_only

Verdict = Literal["well", "dead", "slow", "wrong", "garbage"]

TIMEOUT_S, _COMPLETION_TIMEOUT_S = 0.8, 2.0
_LATE_S = 0.3
_LARGEST = 256 * 1024


class Probe:
    """The connections to the replicas, apart from those that carry requests."""

    def __init__(self, timeout_s: float = TIMEOUT_S) -> None:
        self._timeout_s = timeout_s
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
        )

    async def close(self) -> None:
        """Close every connection."""
        await self._session.close()

    async def identity(self, url: str, served_name: str) -> Verdict | None:
        """Say what answers at an address; None where that cannot be told this time."""
        status, found = await self._asked("GET", f"{url}/v1/models", self._timeout_s)
        if isinstance(status, str):
            return status
        if status is None:
            return None
        if status != HTTPStatus.OK:
            return "dead" if status >= 500 else "wrong"
        return "well" if names_only(found, served_name) else "wrong"

    async def completion(self, url: str, served_name: str) -> Verdict | None:
        """Say what it makes of the smallest real request; None or `slow` proves nothing."""
        body = {"model": served_name, "prompt": "a", "max_tokens": 1, "temperature": 0}
        status, found = await self._asked(
            "POST", f"{url}/v1/completions", _COMPLETION_TIMEOUT_S, body
        )
        if status is None or isinstance(status, str):
            return "garbage" if status == "wrong" else status
        if status >= 500 or status == HTTPStatus.TOO_MANY_REQUESTS:
            return "slow"
        right = status == HTTPStatus.OK and is_completion(found, served_name)
        return "well" if right else "garbage"

    async def _asked(
        self, method: str, url: str, timeout_s: float, body: dict[str, Any] | None = None
    ) -> tuple[int | Verdict | None, Any]:
        """Return status and decoded body, or what kept them from coming."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            async with (
                asyncio.timeout(timeout_s),
                self._session.request(method, url, json=body) as answer,
            ):
                return answer.status, _decoded(await _some(answer))
        except TimeoutError:
            late = loop.time() - began > timeout_s + _LATE_S
            return None if late else "slow", None
        except aiohttp.ClientResponseError:  # What came is no HTTP.
            return "wrong", None
        except (aiohttp.ClientError, OSError):
            return "dead", None


async def _some(answer: aiohttp.ClientResponse) -> bytes:
    content = b""
    async for chunk in answer.content.iter_any():
        content += chunk
        if len(content) > _LARGEST:
            answer.close()
            return b""
    return content


def _decoded(content: bytes) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None
