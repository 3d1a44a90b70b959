"""What Dagster could not load is a problem of the stack, in the words of the error itself."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from ftdm_assets.commands.stack import code_problems
from serving.health import free_port

CHAIN = [{"error": {"message": "outer"}}, {"error": {"message": "defs.yaml: no\nsuch key"}}]


def problems(monkeypatch: pytest.MonkeyPatch, state: Any, status: int = 200) -> tuple[str, ...]:
    entries = [{"name": "code", "locationOrLoadError": state}]
    body = json.dumps({"data": {"workspaceOrError": {"locationEntries": entries}}}).encode()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        monkeypatch.setenv("FTDM_UI_PORT", str(server.server_port))
        return code_problems()


def test_a_location_that_failed_is_told_with_its_root_cause(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    state = {"message": "wrapped", "errorChain": CHAIN}
    assert problems(monkeypatch, state) == ("Dagster could not load code: defs.yaml: no such key",)
    assert problems(monkeypatch, {}) == ()
    assert problems(monkeypatch, None) == ()


def test_a_ui_that_does_not_say_is_a_problem_too(monkeypatch: pytest.MonkeyPatch) -> None:
    [told] = problems(monkeypatch, {}, status=500)
    assert "does not say whether the graph has loaded" in told
    monkeypatch.setenv("FTDM_UI_PORT", str(free_port()))
    [told] = code_problems()
    assert "does not say whether the graph has loaded" in told
