"""A small OpenAI-compatible endpoint whose answers a test computes."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[[dict[str, Any]], str]


class _Server(ThreadingHTTPServer):
    # The default backlog of five drops connections when many examples are asked at once.
    request_queue_size = 64
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: a client that cancels its requests breaks connections."""


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
                self.reply(401, {"error": {"message": "wrong key"}})
            else:
                message = {"role": "assistant", "content": answer(body)}
                self.reply(200, {"choices": [{"index": 0, "message": message}]})

        def reply(self, status: int, content: object) -> None:
            data = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(data)))
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
