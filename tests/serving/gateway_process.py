"""A gateway in a process of its own, with one fake replica behind it, and raw bytes to it."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from serving.api_keys import Grant, KeyStore
from serving.health import free_port, get_json, serves
from serving.pointer import PointerStore
from tests.serving.serving_support import FAKE, MODEL, unasked
from tests.serving.test_gateway import a_version


@dataclass(frozen=True)
class GatewayProcess:
    """Where it listens, its process, and keys for it."""

    home: Path
    port: int
    process: "subprocess.Popen[bytes]"
    key: str
    admin_key: str
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @contextmanager
    def connection(self, timeout_s: float = 30.0) -> Iterator[socket.socket]:
        with socket.create_connection(("127.0.0.1", self.port), timeout_s) as one:
            yield one

    def told(self, request: bytes) -> bytes:
        """Send bytes as they are; return all that comes back until the gateway closes."""
        with self.connection() as one:
            one.sendall(request)
            return everything(one)

    def request(self, line: bytes, *headers: bytes, body: bytes = b"") -> bytes:
        """Send one request with the key, after which the connection ends."""
        lines = [line + b" HTTP/1.1", b"Host: gateway", b"Connection: close", *headers]
        lines.append(b"Authorization: Bearer " + self.key.encode())
        if body:
            lines.append(b"Content-Length: %d" % len(body))
        return self.told(b"\r\n".join((*lines, b"", body)))


def everything(one: socket.socket) -> bytes:
    """Return what comes until the other side closes; a reset is an end as well."""
    told = b""
    try:
        while piece := one.recv(65536):
            told += piece
    except ConnectionResetError:
        pass
    return told


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


@contextmanager
def gateway_process(
    home: Path, *, arguments: tuple[str, ...] = (), environment: Mapping[str, str] | None = None
) -> Iterator[GatewayProcess]:
    """Run both; versions 1 and 2 are up, 2 is in production."""
    replica, port, log = free_port(), free_port(), home / "gateway.log"
    url = f"http://127.0.0.1:{replica}"
    with PointerStore(home) as store, KeyStore(home) as keys:
        for number in (1, 2):
            store.record_version(a_version(url, number))
            store.promote(MODEL, f"v{number:04d}", by="t", reason="r", admit=unasked)
        key = keys.new(Grant("caller"), by="t").text
        admin = keys.new(Grant("operator", admin=True), by="t").text
    fake = [sys.executable, str(FAKE), "--port", str(replica), "--served-model-name", "served"]
    command = [sys.executable, "-m", "serving.gateway", "--home", str(home), "--port", str(port)]
    variables = os.environ | dict(environment or {})
    with (
        log.open("wb") as out,
        subprocess.Popen(fake) as engine,
        subprocess.Popen([*command, *arguments], env=variables, stdout=out, stderr=out) as process,
    ):
        try:
            up = f"http://127.0.0.1:{port}/health"
            while not serves(url, "served") or get_json(up)[0] != 200:
                assert engine.poll() is None
                assert process.poll() is None, log.read_text()
                time.sleep(0.02)
            yield GatewayProcess(home, port, process, key, admin, log)
        finally:
            process.kill()
            engine.kill()
