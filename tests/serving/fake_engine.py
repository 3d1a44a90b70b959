"""A small program that speaks vLLM's HTTP dialect, to stand in for a replica in fast tests.

`python fake_engine.py --port P --served-model-name NAME [--host H] [--startup-s S]
[--exit-code N]`.
[--exit-code N]`.
The last message steers the answer: `words=N pause=S` gives N words with S seconds between them,
`status=N` an error of that status, `hang` no answer at all. Every answer names this process
(`system_fingerprint` = pid) and echoes the request's fields and headers, so that a test can see
who answered and what arrived.
"""

import argparse
import asyncio
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


def _number(text: str, name: str, default: float) -> float:
    found = re.search(rf"{name}=([0-9.]+)", text)
    return float(found.group(1)) if found else default


def _prompt(body: dict[str, Any]) -> str:
    if "messages" in body:
        return str(body["messages"][-1]["content"])
    return str(body.get("prompt", ""))


class FakeEngine:
    """The routes of one fake replica."""

    def __init__(self, served_name: str) -> None:
        self.served_name = served_name

    async def health(self, _: Request) -> Response:
        return Response(status_code=200)

    async def models(self, _: Request) -> Response:
        entry = {"id": self.served_name, "object": "model", "created": 0, "owned_by": "vllm"}
        entry["max_model_len"] = 2048
        return JSONResponse({"object": "list", "data": [entry]})

    async def complete(self, request: Request) -> Response:
        body = await request.json()
        if body.get("model") != self.served_name:
            message = f"The model `{body.get('model')}` does not exist."
            error = {"message": message, "type": "NotFoundError", "param": "model", "code": 404}
            return JSONResponse({"error": error}, status_code=404)
        text = _prompt(body)
        if "hang" in text:
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
        if (body.get("stream_options") or {}).get("include_usage"):
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
    options = parser.parse_args()
    time.sleep(options.startup_s)
    if options.exit_code is not None:
        sys.stderr.write("the fake engine was told to fail\n")
        raise SystemExit(options.exit_code)
    engine = FakeEngine(options.served_model_name)
    routes = [
        Route("/health", engine.health),
        Route("/v1/models", engine.models),
        Route("/v1/chat/completions", engine.complete, methods=["POST"]),
        Route("/v1/completions", engine.complete, methods=["POST"]),
    ]
    app = Starlette(routes=routes)
    uvicorn.run(app, host=options.host, port=options.port, log_level="warning")


if __name__ == "__main__":
    main()
