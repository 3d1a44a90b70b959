"""Puts the metrics around an ASGI application, without a hand in what it does.

Every answer passes unchanged and at once, a stream event by event. A handler that knows which
version a call means says so in `request.state.version`, so that also a call that nobody answered
counts under it; tokens stand in the request log's entry.
"""

import asyncio
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.metrics import Metrics, Seen
from serving.request_entry import RequestEntry
from serving.versions import Version

_NO_ROUTE = "other"


class Measured:
    """The middleware; outermost, so that refusals of what lies within count too."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a call on and count it when it has ended, however it did."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        seen = Seen()

        async def watched(message: Message) -> None:
            seen.take(message)
            await send(message)

        self._metrics.in_flight.inc()
        try:
            await self._app(scope, receive, watched)
        finally:
            self._metrics.in_flight.dec()
            # In the loop's next turn: what this one has written goes out at its end.
            asyncio.get_running_loop().call_soon(self._count, seen, scope, time.perf_counter())

    def _count(self, seen: Seen, scope: Scope, ended: float) -> None:
        self._metrics.count(seen, ended, _path(scope), _meant(scope), _tokens(scope))


def _path(scope: Scope) -> str:
    """Return the route's own path, which a caller cannot invent."""
    return getattr(scope.get("route"), "path", _NO_ROUTE)


def _meant(scope: Scope) -> tuple[str, str] | None:
    version = scope.get("state", {}).get("version")
    return (version.model, version.version) if isinstance(version, Version) else None


def _tokens(scope: Scope) -> dict[str, int | None]:
    entry = scope.get("state", {}).get("entry")
    if not isinstance(entry, RequestEntry):
        return {}
    return {
        "prompt_tokens": entry.prompt_tokens,
        "completion_tokens": entry.completion_tokens,
    }
