"""What the tests of the result cache share: replicas in this process, a gateway, a real Valkey."""

import asyncio
import json
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import redis
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from serving.gateway import GatewaySettings, create_app
from serving.health import free_port
from serving.local_key import local_key
from serving.pointer import PointerStore
from serving.stack_programs import pongs, valkey_binary
from serving.versions import CacheTerms, Version
from tests.serving.as_replica import AsReplica, replica_at, version_at
from tests.serving.serving_support import MODEL, unasked

CHAT = "/v1/chat/completions"
PATIENT_S = 5.0


def opened() -> threading.Event:
    gate = threading.Event()
    gate.set()
    return gate


@dataclass
class FakeReplica:
    """Answers `NAME says CONTENT`, counts how often, and fails as it is told to.

    It answers while its gate is open; a stream's first word comes before.
    """

    name: str
    gate: threading.Event = field(default_factory=opened)
    failures: int = 0
    breaks: bool = False
    finish: str = "stop"
    bodies: list[dict[str, Any]] = field(default_factory=list)
    ended: int = 0
    closed: int = 0

    @property
    def count(self) -> int:
        return len(self.bodies)

    async def complete(self, request: Request) -> Response:
        body = await request.json()
        self.bodies.append(body)
        content = str(body["messages"][-1]["content"] if "messages" in body else body["prompt"])
        text = f"{self.name} says {content}"
        head = {"id": f"{self.name}-{self.count}", "created": 1, "model": body["model"]}
        chat = "messages" in body
        if self.failures:
            self.failures -= 1
            await self._pass()
            return JSONResponse({"error": {"message": "as told"}}, 500)
        if body.get("stream"):
            usage = (body.get("stream_options") or {}).get("include_usage")
            events = self._closing(self._events(head, text, chat, bool(usage)))
            return StreamingResponse(events, media_type="text/event-stream")
        await self._pass()
        self.ended += 1
        said = {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
        choice = {"index": 0, "logprobs": None, "finish_reason": self.finish, **said}
        head["object"] = "chat.completion" if chat else "text_completion"
        return JSONResponse({**head, "choices": [choice], "usage": usage_of(text)})

    async def _pass(self) -> None:
        while not self.gate.is_set():
            await asyncio.sleep(0.005)

    async def _closing(self, events: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        try:
            async for one in events:
                yield one
        finally:
            self.closed += 1

    async def _events(
        self, head: dict[str, Any], text: str, chat: bool, usage: bool
    ) -> AsyncIterator[bytes]:
        head["object"] = "chat.completion.chunk" if chat else "text_completion"
        words = text.split(" ")
        for number, word in enumerate(words):
            if self.breaks and number == 1:
                yield b'data: {"error": {"message": "broke"}}\n\n'
                return
            said = word if number == 0 else f" {word}"
            choice = (
                {"index": 0, "delta": {"content": said}} if chat else {"index": 0, "text": said}
            )
            choice["finish_reason"] = self.finish if number == len(words) - 1 else None
            yield event({**head, "choices": [choice]})
            await self._pass()
        if usage:
            yield event({**head, "choices": [], "usage": usage_of(text)})
        self.ended += 1
        yield b"data: [DONE]\n\n"

    def app(self) -> AsReplica:
        paths = (CHAT, "/v1/completions")
        routes = [Route(path, self.complete, methods=["POST"]) for path in paths]
        return AsReplica(Starlette(routes=routes))


def usage_of(text: str) -> dict[str, int]:
    words = len(text.split(" "))
    return {"prompt_tokens": 3, "completion_tokens": words, "total_tokens": words + 3}


def event(content: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(content).encode() + b"\n\n"


@contextmanager
def served(app: ASGIApp) -> Iterator[str]:
    """Serve an app in a thread of this process; yields its address."""
    port = free_port()
    server = uvicorn.Server(
        uvicorn.Config(app, "127.0.0.1", port, log_level="warning", ws="none", access_log=False)
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.005)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(30)


@contextmanager
def valkey(port: int, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run the stack's own Valkey."""
    memory = arguments or ("--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru")
    argv = [str(valkey_binary()), "--bind", "127.0.0.1", "--port", str(port)]
    with subprocess.Popen(
        [*argv, "--save", "", *memory], stdout=subprocess.DEVNULL, cwd="/"
    ) as process:
        try:
            while not pongs(port):
                assert process.poll() is None
                time.sleep(0.005)
            yield process
        finally:
            process.kill()


@dataclass(frozen=True)
class Served:
    """A gateway that runs in this process."""

    url: str
    app: Starlette
    key: str

    def waiting(self) -> int:
        """Return how many requests wait for a computation, or read what comes of it."""
        flights = self.app.state.gateway._cache._flights._flights
        return sum(one._passengers for one in list(flights.values()))


@contextmanager
def gateway(home: Path, cache_url: str | None, timeout_s: float = PATIENT_S) -> Iterator[Served]:
    """Run a gateway; it waits longer for the cache than by default, for the tests' own sake."""
    settings = GatewaySettings(
        home, retry_for_s=0.4, cache_url=cache_url, cache_timeout_s=timeout_s
    )
    app = create_app(settings)
    with served(app) as url:
        yield Served(url, app, local_key(home))


def put(
    home: Path,
    url: str,
    number: int = 1,
    temperature: float | None = 0.0,
    form: Mapping[str, Any] | None = None,
    beside: Sequence[str] = (),
    **terms: Any,
) -> Version:
    """Record a version that these replicas serve, with the form of its answers, and promote it."""
    full = f"{MODEL}-v{number:04d}"
    folder = home / full
    folder.mkdir(exist_ok=True)
    if temperature is not None:
        generation = json.dumps({"temperature": temperature})
        (folder / "generation_config.json").write_text(generation, encoding="utf-8")
    made = version_at(
        url, MODEL, full, f"{MODEL}@v{number:04d}", folder=folder, cache=CacheTerms(**terms)
    )
    further = tuple(replica_at(one, made.served_name) for one in beside)
    version = replace(made, form=form or {}, replicas=made.replicas + further)
    with PointerStore(home) as store:
        version = store.record_version(version)
        store.promote(MODEL, full, by="t", reason="r", admit=unasked)
    return version


def chat(content: str = "hello", **fields: Any) -> dict[str, Any]:
    return {"model": MODEL, "messages": [{"role": "user", "content": content}], **fields}


@dataclass(frozen=True)
class Bench:
    """A gateway with its cache, and two replicas; the first is version 1, in production."""

    home: Path
    gateway: Served
    client: httpx.Client
    cache_url: str
    one: FakeReplica
    two: FakeReplica
    two_url: str

    @property
    def url(self) -> str:
        return self.gateway.url

    def ask(self, body: dict[str, Any], **headers: str) -> httpx.Response:
        path = CHAT if "messages" in body else "/v1/completions"
        return self.client.post(f"{self.url}{path}", json=body, headers=headers)

    def cache(self) -> redis.Redis:
        return redis.Redis.from_url(self.cache_url)


def word(answer: httpx.Response) -> str:
    assert answer.status_code == 200, answer.text
    return answer.headers["x-ftdm-cache"]


def events(answer: httpx.Response) -> list[dict[str, Any]]:
    lines = [line.removeprefix("data: ") for line in answer.text.splitlines() if line]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


def text(told: list[dict[str, Any]]) -> str:
    return "".join(one["delta"].get("content", "") for each in told for one in each["choices"])
