"""A small OpenAI-compatible endpoint whose answers a test computes."""

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Reply:
    """Another reply than a whole answer: a status, and JSON or bytes."""

    status: int
    content: object
    headers: Mapping[str, str] = field(default_factory=dict)


Answer = Callable[[dict[str, Any]], str | Reply]


class _Server(ThreadingHTTPServer):
    # The default backlog of five drops connections when many examples are asked at once.
    request_queue_size = 64
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: a client that cancels its requests breaks connections."""


def completion(text: str | None, finish_reason: str = "stop") -> Reply:
    """Return a whole chat completion of 100 tokens in and 4 out."""
    message = {"role": "assistant", "content": text}
    usage = {"prompt_tokens": 100, "completion_tokens": 4, "total_tokens": 104}
    choice = {"index": 0, "message": message, "finish_reason": finish_reason}
    return Reply(200, {"choices": [choice], "usage": usage})


@contextmanager
def serve(answer: Answer, *, key: str | None = None) -> Iterator[str]:
    """Serve chat completions on a free port; ``key`` is asked for, if there is one."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:
            pass

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            if key is not None and self.headers["authorization"] != f"Bearer {key}":
                self.reply(Reply(401, {"error": {"message": "wrong key"}}))
                return
            said = answer(body)
            self.reply(said if isinstance(said, Reply) else completion(said))

        def reply(self, reply: Reply) -> None:
            content = reply.content
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(reply.status)
            for name, value in {**reply.headers, "content-length": str(len(data))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

    server = _Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
