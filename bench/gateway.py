"""What the gateway adds to a request: the same fake upstream asked directly and through it.

Run as ``python -m bench.gateway [--rate 200] [--seconds 10]``. Requests are sent at their times,
whatever became of those before (an open loop), and a latency counts from the time at which its
request was due: a gateway that falls behind cannot hide it. Direct and through the gateway take
turns of one second, so that both meet the same machine. Upstream, gateway and caller are processes
of their own; the upstream answers at once. The processor time that the gateway takes for a request
is printed beside, since it hardly depends on what else the machine does.
"""

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import uvicorn

from ftdm_assets.provenance.digests import file_digest
from serving.health import get_json, port_is_free
from serving.local_key import local_key
from serving.pointer import PointerStore
from serving.versions import Version

MODEL = "bench"
_PATH = "/v1/chat/completions"
_WAIT_S = 30.0
_ANSWER = (
    b'{"id":"x","object":"chat.completion","created":0,"model":"served","choices":[{"index":0,'
    b'"message":{"role":"assistant","content":"order_cancel"},"finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":40,"completion_tokens":4,"total_tokens":44}}'
)


@dataclass(frozen=True)
class Latencies:
    """Seconds from when each request was due to the end of its answer; how many failed."""

    seconds: list[float]
    failed: int

    def at(self, share: float) -> float:
        """Return a percentile in milliseconds."""
        return statistics.quantiles(self.seconds, n=1000)[round(share * 1000) - 1] * 1e3


async def _upstream(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] != "http":
        return
    while (await receive()).get("more_body"):
        pass
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(_ANSWER))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": _ANSWER})


@contextmanager
def _serving(command: list[str], url: str) -> Iterator[int]:
    with subprocess.Popen(command) as process:
        try:
            end = time.monotonic() + _WAIT_S
            while get_json(url)[0] != 200:
                if process.poll() is not None or time.monotonic() > end:
                    raise SystemExit(f"{' '.join(command)} does not answer on {url}")
                time.sleep(0.05)
            yield process.pid
        finally:
            process.terminate()


def _processor_s(pid: int) -> float:
    """Return the seconds of processor time that a process has taken, in all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(") ")[-1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def _ask(session: aiohttp.ClientSession, url: str, due: float) -> float | None:
    body = {"model": MODEL, "messages": [{"role": "user", "content": "where is it? " * 10}]}
    try:
        async with session.post(url, json=body) as answer:
            await answer.read()
            return time.perf_counter() - due if answer.status == 200 else None
    except aiohttp.ClientError:
        return None


async def _second(session: aiohttp.ClientSession, url: str, rate: int) -> list[float | None]:
    """Send a second's requests, each at its time."""
    start, tasks = time.perf_counter(), []
    for number in range(rate):
        due = start + number / rate
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        tasks.append(asyncio.create_task(_ask(session, url, due)))
    return await asyncio.gather(*tasks)


async def _compare(
    urls: dict[str, str], headers: dict[str, str], rate: int, seconds: int
) -> dict[str, Latencies]:
    found: dict[str, list[float | None]] = {name: [] for name in urls}
    timeout = aiohttp.ClientTimeout(total=30)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(
        connector=connector, timeout=timeout, headers=headers
    ) as session:
        for url in urls.values():
            await _second(session, url, rate)
        for _ in range(seconds):
            for name, url in urls.items():
                found[name] += await _second(session, url, rate)
    return {
        name: Latencies([one for one in all_ if one is not None], all_.count(None))
        for name, all_ in found.items()
    }


def _home(folder: Path, upstream: str) -> None:
    version = Version(
        MODEL, f"{MODEL}-v0001", file_digest(Path(__file__)), folder, "served", 2048, "bfloat16",
        router_url=upstream, state="ready",
    )  # fmt: skip
    with PointerStore(folder) as store:
        store.record_version(version)
        store.promote(MODEL, version.version, by="bench", reason="bench", admit=lambda _: None)


def _free_port() -> int:
    return next(port for port in range(30000, 40000) if port_is_free("127.0.0.1", port))


def main() -> None:
    """Print p50 and p99 of both, and what the gateway adds."""
    parser = argparse.ArgumentParser(prog="python -m bench.gateway")
    parser.add_argument("--rate", type=int, default=200, help="requests a second")
    parser.add_argument("--seconds", type=int, default=10, help="seconds of each")
    parser.add_argument("--upstream", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.upstream:
        uvicorn.run(_upstream, port=options.upstream, log_level="warning", access_log=False)
        return
    with tempfile.TemporaryDirectory(prefix="ftdm-bench-") as name:
        folder, port = Path(name), _free_port()
        upstream = f"http://127.0.0.1:{port}"
        _home(folder, upstream)
        fake = [sys.executable, "-m", "bench.gateway", "--upstream", str(port)]
        with _serving(fake, f"{upstream}/health"):
            port = _free_port()
            gateway = f"http://127.0.0.1:{port}"
            command = [sys.executable, "-m", "serving.gateway", "--home", name, "--port", str(port)]
            with _serving(command, f"{gateway}/health") as pid:
                urls = {"direct": upstream + _PATH, "through the gateway": gateway + _PATH}
                before = _processor_s(pid)
                key = {"Authorization": f"Bearer {local_key(folder)}"}
                found = asyncio.run(_compare(urls, key, options.rate, options.seconds))
                taken = _processor_s(pid) - before
    _show(found, options.rate)
    # Its first second, which warms up, counts here only.
    asked = options.rate * (options.seconds + 1)
    print(f"{'':20} {taken / asked * 1e3:.2f} ms of processor time a request")


def _show(found: dict[str, Latencies], rate: int) -> None:
    print(f"{rate} requests a second, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    for name, one in found.items():
        print(
            f"{name:20} p50 {one.at(0.5):7.2f} ms  p99 {one.at(0.99):7.2f} ms  "
            f"{len(one.seconds)} answered, {one.failed} failed"
        )
    direct, through = found.values()
    added = [through.at(share) - direct.at(share) for share in (0.5, 0.99)]
    print(f"{'the gateway adds':20} p50 {added[0]:7.2f} ms  p99 {added[1]:7.2f} ms")


if __name__ == "__main__":
    main()
