"""What the result cache costs and saves: `python -m bench.result_cache` (`--rate`, `--seconds`).

A gateway in a process of its own, as `ftdm up` starts it, the stack's Valkey, and a replica that
answers after 20 ms. Every question is asked once (misses), then at a steady rate whatever the
answers take (hits), then past the cache. Latencies are the caller's, in milliseconds; `cpu` is the
gateway's own processor time for one request. The machine should have nothing else to do.
"""

import argparse
import asyncio
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from serving import stack_programs
from serving.health import get_json
from serving.local_key import local_key
from serving.pointer import PointerStore
from serving.versions import Replica, Version

MODEL, QUESTIONS, REPLICA_S = "bench", 200, 0.02
GATEWAY, CACHE, METRICS, REPLICA = 18321, 18379, 18323, 18400
CHAT = "/v1/chat/completions"


def main() -> None:
    """Measure and print one line of JSON for each kind."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rate", type=int, default=300)
    parser.add_argument("--seconds", type=int, default=10)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder)) as gateway:
        key = {"authorization": f"Bearer {local_key(Path(folder))}"}
        asyncio.run(measure(gateway, key, options.rate, options.seconds))


async def measure(gateway: psutil.Process, key: dict[str, str], rate: int, seconds: int) -> None:
    """Ask as the module's docstring says."""
    config = uvicorn.Config(replica(), port=REPLICA, log_level="warning", access_log=False)
    server = uvicorn.Server(config)
    running = asyncio.create_task(server.serve())
    url, connector = f"http://127.0.0.1:{GATEWAY}", aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(url, connector=connector, headers=key) as client:
        for kind, number, headers in (
            ("miss", QUESTIONS, {}),
            ("hit", rate * seconds, {}),
            ("off", min(rate, 100) * seconds, {"x-ftdm-cache": "off"}),
        ):
            before = sum(gateway.cpu_times()[:2])
            pace = 1 / (rate if kind == "hit" else 100)
            words, taken = await ask_all(client, number, pace, headers)
            cpu = (sum(gateway.cpu_times()[:2]) - before) / number
            print(json.dumps(summary(kind, words, taken, cpu)))
    server.should_exit = True
    await running


async def ask_all(
    client: aiohttp.ClientSession, number: int, pace_s: float, headers: dict[str, str]
) -> tuple[list[str], list[float]]:
    """Send a request every `pace_s`, whatever the others do; return words and latencies."""

    async def ask(index: int) -> tuple[str, float]:
        content = f"Where is parcel {index % QUESTIONS}? " + "It was sent last week. " * 20
        body = {"model": MODEL, "messages": [{"role": "user", "content": content}]}
        began = time.perf_counter()
        async with client.post(CHAT, json=body, headers=headers) as answer:
            await answer.read()
            return answer.headers["x-ftdm-cache"], (time.perf_counter() - began) * 1000

    start, tasks = time.perf_counter(), []
    for index in range(number):
        await asyncio.sleep(max(0.0, start + index * pace_s - time.perf_counter()))
        tasks.append(asyncio.create_task(ask(index)))
    words, taken = zip(*await asyncio.gather(*tasks), strict=True)
    return list(words), sorted(taken)


def summary(kind: str, words: list[str], taken: list[float], cpu_s: float) -> dict[str, Any]:
    """Return what is told of one kind of request."""
    p99 = taken[math.ceil(0.99 * len(taken)) - 1]
    return {
        "asked": len(words),
        kind: words.count(kind),
        "p50_ms": round(statistics.median(taken), 2),
        "p99_ms": round(p99, 2),
        "cpu_ms": round(cpu_s * 1000, 2),
    }


def replica() -> Starlette:
    """Return a replica that gives one answer."""

    async def complete(request: Request) -> Response:
        body = await request.json()
        await asyncio.sleep(REPLICA_S)
        message = {"role": "assistant", "content": "delivery_delayed"}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        head = {"id": "a", "object": "chat.completion", "created": 1, "model": body["model"]}
        usage = {"prompt_tokens": 120, "completion_tokens": 4, "total_tokens": 124}
        return JSONResponse({**head, "choices": [choice], "usage": usage})

    async def models(_: Request) -> Response:
        return JSONResponse({"object": "list", "data": [{"id": "served"}]})

    return Starlette(routes=[Route(CHAT, complete, methods=["POST"]), Route("/v1/models", models)])


@contextmanager
def serving(home: Path) -> Iterator[psutil.Process]:
    """Run gateway and Valkey on a home with one version; yields the gateway's process."""
    generation = json.dumps({"temperature": 0.0})
    (home / "generation_config.json").write_text(generation, encoding="utf-8")
    with PointerStore(home) as store:
        store.record_version(
            Version(
                *(MODEL, f"{MODEL}-v0001", "0" * 64, home, "served", 2048, "bfloat16"),
                replicas=(Replica("replica", f"http://127.0.0.1:{REPLICA}", REPLICA, None),),
                state="ready",
            )
        )
        store.promote(MODEL, "v0001", by="bench", reason="bench", admit=lambda _: None)
    ports = stack_programs.Ports(GATEWAY, CACHE, METRICS)
    programs = stack_programs.cache(ports), stack_programs.gateway(home, ports)
    running = [
        subprocess.Popen(one.argv, env={**os.environ, **one.env}, stdout=sys.stderr, cwd=home)
        for one in programs
    ]
    try:
        while get_json(f"http://127.0.0.1:{GATEWAY}/health")[0] != 200:
            time.sleep(0.05)
        yield psutil.Process(running[1].pid)
    finally:
        for process in running:
            process.kill()
            process.wait(10)


if __name__ == "__main__":
    main()
