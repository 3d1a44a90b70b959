"""How many requests are at work at a time: what comes above it is told to come again, at once.

Invariants:
- a request that waits for a replica, a stream that runs and an answer that waits for the log all
  count until their last byte has left;
- `/health` always has room, and whoever has shown no key takes none.
"""

from starlette.types import ASGIApp, Receive, Scope, Send

from serving.errors import ApiError
from serving.guard import OPEN_PATHS

# A queue that takes longer than callers wait only adds to the load.
_AGAIN_S = "1"


class RoomMiddleware:
    """Refuses with 429 what comes while as many requests as allowed are at work."""

    def __init__(self, app: ASGIApp, most: int) -> None:
        self._app = app
        self._most = most
        self._at_work = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on if there is room."""
        if scope["type"] != "http" or scope["path"] in OPEN_PATHS:
            await self._app(scope, receive, send)
            return
        if self._at_work >= self._most:
            await self._full().response()(scope, receive, send)
            return
        self._at_work += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._at_work -= 1

    def _full(self) -> ApiError:
        message = f"{self._most} requests are at work here: send this one again shortly."
        headers = {"retry-after": _AGAIN_S}
        return ApiError(429, message, "overloaded", kind="server_error", headers=headers)
