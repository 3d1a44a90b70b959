"""One span for each call that the gateway answers, between the caller's and the engine's.

Invariants: the caller's `traceparent` becomes the span's parent, and the span the parent of what is
sent on, by the same header; nothing of a text is in a span; a collector that is slow or gone costs
no call anything (spans go out from a thread, with a bounded queue and a timeout).
"""

from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.otlp import TRACE_HEADERS

_PROPAGATOR = TraceContextTextMapPropagator()
_NAMES = frozenset(name.encode() for name in TRACE_HEADERS)
_SEND_TIMEOUT_S = 5.0


class Traced:
    """The middleware; only calls that make an engine work (POST) get a span."""

    def __init__(self, app: ASGIApp, provider: TracerProvider) -> None:
        self._app = app
        self._tracer = provider.get_tracer("serving.gateway")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a call on inside a span."""
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        span = self._begun(scope)

        async def watched(message: Message) -> None:
            if message["type"] == "http.response.start":
                _describe(span, message)
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except Exception:
            span.set_status(StatusCode.ERROR)
            raise
        finally:
            if path := getattr(scope.get("route"), "path", None):
                span.update_name(f"POST {path}")
                span.set_attribute("http.route", path)
            span.end()

    def _begun(self, scope: Scope) -> Span:
        """Return the call's span, which takes the caller's place in the call's headers."""
        given = {name.decode(): value.decode("latin-1") for name, value in scope["headers"]
                 if name in _NAMES}  # fmt: skip
        parent = _PROPAGATOR.extract(given)
        attributes = {"http.request.method": "POST"}
        span = self._tracer.start_span("POST", parent, SpanKind.SERVER, attributes)
        own: dict[str, str] = {}
        _PROPAGATOR.inject(own, set_span_in_context(span))
        others = [one for one in scope["headers"] if one[0] not in _NAMES]
        scope["headers"] = others + [(key.encode(), value.encode()) for key, value in own.items()]
        return span


@contextmanager
def spans_to(endpoint: str) -> Iterator[TracerProvider]:
    """Send spans to `endpoint` (OTLP over HTTP) as long as the context lasts."""
    provider = TracerProvider()
    exporter = OTLPSpanExporter(endpoint, timeout=_SEND_TIMEOUT_S)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    try:
        yield provider
    finally:
        provider.shutdown()


def _describe(span: Span, start: Message) -> None:
    span.set_attribute("http.response.status_code", start["status"])
    if start["status"] >= 500:
        span.set_status(StatusCode.ERROR)
    headers = dict(start.get("headers", ()))
    if version := headers.get(b"x-ftdm-version"):
        span.set_attribute("ftdm.version", version.decode("latin-1"))
