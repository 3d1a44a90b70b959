"""One caller's connection: what it may cost before, beside and after the application's own work.

Uvicorn waits for ever for a request's head, for a caller that does not read, and for the rest of a
body that nobody wants, and reads a head of any size. All of that takes no key.

Invariants:
- a head that is not whole in time, or not within its size, ends the connection; an answer under way
  on it is finished first;
- a caller that takes nothing of its answer for so long is cut off: what computes for it ends;
- of a request that is answered already, the rest is read (and thrown away) for a moment only;
- what is no HTTP is answered in the API's form, too.
"""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from serving.errors import ApiError


@dataclass(frozen=True)
class ConnectionLimits:
    """How long, and how much.

    Attributes:
        head_timeout_s: A request's line and headers have to come within so long.
        head_bytes: A head that is larger, and not whole yet, is refused.
        unread_timeout_s: A caller may leave its answer unread for so long.
        rest_timeout_s: The rest of a request that was answered before it was whole.
    """

    head_timeout_s: float = 15.0
    head_bytes: int = 64 * 1024
    unread_timeout_s: float = 60.0
    rest_timeout_s: float = 10.0


def bounded(limits: ConnectionLimits) -> type[HttpToolsProtocol]:
    """Return uvicorn's protocol with these limits, for its setting `http`."""
    return type("Bounded", (_Bounded,), {"limits": limits})


class _Bounded(HttpToolsProtocol):
    limits = ConnectionLimits()

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._in_head, self._head_bytes = True, 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        for name in list(self._timers):
            self._stop(name)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        # Most heads are whole at once, and need no timer.
        if self._in_head and "head" not in self._timers:
            self._await_head()
        self._head_bytes = self._head_bytes + len(data) if self._in_head else 0
        if self._head_bytes > self.limits.head_bytes and not self.transport.is_closing():
            message = f"The request's line and headers are larger than {self.limits.head_bytes} "
            self._refuse(ApiError(431, f"{message}bytes.", "headers_too_large"))

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True
        self._stop("head")

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._stop("head")
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._stop("rest")
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.cycle.response_complete and self.cycle.more_body:
            self._start("rest", self.limits.rest_timeout_s, self.transport.abort)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._start("unread", self.limits.unread_timeout_s, self.transport.abort)

    def resume_writing(self) -> None:
        self._stop("unread")
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        self._refuse(ApiError(400, msg, "invalid_request"))

    def _unsupported_upgrade_warning(self) -> None:
        """Say nothing: the request is answered as any other, and whoever likes sends such."""

    def _await_head(self) -> None:
        self._in_head = True
        self._start("head", self.limits.head_timeout_s, self._head_is_late)

    def _head_is_late(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self._await_head()
        elif self._head_bytes:
            message = "The request's line and headers did not come within "
            message += f"{self.limits.head_timeout_s:g} s: send it again."
            self._refuse(ApiError(408, message, "request_timeout"))
        else:
            self.transport.close()

    def _refuse(self, error: ApiError) -> None:
        content = json.dumps(error.body(), separators=(",", ":")).encode()
        head = (
            b"content-type: application/json",
            b"content-length: %d" % len(content),
            b"connection: close",
        )
        line = STATUS_LINE[error.status]
        self.transport.write(line + b"\r\n".join((*head, b"", content)))
        self.transport.close()

    def _start(self, name: str, after_s: float, then: Callable[[], None]) -> None:
        self._stop(name)
        self._timers[name] = self.loop.call_later(after_s, then)

    def _stop(self, name: str) -> None:
        if timer := self._timers.pop(name, None):
            timer.cancel()
