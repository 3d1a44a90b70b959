"""Spans as a collector receives them, over real HTTP in OTLP's own form."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

from serving.health import free_port, get_json
from serving.local_key import local_key
from serving.observed import observed
from tests.serving.serving_support import bearer

TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SENT = {"traceparent": f"00-{TRACE}-{CALLER}-01", "tracestate": "congo=t61rcWkgMzE"}


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Span]]:
    """What a collector, which the environment names, has received."""
    received: list[Span] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/v1/traces"
            content = self.rfile.read(int(self.headers["content-length"]))
            for resource in ExportTraceServiceRequest.FromString(content).resource_spans:
                for scope in resource.scope_spans:
                    received.extend(scope.spans)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Collector) as server:
        monkeypatch.delenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", raising=False)
        url = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield received
        server.shutdown()
        thread.join()


async def engine(request: Request) -> Response:
    """Answer with the headers that a call would be sent on with."""
    status = int(request.query_params.get("status", 200))
    if status == 0:
        raise RuntimeError
    sent_on = {name: request.headers.get(name) for name in SENT}
    return JSONResponse(sent_on, status, {"x-ftdm-version": "m-v0001"})


def call(home: Path, query: str = "", headers: dict[str, str] | None = None) -> dict[str, str]:
    routes = [Route("/v1/completions", engine, methods=["GET", "POST"])]
    with observed(home, None) as around:
        app = Starlette(routes=routes, middleware=around)
        with TestClient(app, raise_server_exceptions=False) as client:
            client.get("/v1/completions")
            answer = client.post(f"/v1/completions{query}", headers=headers)
    return dict(answer.json()) if answer.status_code == 200 else {}


def test_the_span_stands_between_caller_and_engine(spans: list[Span], tmp_path: Path) -> None:
    sent_on = call(tmp_path, headers=SENT)
    (span,) = spans
    assert (span.name, span.kind) == ("POST /v1/completions", Span.SPAN_KIND_SERVER)
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE, CALLER)
    assert sent_on == SENT | {"traceparent": f"00-{TRACE}-{span.span_id.hex()}-01"}
    said = {one.key: one.value for one in span.attributes}
    assert said["ftdm.version"].string_value == "m-v0001"
    assert said["http.response.status_code"].int_value == 200


@pytest.mark.parametrize("headers", [None, {"traceparent": "nonsense"}])
def test_a_call_without_a_trace_begins_one(
    spans: list[Span], tmp_path: Path, headers: dict[str, str] | None
) -> None:
    sent_on = call(tmp_path, headers=headers)
    (span,) = spans
    assert span.parent_span_id == b""
    assert sent_on["traceparent"].startswith(f"00-{span.trace_id.hex()}-{span.span_id.hex()}-0")


@pytest.mark.parametrize("query", ["?status=503", "?status=0"])
def test_a_failed_call_is_a_failed_span(spans: list[Span], tmp_path: Path, query: str) -> None:
    call(tmp_path, query)
    assert [span.status.code for span in spans] == [2]


def test_without_a_collector_the_headers_pass_as_they_came(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    assert call(tmp_path, headers=SENT) == SENT
    assert call(tmp_path) == dict.fromkeys(SENT)


def test_a_collector_that_is_gone_costs_no_call(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://127.0.0.1:9/v1/traces")
    monkeypatch.setattr("serving.traced._SEND_TIMEOUT_S", 0.3)
    assert call(tmp_path)["traceparent"]


def test_a_gateway_that_is_told_to_stop_sends_its_spans_first(
    spans: list[Span], tmp_path: Path
) -> None:
    port = free_port()
    command = [sys.executable, "-m", "serving.gateway", "--home", str(tmp_path)]
    with subprocess.Popen([*command, "--port", str(port)]) as gateway:
        try:
            url = f"http://127.0.0.1:{port}"
            while get_json(f"{url}/health")[0] != 200:
                assert gateway.poll() is None
                time.sleep(0.05)
            key = bearer(local_key(tmp_path))
            asked = httpx.post(f"{url}/v1/completions", json={"model": "none"}, headers=key)
            assert asked.status_code == 404
            gateway.terminate()
            assert gateway.wait(20) == 0
        finally:
            gateway.kill()
    assert [span.name for span in spans] == ["POST /v1/completions"]
