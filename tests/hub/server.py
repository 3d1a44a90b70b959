"""A local Hugging Face Hub: the HTTP protocol that its real client speaks, for models and datasets.

It really stores what it is sent, by content, and gives it back at any commit: `with hub(folder) as
made: ...` and `HF_ENDPOINT=made.url`, `HF_HUB_DISABLE_XET=1`. A fault is a function that sees each
request first (`made.fault`) and answers, cuts the connection, or lets it pass:
`made.fault = on("PUT /lfs/", Request.cut, after=1)` cuts every upload of an object but the first.
"""

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.hub.protocol import route
from tests.hub.repos import Hub, RefusedError, Repo

TOKEN = "hf_the_token_of_the_tests"
Fault = Callable[["Request"], bool]


class FaultyHub(Hub):
    """A Hub that may fail."""

    fault: Fault = staticmethod(lambda _: False)


class Request(BaseHTTPRequestHandler):
    """One request."""

    hub: "FaultyHub"
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def answer(self, status: int, body: Any = b"", **headers: str) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def cut(self) -> bool:
        """Take a part of the request and close the connection without an answer."""
        self.rfile.read(int(self.headers.get("Content-Length") or 0) // 2)
        self.close_connection = True
        return True

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def handle_any(self) -> None:
        parts = urlsplit(self.path)
        self.where, self.query = unquote(parts.path), parse_qs(parts.query)
        self.hub.asked.append(f"{self.command} {self.where}")
        if self.hub.fault(self):
            return
        content = self.body()
        try:
            self._authorise()
            with self.hub.lock:
                route(self, content)
        except RefusedError as no:
            headers = {"X-Error-Message": str(no)} | ({"X-Error-Code": no.code} if no.code else {})
            self.answer(no.status, {"error": str(no)}, **headers)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = handle_any  # noqa: N815

    def _authorise(self) -> None:
        given = self.headers.get("Authorization")
        # What is uploaded to goes by a signed address, without a token.
        if given is not None and given != f"Bearer {TOKEN}":
            raise RefusedError(401, "Invalid credentials in Authorization header")

    def repo(self, kind: str | None, name: str, *, write: bool = False) -> Repo:
        repo = self.hub.repos.get(((kind or "models").rstrip("/"), name))
        known = self.headers.get("Authorization") is not None
        if repo is None or ((repo.private or write) and not known):
            raise RefusedError(404 if known else 401, "Repository not found", "RepoNotFound")
        return repo

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def hub(folder: Path) -> Iterator[FaultyHub]:
    """Run a Hub that keeps its objects in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    made = FaultyHub(folder)
    handler = type("Handler", (Request,), {"hub": made})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    made.url = f"http://127.0.0.1:{server.server_port}"
    yield made
    server.shutdown()
    thread.join()
    server.server_close()


def on(pattern: str, act: Fault, times: int = 10**9, after: int = 0) -> Fault:
    """Return a fault on requests like `METHOD /path`: the first few pass, then so many do not."""
    seen = [0]

    def fault(request: Request) -> bool:
        if not re.match(pattern, f"{request.command} {request.where}"):
            return False
        seen[0] += 1
        return after < seen[0] <= after + times and act(request)

    return fault


def failing(status: int = 500) -> Fault:
    """Return a fault that answers with a status."""

    def fault(request: Request) -> bool:
        request.body()
        request.answer(status, {"error": "the server fails"})
        return True

    return fault
