"""The store of answers dies, hangs, is full or talks nonsense: no request fails, few wait."""

import asyncio
import itertools
import os
import signal
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest
import redis

from serving.cache_store import CacheAddressError, CacheStore
from serving.health import free_port
from tests.serving.cache_support import (
    CHAT,
    PATIENT_S,
    FakeReplica,
    chat,
    gateway,
    put,
    served,
    valkey,
)
from tests.serving.serving_support import bearer

# They measure how long callers wait.
pytestmark = pytest.mark.alone

TIMEOUT_S = 0.05
QUESTIONS = itertools.count()


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture(params=[TIMEOUT_S])
def ask(
    request: pytest.FixtureRequest, tmp_path: Path, port: int
) -> Iterator[Callable[..., httpx.Response]]:
    """Asks a gateway with the timeout of production, or another; its cache is at `port`."""
    url = f"redis://127.0.0.1:{port}/0"
    with (
        served(FakeReplica("one").app()) as replica,
        gateway(tmp_path, url, request.param) as gate,
        httpx.Client(
            base_url=gate.url, headers=bearer(gate.key), timeout=30, verify=False
        ) as client,
    ):
        put(tmp_path, replica)
        yield lambda content: client.post(CHAT, json=chat(content))


def seconds_of(ask: Callable[..., httpx.Response], number: int) -> float:
    """Ask so many new questions, of which none may fail."""
    began = time.monotonic()
    for _ in range(number):
        answer = ask(f"question {next(QUESTIONS)}")
        assert (answer.status_code, answer.headers["x-ftdm-cache"]) == (200, "miss")
    return time.monotonic() - began


def hits_again(ask: Callable[..., httpx.Response]) -> bool:
    end = time.monotonic() + 10
    while time.monotonic() < end:
        if ask("again").headers["x-ftdm-cache"] == "hit":
            return True
        time.sleep(0.05)
    return False


def test_a_killed_store_costs_no_request_and_comes_back(
    ask: Callable[..., httpx.Response], port: int
) -> None:
    with valkey(port) as process:
        assert hits_again(ask)
        process.kill()
        process.wait()
        seconds_of(ask, 20)
    with valkey(port):
        assert hits_again(ask)


def test_a_hanging_store_is_waited_for_once(ask: Callable[..., httpx.Response], port: int) -> None:
    with valkey(port) as process:
        assert hits_again(ask)
        healthy = seconds_of(ask, 20)
        process.send_signal(signal.SIGSTOP)
        hanging = seconds_of(ask, 20)
        # Waiting each time, to read and to keep, would be 2 s.
        assert hanging < healthy + 1.0
        process.send_signal(signal.SIGCONT)
        assert hits_again(ask)


@pytest.mark.parametrize("ask", [PATIENT_S], indirect=True)
def test_a_full_store_is_still_read(ask: Callable[..., httpx.Response], port: int) -> None:
    with valkey(port, "--maxmemory", "0") as process:
        assert hits_again(ask)
        with redis.Redis(port=port) as admin:
            admin.config_set("maxmemory-policy", "noeviction")
            admin.config_set("maxmemory", "1kb")
        seconds_of(ask, 20)
        assert ask("again").headers["x-ftdm-cache"] == "hit"
        assert process.poll() is None


NONSENSE = {
    "nothing": b"",
    "a number": b":1\r\n",
    "another text": b"$5\r\nhello\r\n",
    "an endless text": b"$999999999\r\nhello",
    "a deep list": b"*1\r\n" * 2000,
    "no protocol": bytes(range(256)) * 4,
    "a web server": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "an error": b"-LOADING not yet\r\n",
}


@contextmanager
def nonsense(
    port: int, reply: bytes, *, closes: bool = False, pause_s: float = 0.0
) -> Iterator[None]:
    """Answer whatever comes with these bytes."""

    def speak(link: socket.socket) -> None:
        with link:
            while link.recv(65536):
                time.sleep(pause_s)
                link.sendall(reply)
                if closes:
                    return

    def listen() -> None:
        while True:
            try:
                link, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=swallow, args=(link,), daemon=True).start()

    def swallow(link: socket.socket) -> None:
        with suppress(OSError):
            speak(link)

    listener = socket.create_server(("127.0.0.1", port))
    thread = threading.Thread(target=listen)
    thread.start()
    try:
        yield
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)


@pytest.mark.parametrize("closes", [False, True])
def test_a_store_that_talks_nonsense(
    ask: Callable[..., httpx.Response], port: int, closes: bool
) -> None:
    for reply in NONSENSE.values():
        with nonsense(port, reply, closes=closes):
            seconds_of(ask, 3)
    with valkey(port):
        assert hits_again(ask)


def test_a_store_that_is_killed_and_stopped_under_load(
    ask: Callable[..., httpx.Response], port: int
) -> None:
    stop, codes = threading.Event(), list[int]()

    def load() -> None:
        while not stop.is_set():
            codes.append(ask(f"question {next(QUESTIONS) % 20}").status_code)

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    for harm in (signal.SIGKILL, signal.SIGSTOP, signal.SIGKILL):
        with valkey(port) as process:
            time.sleep(0.2)
            os.kill(process.pid, harm)
            time.sleep(0.2)
    stop.set()
    for thread in threads:
        thread.join(30)
    assert len(codes) > 20
    assert set(codes) == {200}


def asked(
    port: int, asking: Callable[[CacheStore], Awaitable[None]], timeout_s: float = PATIENT_S
) -> None:
    async def run() -> None:
        store = CacheStore(f"redis://127.0.0.1:{port}/0", timeout_s, retry_s=0.1)
        try:
            await asking(store)
        finally:
            await store.close()

    asyncio.run(run())


async def is_back(store: CacheStore) -> None:
    async with asyncio.timeout(10):
        while store.passed_over:
            await asyncio.sleep(0.01)


def test_a_store_that_failed_is_not_asked_until_it_answers(port: int) -> None:
    async def asking(store: CacheStore) -> None:
        await store.put("a", b"b", 60)
        assert await store.get("a") == b"b"
        process.send_signal(signal.SIGSTOP)
        began = time.monotonic()
        assert await asyncio.gather(*(store.get("a") for _ in range(100))) == [None] * 100
        assert time.monotonic() - began < 10 * 0.3  # Together, not one after the other.
        assert store.passed_over
        began = time.monotonic()
        for _ in range(1000):
            assert await store.get("a") is None
        assert time.monotonic() - began < 0.3
        await asyncio.sleep(0.5)
        assert store.passed_over
        process.send_signal(signal.SIGCONT)
        await is_back(store)
        assert await store.get("a") == b"b"

    with valkey(port) as process:
        asked(port, asking, 0.3)


def test_a_store_that_is_always_late_is_passed_over(port: int) -> None:
    async def asking(store: CacheStore) -> None:
        seen = []
        for _ in range(3):
            seen.append(store.passed_over)
            assert await store.get("a") is None
        assert [*seen, store.passed_over] == [False, False, False, True]
        await asyncio.sleep(0.3)
        assert store.passed_over

    with nonsense(port, b"$-1\r\n", pause_s=0.25):
        asked(port, asking, 0.4)


@pytest.mark.parametrize("url", ["", "cache:6379", "http://cache", "redis://:secret@cache:no/0"])
def test_an_address_that_is_none(url: str) -> None:
    with pytest.raises(CacheAddressError, match="FTDM_CACHE_URL is no address") as error:
        CacheStore(url)
    assert "secret" not in str(error.value)


def test_the_store_is_bounded(port: int) -> None:
    async def asking(store: CacheStore) -> None:
        for number in range(400):
            await store.put(f"n{number}", os.urandom(20_000), 60)
        assert await store.get("n399") is not None
        await store.put("large", b"x" * 262_145, 60)
        assert await store.get("large") is None

    with valkey(port, "--maxmemory", "4mb", "--maxmemory-policy", "allkeys-lru"):
        asked(port, asking)
        with redis.Redis(port=port) as admin:
            assert admin.info("memory")["used_memory"] < 6 * 1024 * 1024
            assert 0 < admin.dbsize() < 300
            assert 0 < admin.ttl("n399") <= 60
