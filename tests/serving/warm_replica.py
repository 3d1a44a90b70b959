"""A replica in this process, of whatever version: `URL/NAME` serves NAME (`as_replica`)."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import unquote


class WarmReplica(ThreadingHTTPServer):
    """Answers every chat completion after `pause_s` seconds, under the name that it was asked."""

    daemon_threads = True
    pause_s = 0.0
    status = 200
    says = "a"

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.asked: list[dict[str, object]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Answer(BaseHTTPRequestHandler):
    server: WarmReplica

    def do_GET(self) -> None:
        name, _, path = self.path.removeprefix("/").partition("/")
        names = [{"id": unquote(name)}] if path == "v1/models" else []
        self._send(200, {"object": "list", "data": names})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.asked.append(body)
        time.sleep(self.server.pause_s)
        choice = {"index": 0, "message": {"role": "assistant", "content": self.server.says}}
        answer = {"object": "chat.completion", "model": body["model"], "choices": [choice]}
        self._send(self.server.status, answer)

    def _send(self, status: int, document: dict[str, object]) -> None:
        content = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def warm_replica() -> Iterator[WarmReplica]:
    """Run one on a free port."""
    replica = WarmReplica()
    Thread(target=replica.serve_forever, args=(0.01,)).start()
    try:
        yield replica
    finally:
        replica.shutdown()
        replica.server_close()
