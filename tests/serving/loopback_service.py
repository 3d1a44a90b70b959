"""A cluster's names and Services on loopback: every host has an address of its own in 127/8."""

import hashlib
import random
import selectors
import socket
import threading
from collections.abc import Callable

Endpoints = Callable[[], list[tuple[str, int]]]


def loopback_hosts(seed: str) -> Callable[[str], str]:
    """Return how hosts are called: by an address that follows from their name."""

    def host(name: str) -> str:
        mark = hashlib.sha256(f"{seed}:{name}".encode()).digest()
        return f"127.{mark[0] % 200 + 10}.{mark[1]}.{mark[2] % 254 + 1}"

    return host


class LoopbackService:
    """Passes each connection on to one of the endpoints that are ready when it is opened."""

    def __init__(self, host: str, port: int, endpoints: Endpoints) -> None:
        self._endpoints = endpoints
        self._listener = socket.create_server((host, port), backlog=128)
        self._closed = False
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._closed = True
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while not self._closed:
            try:
                caller, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(caller,), daemon=True).start()

    def _serve(self, caller: socket.socket) -> None:
        ready = self._endpoints()
        with caller:
            if not ready:
                return
            try:
                endpoint = socket.create_connection(random.choice(ready), timeout=2)
            except OSError:
                return
            with endpoint:
                endpoint.settimeout(None)
                _pass_on(caller, endpoint)


def _pass_on(one: socket.socket, other: socket.socket) -> None:
    """Carry what either says to the other until one of them closes."""
    with selectors.DefaultSelector() as chosen:
        chosen.register(one, selectors.EVENT_READ, other)
        chosen.register(other, selectors.EVENT_READ, one)
        while True:
            for key, _ in chosen.select():
                source: socket.socket = key.fileobj  # type: ignore[assignment]
                try:
                    said = source.recv(65536)
                    if not said:
                        return
                    key.data.sendall(said)
                except OSError:
                    return
