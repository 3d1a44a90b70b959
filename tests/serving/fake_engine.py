"""A small program that speaks vLLM's HTTP dialect, to stand in for a replica in fast tests.

`python fake_engine.py --port P --served-model-name NAME [--host H] [--startup-s S] [--exit-code N]
[--become WHAT] [--enable-sleep-mode]`; with sleep mode it is `fake_sleep.py` that sleeps.
The last message steers the answer: `words=N pause=S` gives N words with S seconds between them,
`status=N` an error of that status, `hang` no answer at all. Every answer names this process
(`system_fingerprint` = pid) and echoes the request's fields and headers, so that a test can see
who answered and what arrived. `POST /become/wrong` makes it serve another version from then on,
`/become/garbage` has it answer nonsense though it still says who it is, `/become/stuck` has it
answer no completion, `/become/well` ends all three.
"""

import argparse
import asyncio
import importlib
import json
import os
import re
import sys
import time
from collections.abc import AsyncIterator
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp


def _number(text: str, name: str, default: float) -> float:
    found = re.search(rf"{name}=([0-9.]+)", text)
    return float(found.group(1)) if found else default


def _prompt(body: dict[str, Any]) -> str:
    try:
        return str(body["messages"][-1]["content"])
    except (KeyError, IndexError, TypeError):
        return str(body.get("prompt", ""))


class FakeEngine:
    """The routes of one fake replica."""

    def __init__(self, served_name: str) -> None:
        self.served_name = self._own_name = served_name
        self._babbles = self._stuck = False

    async def become(self, request: Request) -> Response:
        self.be(request.path_params["what"])
        return Response(status_code=204)

    def be(self, what: str) -> None:
        self.served_name = "other@v0009-000000000000" if what == "wrong" else self._own_name
        self._babbles, self._stuck = what == "garbage", what == "stuck"

    async def health(self, _: Request) -> Response:
        return Response(status_code=200)

    async def models(self, _: Request) -> Response:
        entry = {"id": self.served_name, "object": "model", "created": 0, "owned_by": "vllm"}
        entry["max_model_len"] = 2048
        return JSONResponse({"object": "list", "data": [entry]})

    async def complete(self, request: Request) -> Response:
        body = await request.json()
        if self._babbles:
            return Response("<html>welcome</html>", media_type="application/json")
        # One that was made another on its way takes any name: nothing but the answer tells.
        if body.get("model") != self.served_name and self.served_name == self._own_name:
            message = f"The model `{body.get('model')}` does not exist."
            error = {"message": message, "type": "NotFoundError", "param": "model", "code": 404}
            return JSONResponse({"error": error}, status_code=404)
        text = _prompt(body)
        if self._stuck or "hang" in text:
            await asyncio.sleep(3600)
        status = int(_number(text, "status", 200))
        if status != 200:
            error = {"message": "as asked", "type": "BadRequestError", "code": status}
            return JSONResponse({"error": error}, status_code=status)
        words = int(_number(text, "words", 2))
        pause = _number(text, "pause", 0.0)
        chat = request.url.path.endswith("/chat/completions")
        if body.get("stream"):
            chunks = self._stream(body, words, pause, chat)
            return StreamingResponse(chunks, media_type="text/event-stream")
        await asyncio.sleep(words * pause)
        return JSONResponse(self._whole(body, words, chat) | {"headers": dict(request.headers)})

    def _head(self, kind: str) -> dict[str, Any]:
        return {
            "id": f"cmpl-{time.time_ns()}",
            "object": kind,
            "created": int(time.time()),
            "model": self.served_name,
            "system_fingerprint": str(os.getpid()),
        }

    def _whole(self, body: dict[str, Any], words: int, chat: bool) -> dict[str, Any]:
        text = " ".join(f"w{index}" for index in range(words))
        choice: dict[str, Any] = {"index": 0, "finish_reason": "stop", "logprobs": None}
        if chat:
            choice["message"] = {"role": "assistant", "content": text}
        else:
            choice["text"] = text
        usage = {"prompt_tokens": 3, "completion_tokens": words, "total_tokens": words + 3}
        head = self._head("chat.completion" if chat else "text_completion")
        return head | {"choices": [choice], "usage": usage, "echo": body}

    async def _stream(
        self, body: dict[str, Any], words: int, pause: float, chat: bool
    ) -> AsyncIterator[str]:
        head = self._head("chat.completion.chunk" if chat else "text_completion")
        for index in range(words):
            choice: dict[str, Any] = {"index": 0, "logprobs": None}
            choice["finish_reason"] = "stop" if index == words - 1 else None
            if chat:
                choice["delta"] = {"content": f"w{index} "}
            else:
                choice["text"] = f"w{index} "
            yield f"data: {json.dumps(head | {'choices': [choice]})}\n\n"
            await asyncio.sleep(pause)
        options = body.get("stream_options")
        if isinstance(options, dict) and options.get("include_usage"):
            usage = {"prompt_tokens": 3, "completion_tokens": words, "total_tokens": words + 3}
            yield f"data: {json.dumps(head | {'choices': [], 'usage': usage})}\n\n"
        yield "data: [DONE]\n\n"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--served-model-name", required=True)
    parser.add_argument("--startup-s", type=float, default=0.0)
    parser.add_argument("--exit-code", type=int)
    parser.add_argument("--become", default="well")
    parser.add_argument("--enable-sleep-mode", action="store_true")
    options = parser.parse_args()
    time.sleep(options.startup_s)
    if options.exit_code is not None:
        sys.stderr.write("the fake engine was told to fail\n")
        raise SystemExit(options.exit_code)
    engine = FakeEngine(options.served_model_name)
    engine.be(options.become)
    routes = [
        Route("/health", engine.health),
        Route("/become/{what}", engine.become, methods=["POST"]),
        Route("/v1/models", engine.models),
        Route("/v1/chat/completions", engine.complete, methods=["POST"]),
        Route("/v1/completions", engine.complete, methods=["POST"]),
    ]
    app: ASGIApp = Starlette(routes=routes)
    if options.enable_sleep_mode:
        app = importlib.import_module("fake_sleep").SleepMode(app)
    uvicorn.run(app, host=options.host, port=options.port, log_level="warning")


if __name__ == "__main__":
    main()
