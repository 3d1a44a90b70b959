"""A tiny HTTP server that stands for an inference engine: it can be slow, die or answer 500.

Usage: gpu_fake_engine.py PORT [startup=S] [slow=S] [die_after=N] [fail=N] [status=CODE] …
"""

import json
import os
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

OPTIONS = dict(argument.split("=", 1) for argument in sys.argv[2:])
LOCK = threading.Lock()
COUNTS = {"asked": 0, "open": 0, "most": 0}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        self.answer(200, {"most": COUNTS["most"]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        with LOCK:
            COUNTS["asked"] += 1
            COUNTS["open"] += 1
            COUNTS["most"] = max(COUNTS["most"], COUNTS["open"])
            asked = COUNTS["asked"]
        if asked > int(OPTIONS.get("die_after", 10**9)):
            sys.stderr.write("out of memory\n")
            sys.stderr.flush()
            os._exit(9)
        time.sleep(float(OPTIONS.get("slow", 0)))
        with LOCK:
            COUNTS["open"] -= 1
        if asked <= int(OPTIONS.get("fail", 0)):
            self.answer(int(OPTIONS.get("status", 500)), {"message": "no room"})
        else:
            self.answer(200, {"path": self.path, "echo": body, "most": COUNTS["most"]})

    def answer(self, status: int, content: object) -> None:
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


if __name__ == "__main__":
    if "child" in OPTIONS:
        # A worker that ignores the polite signal, as a hung one would.
        code = "import signal,time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
        worker = subprocess.Popen([sys.executable, "-c", code])
        Path(OPTIONS["child"]).write_text(str(worker.pid))
    time.sleep(float(OPTIONS.get("startup", 0)))
    if OPTIONS.get("exit"):
        sys.stderr.write("cannot find the model\n")
        sys.exit(3)
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
