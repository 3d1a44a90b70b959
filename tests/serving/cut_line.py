"""A line to Postgres that breaks at the moment of a commit: before the server has it, or after."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Literal
from urllib.parse import urlsplit, urlunsplit

_COMMIT = b"COMMIT\0"


class CutLine:
    """Passes bytes between clients and the server; `cuts` is how often it still breaks."""

    def __init__(self, url: str, moment: Literal["before", "after"]) -> None:
        self._to = urlsplit(url)
        self._moment, self.cuts = moment, 0
        self._sockets: list[socket.socket] = []
        self._door = socket.create_server(("127.0.0.1", 0))
        port = self._door.getsockname()[1]
        where = self._to.netloc.replace(f":{self._to.port}", f":{port}")
        self.url = urlunsplit(self._to._replace(netloc=where))

    def run(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._door.accept()
                server = socket.create_connection((str(self._to.hostname), self._to.port or 0))
                self._sockets += [client, server]
                # Set: the client hears nothing more, and the line breaks when the commit was made.
                muted = threading.Event()
                for way in (self._ask, self._answer):
                    pair = (client, server, muted)
                    threading.Thread(target=way, args=pair, daemon=True).start()

    def close(self) -> None:
        # Wakes the accept, as close does not.
        self._door.shutdown(socket.SHUT_RDWR)
        self._door.close()
        _end(*self._sockets)
        for one in self._sockets:
            one.close()

    def _ask(self, client: socket.socket, server: socket.socket, muted: threading.Event) -> None:
        with suppress(OSError):
            while data := client.recv(65536):
                if _COMMIT in data and self.cuts > 0:
                    self.cuts -= 1
                    if self._moment == "before":
                        break
                    muted.set()
                server.sendall(data)
        _end(client, server)

    def _answer(self, client: socket.socket, server: socket.socket, muted: threading.Event) -> None:
        with suppress(OSError):
            while data := server.recv(65536):
                if not muted.is_set():
                    client.sendall(data)
                elif _COMMIT in data:
                    # The server's word that it was done looks like the statement.
                    break
        _end(client, server)


def _end(*sockets: socket.socket) -> None:
    for one in sockets:
        with suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)


@contextmanager
def cut_line(url: str, moment: Literal["before", "after"]) -> Iterator[CutLine]:
    """Run one for as long as the context lasts."""
    line = CutLine(url, moment)
    thread = threading.Thread(target=line.run, daemon=True)
    thread.start()
    try:
        yield line
    finally:
        line.close()
        thread.join(10)
