"""Every answer of the gateway stands in the request log before its last byte leaves.

Invariants:
- an answer in one piece is held until its entry is on the disk; a stream begins once an entry says
  so, and what ends it (its last event) is held until the entry of its end is on the disk;
- where no entry can be written, the caller gets 503 and nothing of the answer; a stream that is
  under way ends with an error event;
- refusals are recorded like answers, and so are the gateway's own failures; requests without a key
  that counts are counted together (`serving.refusals`).
"""

import json
import logging
import re
import time
import uuid
from pathlib import Path

from starlette.datastructures import Headers, State
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.answer_form import HEADER
from serving.errors import ApiError, unreachable
from serving.group_commit import GroupCommit, NotWrittenError
from serving.guard import OPEN_PATHS
from serving.request_entry import ANSWERED, STREAM_BEGAN, STREAM_ENDED, RequestEntry
from serving.request_log import request_log

_END, _ERROR = b"data: [DONE]", b'data: {"error"'
# The caller's own, if it is no more than a name: the log keeps it.
_REQUEST_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")
_log = logging.getLogger("serving.gateway")


class _StoppedError(Exception):
    """Ends the application's answer, whose place another one has taken."""


def recorder(home: Path) -> GroupCommit:
    """Return the writer of a home's request log."""
    log = request_log(home)
    return GroupCommit(log.append, log.close)


class RecorderMiddleware:
    """Puts the entry into the request's state, for the handlers to fill in, and writes it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on; its answer passes the log."""
        if scope["type"] != "http" or scope["path"] in OPEN_PATHS:
            await self._app(scope, receive, send)
            return
        entry = RequestEntry(scope["path"], _request_id(Headers(scope=scope)))
        scope.setdefault("state", {})["entry"] = entry
        answer = _Answer(entry, scope["app"].state, send)
        try:
            await self._answered(scope, receive, answer)
        finally:
            answer.abandon()

    async def _answered(self, scope: Scope, receive: Receive, answer: "_Answer") -> None:
        try:
            answer.log.check()
            await self._run(scope, receive, answer)
        except _StoppedError:
            pass
        except NotWrittenError:
            await _refusal().response()(scope, receive, answer.unrecorded)

    async def _run(self, scope: Scope, receive: Receive, answer: "_Answer") -> None:
        try:
            await self._app(scope, receive, answer.send)
        except (NotWrittenError, _StoppedError):
            raise
        except Exception:
            if answer.began:
                raise
            _log.exception("%s %r failed", scope["method"], scope["path"])
            failed = ApiError(500, "The gateway failed.", "internal", kind="server_error")
            await failed.response()(scope, receive, answer.send)


class _Answer:
    """One answer on its way out."""

    def __init__(self, entry: RequestEntry, state: State, send: Send) -> None:
        self._state, self.unrecorded = state, send
        self.log: GroupCommit = state.recorder
        self._entry, self._arrived = entry, time.perf_counter()
        self._head: Message | None = None
        self.began = False
        # Whether the log has a beginning of this answer without an end.
        self._open = False

    async def send(self, message: Message) -> None:
        """Send a message of the application when the log allows it.

        Raises:
            NotWrittenError: The log cannot be written, and nothing was sent yet.
            _StoppedError: It cannot be written, and the stream has been ended.
        """
        if message["type"] == "http.response.start":
            self._head = message
            self._note_head(message)
        elif message["type"] == "http.response.body":
            await self._body(message, bool(message.get("more_body")))
        else:
            await self.unrecorded(message)

    def abandon(self) -> None:
        """Write that a stream has ended too early, if it has; nobody is left to wait for it."""
        if self._open:
            self._entry.error = self._entry.error or "broken_off"
            self._open = False
            self.log.put(self._content(STREAM_ENDED))

    def _note_head(self, message: Message) -> None:
        headers = Headers(raw=message["headers"])
        self._entry.status = message["status"]
        self._entry.version = headers.get("x-ftdm-version", "")
        self._entry.digest = headers.get("x-ftdm-digest", "")
        self._entry.constrained = headers.get(HEADER, "")

    async def _body(self, message: Message, more: bool) -> None:
        piece = message.get("body", b"")
        if not self.began:
            await self._begin(piece, more)
        if self._open:
            self._entry.note_events(piece)
            if not more or _is_last(piece):
                await self._end()
        await self.unrecorded(message)

    async def _begin(self, piece: bytes, more: bool) -> None:
        self._entry.streamed = more
        if more:
            await self._open_stream()
        else:
            self._entry.note_answer(piece)
            await self._answered()
        self.began = True
        if self._head is not None:
            await self.unrecorded(self._head)

    async def _answered(self) -> None:
        if self._entry.refused:
            self._state.refusals.note(self._entry)
        else:
            await self.log.write(self._content(ANSWERED))

    async def _open_stream(self) -> None:
        self._open = True
        try:
            await self.log.write(self._content(STREAM_BEGAN))
        except NotWrittenError:
            self._open = False
            raise

    async def _end(self) -> None:
        self._open = False
        try:
            await self.log.write(self._content(STREAM_ENDED))
        except NotWrittenError as error:
            event = b"data: " + json.dumps(_refusal().body()).encode() + b"\n\n"
            await self.unrecorded({"type": "http.response.body", "body": event, "more_body": False})
            raise _StoppedError from error

    def _content(self, event: str) -> dict[str, object]:
        return self._entry.content(event, round((time.perf_counter() - self._arrived) * 1e6))


def _request_id(headers: Headers) -> str:
    given = headers.get("x-request-id", "")
    return given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex


def _is_last(piece: bytes) -> bool:
    return piece.startswith((_END, _ERROR)) or b"\n\n" + _END in piece or b"\n\n" + _ERROR in piece


def _refusal() -> ApiError:
    # Why is in the gateway's own log: paths and the like are not for callers.
    return unreachable(
        "No request is answered while the request log cannot be written: try again shortly, and "
        "tell whoever runs this gateway.",
        code="not_recorded",
    )
