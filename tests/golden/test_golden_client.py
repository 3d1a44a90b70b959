"""The client against a real HTTP application: order, bounds, retries, and errors that help."""

import asyncio
import json
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from golden.client import AskSettings, EndpointError, ask, ask_blocking, chat_body, example_body
from golden.completion import Usage, mean_usage
from golden.examples import Example

EXAMPLES = [Example(f"e{n}", f"text {n}", "x", "") for n in range(20)]


class Endpoint:
    """A small OpenAI-compatible endpoint that echoes, and can be told to fail."""

    def __init__(self, failures: int = 0, status: int = 503) -> None:
        self.failures, self.status = failures, status
        self.seen: Counter[str] = Counter()
        self.bodies: list[dict[str, object]] = []
        self.running = self.most = 0
        self.transport = httpx.ASGITransport(
            Starlette(routes=[Route("/v1/chat/completions", self.answer, methods=["POST"])])
        )

    async def answer(self, request: Request) -> Response:
        body = await request.json()
        # What is measured is never a kept answer.
        assert request.headers["x-ftdm-cache"] == "off"
        text = body["messages"][-1]["content"]
        self.bodies.append(body)
        self.seen[text] += 1
        if self.seen[text] <= self.failures:
            return JSONResponse({"error": {"message": "loading"}}, status_code=self.status)
        self.running += 1
        self.most = max(self.most, self.running)
        await asyncio.sleep(0.001 * (20 - int(text.split()[1])))
        self.running -= 1
        content = {"choices": [{"message": {"role": "assistant", "content": f"re: {text}"}}]}
        return JSONResponse(content, headers={"x-ftdm-version": "support_tickets-v0001"})


def settings(**changes: object) -> AskSettings:
    base: dict[str, object] = {
        "model": "m",
        "base_url": "http://test/v1/",
        "backoff_s": 0.001,
        "concurrency": 4,
    }
    return AskSettings(**{**base, **changes})  # type: ignore[arg-type]


def test_all_answers_come_in_order_with_latencies_and_version() -> None:
    endpoint = Endpoint()
    steps: list[tuple[int, int]] = []
    answers = asyncio.run(
        ask(
            EXAMPLES,
            settings(),
            progress=lambda done, total: steps.append((done, total)),
            transport=endpoint.transport,
        )
    )
    assert answers.predictions == {e.example_id: f"re: {e.input}" for e in EXAMPLES}
    assert list(answers.predictions) == [e.example_id for e in EXAMPLES]
    assert all(seconds > 0 for seconds in answers.latencies.values())
    assert answers.versions == ("support_tickets-v0001",)
    assert steps == [(n, 20) for n in range(1, 21)]
    assert endpoint.most == 4


def test_only_the_user_message_is_sent() -> None:
    endpoint = Endpoint()
    asyncio.run(ask(EXAMPLES[:1], settings(), transport=endpoint.transport))
    assert endpoint.bodies == [
        {
            "model": "m",
            "messages": [{"role": "user", "content": "text 0"}],
            "temperature": 0,
            "max_tokens": 32,
        }
    ]


def test_a_prompted_baseline_may_carry_an_instruction_and_more() -> None:
    body = chat_body("hi", settings(system="Sort.", body={"seed": 7}))
    assert body["messages"][0] == {"role": "system", "content": "Sort."}
    assert body["seed"] == 7


def test_an_example_may_have_a_system_message_of_its_own() -> None:
    asked = settings(system="Sort.", systems={"e1": "Sort like this."}, body={"temperature": None})
    bodies = [example_body(example, asked) for example in EXAMPLES[:2]]
    assert [body["messages"][0]["content"] for body in bodies] == ["Sort.", "Sort like this."]
    assert "temperature" not in bodies[0]


def test_tokens_and_answers_that_were_cut_off_are_told() -> None:
    async def answer(request: Request) -> Response:
        text = (await request.json())["messages"][-1]["content"]
        ended = "length" if text == "text 1" else "stop"
        tokens = int(text.split()[1])
        usage = {"prompt_tokens": 10 * tokens, "completion_tokens": tokens}
        choice = {"message": {"content": text}, "finish_reason": ended}
        return JSONResponse({"choices": [choice], "usage": usage if tokens < 3 else "none"})

    app = Starlette(routes=[Route("/v1/chat/completions", answer, methods=["POST"])])
    answers = asyncio.run(ask(EXAMPLES[:4], settings(), transport=httpx.ASGITransport(app)))
    assert answers.cut_off == ("e1",)
    assert [answers.usages[f"e{n}"] for n in (1, 3)] == [Usage(10, 1), None]
    assert mean_usage([Usage(10, 1), Usage(20, 2)]) == Usage(15, 1.5)
    # A mean of some would be the mean of those that tell.
    assert mean_usage(answers.usages.values()) is None


def test_a_pause_that_the_endpoint_asks_for_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    really = asyncio.sleep

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        await really(0)

    replies = iter(["7", "9999", "soon"])

    async def busy(request: Request) -> Response:
        return PlainTextResponse("busy", 429, {"retry-after": next(replies)})

    monkeypatch.setattr("golden.client.asyncio.sleep", sleep)
    app = Starlette(routes=[Route("/v1/chat/completions", busy, methods=["POST"])])
    with pytest.raises(EndpointError, match=r"HTTP 429: busy.*fewer at a time") as caught:
        asyncio.run(ask(EXAMPLES[:1], settings(retries=2), transport=httpx.ASGITransport(app)))
    assert pauses == [7, 60]
    assert caught.value.status == 429


def test_a_passing_failure_is_retried() -> None:
    endpoint = Endpoint(failures=2)
    answers = asyncio.run(ask(EXAMPLES[:2], settings(), transport=endpoint.transport))
    assert answers.predictions["e0"] == "re: text 0"
    assert endpoint.seen == {"text 0": 3, "text 1": 3}


def test_a_lasting_failure_ends_after_the_last_retry() -> None:
    endpoint = Endpoint(failures=99)
    with pytest.raises(EndpointError, match=r"example e0 .*HTTP 503: loading") as caught:
        asyncio.run(
            ask(EXAMPLES[:1], settings(api_key="s3cret", retries=2), transport=endpoint.transport)
        )
    assert endpoint.seen["text 0"] == 3
    assert "s3cret" not in str(caught.value)
    assert "s3cret" not in repr(settings(api_key="s3cret"))


def test_a_refusal_is_not_retried() -> None:
    endpoint = Endpoint(failures=99, status=404)
    with pytest.raises(EndpointError, match=r"HTTP 404.*serves this model"):
        asyncio.run(ask(EXAMPLES[:1], settings(), transport=endpoint.transport))
    assert endpoint.seen["text 0"] == 1


@pytest.mark.parametrize("content", ["not json", "{}", '{"choices": []}'])
def test_something_else_than_a_completion_is_an_error(content: str) -> None:
    async def strange(request: Request) -> Response:
        return PlainTextResponse(content)

    app = Starlette(routes=[Route("/v1/chat/completions", strange, methods=["POST"])])
    with pytest.raises(EndpointError, match="no chat completion"):
        asyncio.run(ask(EXAMPLES[:1], settings(), transport=httpx.ASGITransport(app)))


def test_an_endpoint_that_is_down_is_named() -> None:
    down = settings(base_url="http://127.0.0.1:9/v1", retries=1, timeout_s=2)
    with pytest.raises(EndpointError, match=r"127\.0\.0\.1:9.*ConnectError"):
        ask_blocking(EXAMPLES[:1], down)


def test_a_key_that_is_repeated_or_unfit_is_not_shown() -> None:
    async def refuse(request: Request) -> Response:
        said = f"{'x' * 290} {request.headers['authorization']} is wrong"
        return JSONResponse({"error": {"message": said}}, 401)

    app = Starlette(routes=[Route("/v1/chat/completions", refuse, methods=["POST"])])
    asked = settings(api_key="s3cret-of-the-house")
    with pytest.raises(EndpointError, match=r"HTTP 401.*check the key") as caught:
        asyncio.run(ask(EXAMPLES[:1], asked, transport=httpx.ASGITransport(app)))
    assert "s3c" not in str(caught.value)
    for unfit in ("s3cret\n", "s3cr€t"):
        with pytest.raises(EndpointError, match="line break") as caught:
            settings(api_key=unfit)
        assert "s3c" not in str(caught.value)


def test_the_time_is_for_the_whole_answer_however_slowly_it_drips() -> None:
    async def drip(request: Request) -> Response:
        async def bytes_of_it() -> AsyncIterator[bytes]:
            for _ in range(100):
                await asyncio.sleep(0.05)
                yield b" "

        return StreamingResponse(bytes_of_it())

    app = Starlette(routes=[Route("/v1/chat/completions", drip, methods=["POST"])])
    asked = settings(timeout_s=0.2, retries=1)
    with pytest.raises(EndpointError, match=r"no answer within 0\.2 s"):
        asyncio.run(ask(EXAMPLES[:1], asked, transport=httpx.ASGITransport(app)))


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        content = json.dumps({"choices": [{"message": {"content": None}}]}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def port() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()
    thread.join()


def test_over_real_sockets_past_any_proxy(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    answers = ask_blocking(EXAMPLES[:3], settings(base_url=f"http://127.0.0.1:{port}/v1"))
    assert answers.predictions == {"e0": "", "e1": "", "e2": ""}
    assert answers.versions == ()
