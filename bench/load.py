"""A fast fake upstream and a caller, each a process of its own, for the benches of the gateway.

`python -m bench.load upstream --port P` answers every POST at once with one chat completion, every
GET with 200. `python -m bench.load ask --url URL --model NAME` prints one line of JSON: with
`--rate R` requests are sent at their times, whatever became of those before (an open loop), and a
latency counts from when its request was due; without it, `--connections N` ask as fast as they are
answered.
"""

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from typing import Any

import aiohttp
import uvloop

from serving.engine import HOST
from serving.health import free_port, get_json

PATH = "/v1/chat/completions"
_KEY = "FTDM_BENCH_KEY"
_READY_S, _ASK_MORE_S = 300.0, 60.0
_MESSAGES = [{"role": "user", "content": "where is my order? " * 8}]
_ANSWER = json.dumps(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "served",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "order_cancel"},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 40, "completion_tokens": 4, "total_tokens": 44},
        # The same answer for every path, so also to who asks it for its identity.
        "data": [{"id": "served"}],
    }
).encode()


@dataclass(frozen=True)
class Found:
    """What a caller measured: answers per second, latencies in milliseconds, failures."""

    per_second: float
    p50_ms: float
    p99_ms: float
    failed: int


class _Upstream(asyncio.Protocol):
    """HTTP/1.1 kept alive, just enough of it: a server that costs next to nothing."""

    _head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    _whole = _head % len(_ANSWER) + _ANSWER

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin with nothing received."""
        self._transport: Any = transport
        self._received = b""

    def data_received(self, data: bytes) -> None:
        """Answer each request that is whole."""
        self._received += data
        while b"\r\n\r\n" in self._received:
            head, _, rest = self._received.partition(b"\r\n\r\n")
            _, _, length = head.lower().partition(b"content-length:")
            body = int(length.split(b"\r\n")[0] or 0)
            if len(rest) < body:
                return
            self._received = rest[body:]
            self._transport.write(self._whole)


async def _serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(_Upstream, HOST, port)
    await server.serve_forever()


@contextmanager
def running(command: list[str], url: str, **how: Any) -> Iterator[int]:
    """Run a server until the context ends; yields its process id once `url` answers.

    Raises:
        SystemExit: It ends, or does not answer in time.
    """
    with subprocess.Popen(command, **how) as process:
        try:
            end = time.monotonic() + _READY_S
            while get_json(url)[0] != 200:
                if process.poll() is not None or time.monotonic() > end:
                    raise SystemExit(f"{' '.join(command)} does not answer on {url}")
                time.sleep(0.1)
            yield process.pid
        finally:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.kill()


@contextmanager
def fake_upstream() -> Iterator[str]:
    """Run the fake upstream; yields its address."""
    port = free_port()
    url = f"http://{HOST}:{port}"
    with running([sys.executable, "-m", "bench.load", "upstream", "--port", str(port)], url):
        yield url


def ask(
    url: str, model: str, seconds: float, *, rate: int = 0, connections: int = 16, key: str = ""
) -> Found:
    """Ask from a process of its own; `rate` 0 means as fast as `connections` are answered.

    Raises:
        SystemExit: The caller fails, or nothing is answered.
    """
    command = [sys.executable, "-m", "bench.load", "ask", "--url", url, "--model", model]
    command += ["--rate", str(rate), "--connections", str(connections), "--seconds", str(seconds)]
    try:
        done = subprocess.run(
            command,
            env=os.environ | {_KEY: key},
            capture_output=True,
            text=True,
            timeout=seconds + _ASK_MORE_S,
            check=True,
        )
    except subprocess.CalledProcessError as error:
        raise SystemExit(f"the caller of {url} failed:\n{error.stderr}") from error
    return Found(**json.loads(done.stdout))


class _Caller:
    """One session of requests, and what became of them."""

    def __init__(self, session: aiohttp.ClientSession, url: str, model: str) -> None:
        self._session, self._url = session, url
        self._body = json.dumps({"model": model, "messages": _MESSAGES}).encode()
        self.seconds: list[float] = []
        self.failed = 0

    async def once(self, due: float) -> None:
        try:
            async with self._session.post(self._url, data=self._body) as answer:
                content = await answer.read()
            if answer.status == 200 and b"order_cancel" in content:
                self.seconds.append(time.perf_counter() - due)
                return
        except (TimeoutError, aiohttp.ClientError):
            pass
        self.failed += 1

    async def until(self, end: float) -> None:
        while (now := time.perf_counter()) < end:
            await self.once(now)

    async def at_rate(self, rate: int, seconds: float) -> None:
        start = time.perf_counter()
        async with asyncio.TaskGroup() as tasks:
            for number in range(round(rate * seconds)):
                due = start + number / rate
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                tasks.create_task(self.once(due))


async def _ask(options: argparse.Namespace) -> Found:
    headers = {"content-type": "application/json"}
    if key := os.environ.get(_KEY):
        headers["authorization"] = f"Bearer {key}"
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=30)
    async with aiohttp.ClientSession(
        connector=connector, timeout=timeout, headers=headers
    ) as session:
        caller = _Caller(session, options.url, options.model)
        start = time.perf_counter()
        if options.rate:
            await caller.at_rate(options.rate, options.seconds)
        else:
            end = start + options.seconds
            await asyncio.gather(*(caller.until(end) for _ in range(options.connections)))
        taken = time.perf_counter() - start
    if len(caller.seconds) < 2:
        raise SystemExit(f"{options.url} answered nothing rightly; {caller.failed} failed")
    cuts = statistics.quantiles(caller.seconds, n=100)
    return Found(len(caller.seconds) / taken, cuts[49] * 1e3, cuts[98] * 1e3, caller.failed)


def main() -> None:
    """Be the upstream, or ask."""
    parser = argparse.ArgumentParser(prog="python -m bench.load")
    parser.add_argument("part", choices=("upstream", "ask"))
    parser.add_argument("--port", type=int)
    parser.add_argument("--url")
    parser.add_argument("--model")
    parser.add_argument("--rate", type=int, default=0, help="requests a second")
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=5.0)
    options = parser.parse_args()
    if options.part == "upstream":
        uvloop.run(_serve(options.port))
    else:
        print(json.dumps(asdict(uvloop.run(_ask(options)))))


if __name__ == "__main__":
    main()
