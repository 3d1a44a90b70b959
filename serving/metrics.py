"""The gateway's own Prometheus metrics: which there are, and how one call counts in them.

Invariants:
- labels are bounded: a model or version stands in one only if it is recorded here, a path only if
  it is a route; a name that somebody makes up counts under `-`, which is no model's name;
- nothing of a text is kept, and counting takes microseconds: it happens on every call's way.

Tokens are those of the engine's own `usage`, as the request log notes them.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from serving.errors import ERROR_EVENT

NOBODY = "-"
VERSION_HEADER, CACHE_HEADER = b"x-ftdm-version", b"x-ftdm-cache"
_LATENCIES_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0)
_CACHE_WORDS = (b"hit", b"miss", b"joined")
_CLIENT_GONE = 499


@dataclass
class Seen:
    """What was seen of one call, from outside; filled message by message.

    Attributes:
        began: When it began, by `time.perf_counter`.
        status: HTTP status; 500 until an answer begins, as whatever ends without one has failed.
        headers: Headers of the answer, names in lower case.
        first_s: Seconds to the first bytes of the body.
        error: The body of an answer that is an error.
        broken: Whether a stream ended with an error event.
        whole: Whether the answer went out to its end.
    """

    began: float = field(default_factory=time.perf_counter)
    status: int = 500
    headers: dict[bytes, bytes] = field(default_factory=dict)
    first_s: float | None = None
    error: bytes = b""
    broken: bool = False
    whole: bool = False

    def take(self, message: Any) -> None:
        """Look at one ASGI message of the answer."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = dict(message.get("headers", ()))
        elif message["type"] == "http.response.body":
            self._take_body(message.get("body", b""))
            self.whole = not message.get("more_body", False)

    def _take_body(self, body: bytes) -> None:
        if body and self.first_s is None:
            self.first_s = time.perf_counter() - self.began
        if self.status >= 400:
            self.error += body
        self.broken = self.broken or body.startswith(ERROR_EVENT)

    @property
    def streams(self) -> bool:
        """Whether the answer is a stream of events."""
        return self.headers.get(b"content-type", b"").startswith(b"text/event-stream")

    @property
    def cached(self) -> str:
        """Return the cache's word, or `off` where it had no say."""
        said = self.headers.get(CACHE_HEADER, b"")
        return said.decode() if said in _CACHE_WORDS else "off"

    @property
    def failure(self) -> str | None:
        """Return what went wrong, in one word of a bounded set; None if nothing did."""
        if (self.headers and not self.whole) or self.status == _CLIENT_GONE:
            return "client_gone"
        if self.broken:
            return "broken_stream"
        if self.status < 400:
            return None
        if VERSION_HEADER in self.headers:
            return f"replica_{self.status // 100}xx"
        return _code(self.error)


class Metrics:
    """The metrics of one gateway, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        who = ("model", "version")
        self._seconds = Histogram(
            "ftdm_gateway_request_seconds",
            "Seconds from a request's arrival to the end of its answer.",
            (*who, "path", "cached", "status"),
            buckets=_LATENCIES_S,
            registry=self.registry,
        )
        self._first_token = Histogram(
            "ftdm_gateway_first_token_seconds",
            "Seconds from a request's arrival to the first event of its stream.",
            (*who, "cached"),
            buckets=_LATENCIES_S,
            registry=self.registry,
        )
        self._tokens = {
            kind: Counter(
                f"ftdm_gateway_{kind}",
                f"What the engines' usage says: {kind.replace('_', ' ')}.",
                (*who, "cached"),
                registry=self.registry,
            )
            for kind in ("prompt_tokens", "completion_tokens")
        }
        self._errors = Counter(
            "ftdm_gateway_errors",
            "Calls that went wrong, by what did.",
            (*who, "kind"),
            registry=self.registry,
        )
        self.in_flight = Gauge(
            "ftdm_gateway_in_flight",
            "Requests that wait or are answered at this moment.",
            registry=self.registry,
        )

    def count(
        self,
        seen: Seen,
        ended: float,
        path: str,
        meant: tuple[str, str] | None,
        tokens: Mapping[str, int | None],
    ) -> None:
        """Count one call.

        Args:
            seen: What was seen of it.
            ended: When it ended, by `time.perf_counter`.
            path: Its route.
            meant: The model and version that it asked for, where known.
            tokens: `prompt_tokens` and `completion_tokens`, where known.
        """
        who = _answered_by(seen) or meant or (NOBODY, NOBODY)
        status = f"{seen.status // 100}xx"
        self._seconds.labels(*who, path, seen.cached, status).observe(ended - seen.began)
        if seen.streams and seen.first_s is not None:
            self._first_token.labels(*who, seen.cached).observe(seen.first_s)
        for kind, number in tokens.items():
            if number is not None:
                self._tokens[kind].labels(*who, seen.cached).inc(number)
        if seen.failure:
            self._errors.labels(*who, seen.failure).inc()


def _answered_by(seen: Seen) -> tuple[str, str] | None:
    version = seen.headers.get(VERSION_HEADER, b"").decode("latin-1")
    model, separator, _ = version.rpartition("-v")
    return (model, version) if separator else None


def _code(body: bytes) -> str:
    error = _object(body).get("error")
    code = error.get("code") if isinstance(error, dict) else None
    return code if isinstance(code, str) else "internal"


def _object(content: bytes) -> dict[str, Any]:
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
