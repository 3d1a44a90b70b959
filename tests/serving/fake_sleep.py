"""vLLM's sleep mode before a fake engine: its endpoints, its gauges, and no answers while asleep.

A file `stays-awake` or `stays-asleep` in the working folder, the home, makes it do just that.
"""

import os
from pathlib import Path

from starlette.responses import JSONResponse, PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

_GAUGES = (
    'vllm:num_requests_running{{engine="0"}} {0}\nvllm:num_requests_waiting{{engine="0"}} 0.0\n'
)


class SleepMode:
    """Stands before the engine; counts what is at work."""

    def __init__(self, app: ASGIApp) -> None:
        self._app, self._asleep, self._at_work = app, False, 0
        if os.environ.get("VLLM_SERVER_DEV_MODE") != "1":
            raise SystemExit("sleep mode needs VLLM_SERVER_DEV_MODE=1")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in ("/health", "/v1/models"):
            await self._app(scope, receive, send)
            return
        own = self._own(scope["path"])
        if own is not None:
            await own(scope, receive, send)
            return
        self._at_work += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._at_work -= 1

    def _own(self, path: str) -> ASGIApp | None:
        if path == "/metrics":
            return PlainTextResponse(_GAUGES.format(float(self._at_work)))
        if path == "/is_sleeping":
            return JSONResponse({"is_sleeping": self._asleep})
        if path == "/sleep":
            self._asleep = self._at_work == 0 and not Path("stays-awake").exists()
            return JSONResponse({"status": "sleeping"})
        if path == "/wake_up":
            self._asleep = self._asleep and Path("stays-asleep").exists()
            return JSONResponse({"status": "awake"})
        return JSONResponse({"error": "asleep"}, 500) if self._asleep else None
