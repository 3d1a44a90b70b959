"""A replica that answers garbage, or for other weights, is never what a caller hears."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.serving.as_replica import AsReplica
from tests.serving.cache_support import CHAT, event, gateway, put, served
from tests.serving.serving_support import MODEL, bearer

WRONG = {"id": "1", "model": f"{MODEL}@v0009-000000000000", "choices": [{"text": "wrong"}]}
# What was asked for stands in its answer, but it is another that answers.
ECHO, ECHO_STREAM = Response(), Response()
BABBLE: dict[str, Response] = {
    "no JSON": Response("<html>welcome</html>", media_type="application/json"),
    "nothing": Response(b"", media_type="application/json"),
    "no completion": JSONResponse({"status": "ok"}),
    "other weights": JSONResponse(WRONG),
    "other weights that tell what was asked for": ECHO,
    "a stream of other weights that tells it": ECHO_STREAM,
    "does not know the model": JSONResponse({"error": {"message": "no such model"}}, 404),
    "a stream of other weights": Response(event(WRONG), media_type="text/event-stream"),
    "a stream of nothing": Response(b": hello\n\n", media_type="text/event-stream"),
    "a stream without an event": Response(b"x" * 200_000, media_type="text/event-stream"),
}


@dataclass
class Babbler:
    """Answers something else so many times, and then what it should."""

    times: int = 0
    said: Response = field(default_factory=Response)
    asked: int = 0

    def _said(self, body: dict[str, Any]) -> Response:
        echo = {"echo": body, **WRONG}
        if self.said is ECHO:
            return JSONResponse(echo)
        if self.said is ECHO_STREAM:
            return Response(event(echo), media_type="text/event-stream")
        return self.said

    async def complete(self, request: Request) -> Response:
        body = await request.json()
        self.asked += 1
        if self.asked <= self.times:
            return self._said(body)
        text = {"delta": {"content": "right"}} if body.get("stream") else {"text": "right"}
        choice = {"index": 0, "finish_reason": "stop", **text}
        head = {"id": "1", "created": 1, "model": body["model"], "choices": [choice]}
        if not body.get("stream"):
            return JSONResponse(head)
        return Response(event(head) + b"data: [DONE]\n\n", media_type="text/event-stream")


@pytest.fixture(scope="module")
def babblers() -> Iterator[tuple[Babbler, list[str]]]:
    """One that can be told to babble, the address of it, and that of one that answers rightly."""
    one, other = Babbler(), Babbler()
    with served(app_of(one)) as url, served(app_of(other)) as well:
        yield one, [url, well]


def app_of(one: Babbler) -> AsReplica:
    paths = (CHAT, "/v1/completions")
    return AsReplica(
        Starlette(routes=[Route(path, one.complete, methods=["POST"]) for path in paths])
    )


@pytest.mark.parametrize("said", BABBLE)
@pytest.mark.parametrize("stream", [False, True])
def test_another_one_is_asked_and_nothing_of_it_goes_back(
    tmp_path: Path, babblers: tuple[Babbler, list[str]], said: str, stream: bool
) -> None:
    one, urls = babblers
    one.times, one.said, one.asked = 1_000, BABBLE[said], 0
    with asking(tmp_path, urls) as ask:
        for _ in range(4):
            status, text = ask(stream)
            assert status == 200, text
            assert "right" in text
            assert "wrong" not in text
    assert one.asked > 0


def test_with_nobody_else_there_it_is_said_and_not_passed_on(
    tmp_path: Path, babblers: tuple[Babbler, list[str]]
) -> None:
    one, urls = babblers
    one.times, one.said, one.asked = 1_000, BABBLE["other weights"], 0
    with asking(tmp_path, urls[:1]) as ask:
        status, text = ask(False)
    assert status == 503
    assert f"No replica of {MODEL}-v0001 can be reached" in text
    assert "wrong" not in text


def test_it_is_asked_again_when_it_answers_rightly(
    tmp_path: Path, babblers: tuple[Babbler, list[str]]
) -> None:
    one, urls = babblers
    one.times, one.said, one.asked = 2, BABBLE["other weights"], 0
    with asking(tmp_path, urls[:1]) as ask:
        end = time.monotonic() + 20
        while ask(False)[0] != 200:
            assert time.monotonic() < end


@contextmanager
def asking(home: Path, urls: list[str]) -> Iterator[Callable[[bool], tuple[int, str]]]:
    put(home, urls[0], beside=urls[1:])
    body = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}]}
    with gateway(home, None) as running, httpx.Client(headers=bearer(running.key)) as client:

        def ask(stream: bool) -> tuple[int, str]:
            answer = client.post(f"{running.url}{CHAT}", json=body | {"stream": stream}, timeout=30)
            return answer.status_code, answer.text

        yield ask
