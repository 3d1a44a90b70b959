"""What takes no key takes no place for long: slow and endless heads, answers that nobody reads."""

import asyncio
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from serving.connection import ConnectionLimits, bounded
from serving.health import free_port
from tests.serving.gateway_process import everything, status

pytestmark = pytest.mark.alone
LIMITS = ConnectionLimits(0.5, 4096, 2.0, 0.5)
HELLO = b"GET /hello HTTP/1.1\r\nHost: a\r\n"


@dataclass
class Served:
    """An application behind the bounded protocol, and what became of its endless answer."""

    port: int = field(default_factory=free_port)
    ended: threading.Event = field(default_factory=threading.Event)

    async def hello(self, request: Request) -> Response:
        await asyncio.sleep(float(request.query_params.get("after", 0)))
        return JSONResponse({"hello": len(await request.body())})

    async def refuse(self, _: Request) -> Response:
        return JSONResponse({}, status_code=401)

    async def endless(self, _: Request) -> Response:
        return StreamingResponse(self._pieces())

    async def _pieces(self) -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"x" * 65536
                await asyncio.sleep(0)
        finally:
            self.ended.set()

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), 20)


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    one = Served()
    routes = [
        Route("/hello", one.hello, methods=["GET", "POST"]),
        Route("/refuse", one.refuse, methods=["POST"]),
        Route("/endless", one.endless),
    ]
    app = Starlette(routes=routes)
    config = uvicorn.Config(
        app, "127.0.0.1", one.port, http=bounded(LIMITS), ws="none", log_level="error"
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.005)
        yield one
    finally:
        server.should_exit = True
        thread.join(30)


def test_who_says_nothing_is_let_go(served: Served) -> None:
    with served.connect() as one:
        assert everything(one) == b""


def test_a_head_that_comes_byte_by_byte_is_not_waited_for(served: Served) -> None:
    told = b""
    with served.connect() as one:
        one.settimeout(0.05)
        for byte in HELLO + b"X: " + b"a" * 1000:
            one.sendall(bytes([byte]))
            try:
                told = one.recv(65536)
                break
            except TimeoutError:
                continue
    assert status(told) == 408
    assert b'"code":"request_timeout"' in told


def test_the_next_head_on_a_kept_connection_has_its_time_too(served: Served) -> None:
    with served.connect() as one:
        one.sendall(HELLO + b"\r\n")
        assert status(one.recv(65536)) == 200
        one.sendall(b"GET /hel")
        assert status(everything(one)) == 408


def test_an_answer_under_way_is_finished_first(served: Served) -> None:
    with served.connect() as one:
        one.sendall(b"GET /hello?after=1.5 HTTP/1.1\r\nHost: a\r\n\r\nGET /hel")
        told = everything(one)
    assert status(told) == 200
    assert told.count(b"HTTP/1.1 ") == 2
    assert b"HTTP/1.1 408 " in told


@pytest.mark.parametrize("start", [HELLO + b"X: ", HELLO, b"GET /"])
def test_a_head_without_end_is_refused(served: Served, start: bytes) -> None:
    more = b"a: b\r\n" * 1000 if start is HELLO else b"a" * 6000
    with served.connect() as one:
        one.sendall(start + more)
        told = everything(one)
    assert status(told) == 431
    assert b'"code":"headers_too_large"' in told


def test_a_large_body_is_no_large_head(served: Served) -> None:
    with served.connect() as one:
        size = 3_000_000
        one.sendall(b"POST /hello HTTP/1.1\r\nHost: a\r\nConnection: close\r\n")
        one.sendall(b"Content-Length: %d\r\n\r\n" % size + b"a" * size)
        told = everything(one)
    assert status(told) == 200
    assert told.endswith(b'{"hello":3000000}')


def test_the_rest_of_what_is_answered_is_not_read_for_ever(served: Served) -> None:
    with served.connect() as one:
        one.sendall(b"POST /refuse HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n")
        assert status(one.recv(65536)) == 401
        with pytest.raises(ConnectionError):
            _send_on(one)


def _send_on(one: socket.socket) -> None:
    while True:
        one.sendall(b"a" * 1000)
        time.sleep(0.02)


def test_who_does_not_read_is_cut_off(served: Served) -> None:
    with served.connect() as one:
        one.sendall(b"GET /endless HTTP/1.1\r\nHost: a\r\n\r\n")
        assert served.ended.wait(20)


def test_who_reads_slowly_is_not(served: Served) -> None:
    with served.connect() as one:
        served.ended.clear()
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        one.sendall(b"GET /endless HTTP/1.1\r\nHost: a\r\n\r\n")
        end = time.monotonic() + 1.5 * LIMITS.unread_timeout_s
        while time.monotonic() < end:
            assert one.recv(4_000_000)
            time.sleep(0.01)
        assert not served.ended.is_set()
