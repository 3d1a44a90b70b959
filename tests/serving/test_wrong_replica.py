"""A replica that answers garbage, or for other weights, is never what a caller hears."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

from tests.serving.cache_support import CHAT, event, gateway, put, served
from tests.serving.serving_support import MODEL, bearer

WRONG = {"id": "1", "model": f"{MODEL}@v0009-000000000000", "choices": [{"text": "wrong"}]}
BABBLE: dict[str, Response] = {
    "no JSON": Response("<html>welcome</html>", media_type="application/json"),
    "nothing": Response(b"", media_type="application/json"),
    "no completion": JSONResponse({"status": "ok"}),
    "other weights": JSONResponse(WRONG),
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

    async def complete(self, request: Request) -> Response:
        body = await request.json()
        self.asked += 1
        if self.asked <= self.times:
            return self.said
        text = {"delta": {"content": "right"}} if body.get("stream") else {"text": "right"}
        choice = {"index": 0, "finish_reason": "stop", **text}
        head = {"id": "1", "created": 1, "model": body["model"], "choices": [choice]}
        if not body.get("stream"):
            return JSONResponse(head)
        return Response(event(head) + b"data: [DONE]\n\n", media_type="text/event-stream")


@pytest.fixture(scope="module")
def babbler() -> Iterator[tuple[Babbler, str]]:
    one = Babbler()
    with served(Starlette(routes=[Route(CHAT, one.complete, methods=["POST"])])) as url:
        yield one, url


@pytest.mark.parametrize("said", BABBLE)
@pytest.mark.parametrize("stream", [False, True])
def test_the_next_one_is_asked_and_nothing_of_it_goes_back(
    tmp_path: Path, babbler: tuple[Babbler, str], said: str, stream: bool
) -> None:
    one, url = babbler
    one.times, one.said, one.asked = 2, BABBLE[said], 0
    text = ask(tmp_path, url, stream)
    assert "right" in text
    assert "wrong" not in text
    assert one.asked == 3


def test_what_a_router_sends_while_a_replica_is_silent_is_no_answer(
    tmp_path: Path, babbler: tuple[Babbler, str]
) -> None:
    one, url = babbler
    head = {"id": "1", "created": 1, "model": f"{MODEL}@v0001", "choices": []}
    said = b":\n\n: still there\n\n" + event(head) + b"data: [DONE]\n\n"
    one.times, one.said, one.asked = 1, Response(said, media_type="text/event-stream"), 0
    assert "[DONE]" in ask(tmp_path, url, stream=True)
    assert one.asked == 1


def test_with_nobody_else_there_it_is_said_and_not_passed_on(
    tmp_path: Path, babbler: tuple[Babbler, str]
) -> None:
    one, url = babbler
    one.times, one.said, one.asked = 1_000, BABBLE["other weights"], 0
    text = ask(tmp_path, url, stream=False, status=503)
    assert f"No replica of {MODEL}-v0001 can be reached" in text
    assert "wrong" not in text


def ask(home: Path, url: str, stream: bool, status: int = 200) -> str:
    put(home, url)
    body: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}]}
    with gateway(home, None) as running, TestClient(running.app) as client:
        answer = client.post(CHAT, json=body | {"stream": stream}, headers=bearer(running.key))
    assert answer.status_code == status, answer.text
    return answer.text
