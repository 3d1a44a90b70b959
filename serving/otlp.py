"""Where traces go, and the headers that carry one from caller to engine.

OTLP over HTTP, for gateway and engines alike, named by OpenTelemetry's own variables. Standard
library only.
"""

import os
from collections.abc import Mapping

# W3C Trace Context.
TRACE_HEADERS = ("traceparent", "tracestate")
# The protocol is said too: vLLM would take gRPC.
_PROTOCOL = {"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf"}
_ENDPOINT, _BASE = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"


def traces_endpoint() -> str | None:
    """Return the address that takes spans, or None if none is to be sent."""
    base = os.environ.get(_BASE, "").strip().rstrip("/")
    return os.environ.get(_ENDPOINT, "").strip() or (f"{base}/v1/traces" if base else None)


def tracing_environment(service: str) -> dict[str, str]:
    """Return what a program started now must know to send its spans; empty if it is to send none.

    Args:
        service: The name that its spans carry.
    """
    endpoint = traces_endpoint()
    return {_ENDPOINT: endpoint, "OTEL_SERVICE_NAME": service, **_PROTOCOL} if endpoint else {}


def trace_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return a request's trace headers as they came; what reads them judges them."""
    return {name: headers[name] for name in TRACE_HEADERS if name in headers}
