"""What keeps one caller, or too many, from holding the gateway: size and time of a body, room."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from starlette.requests import Request
from starlette.types import Message, Receive, Scope, Send

from serving.body import json_object
from serving.errors import ApiError
from serving.room import RoomMiddleware

BODY = json.dumps({"model": "m", "text": "x" * 40}).encode()


def request(pieces: list[bytes], pause_s: float = 0.0, declared: str = "") -> Request:
    """Return a request whose body comes in pieces, with a pause before each."""
    left = list(pieces)

    async def receive() -> Message:
        await asyncio.sleep(pause_s)
        body = left.pop(0)
        return {"type": "http.request", "body": body, "more_body": bool(left)}

    headers = [(b"content-length", declared.encode())] if declared else []
    return Request({"type": "http", "method": "POST", "headers": headers}, receive)


def read(asked: Request, most_bytes: int = 100, timeout_s: float = 5.0) -> dict[str, Any]:
    return asyncio.run(json_object(asked, most_bytes, timeout_s))


def test_a_body_comes_in_pieces() -> None:
    assert read(request([BODY[:7], BODY[7:]])) == json.loads(BODY)


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        (lambda: request([BODY, BODY]), 413),
        (lambda: request([b"{}"], declared="101"), 413),
        (lambda: request([b"{"]), 400),
        (lambda: request([b"[" * 90]), 400),
        (lambda: request([b"[1]"]), 400),
        (lambda: request([b"\xff"]), 400),
    ],
)
def test_what_is_no_body_is_refused(asked: Callable[[], Request], status: int) -> None:
    with pytest.raises(ApiError) as refused:
        read(asked())
    assert refused.value.status == status


def test_a_caller_that_sends_a_byte_now_and_then_is_not_waited_for() -> None:
    slow = request([BODY[at : at + 1] for at in range(len(BODY))], pause_s=0.05)
    with pytest.raises(ApiError) as refused:
        read(slow, timeout_s=0.12)
    assert (refused.value.status, refused.value.code) == (408, "request_timeout")
    assert refused.value.headers == {"connection": "close"}


class Waiting:
    """An application that answers when it is told to, and notes what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.go_on = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.asked.append(scope["path"])
        await self.go_on.wait()
        if scope["path"] == "/fails":
            raise RuntimeError
        await send({"type": "http.response.start", "status": 200, "headers": []})


def test_what_comes_above_the_room_is_told_to_come_again() -> None:
    asyncio.run(_room())


async def _room() -> None:
    app = Waiting()
    room = RoomMiddleware(app, 2)
    answers: dict[str, Message] = {}

    def ask(path: str) -> Awaitable[None]:
        async def send(message: Message) -> None:
            answers.setdefault(path, message)

        async def receive() -> Message:
            return {"type": "http.request"}

        return asyncio.ensure_future(room({"type": "http", "path": path}, receive, send))

    at_work = [ask("/a"), ask("/fails")]
    await asyncio.sleep(0)
    await ask("/b")
    assert answers["/b"]["status"] == 429
    assert (b"retry-after", b"1") in answers["/b"]["headers"]
    health = ask("/health")
    await asyncio.sleep(0)
    assert app.asked == ["/a", "/fails", "/health"]
    app.go_on.set()
    await asyncio.gather(*at_work, health, return_exceptions=True)
    # What has failed has given its room back too.
    await asyncio.gather(ask("/c"), ask("/d"))
    assert answers["/c"]["status"] == answers["/d"]["status"] == 200
