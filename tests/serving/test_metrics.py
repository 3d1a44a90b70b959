"""What counts, and under which labels: the middleware around small applications of its own."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from serving.errors import ApiError, unreachable
from serving.exposition import ExpositionError, exposed
from serving.measured import Measured
from serving.metrics import Metrics
from serving.request_entry import RequestEntry
from serving.versions import Version
from tests.serving.serving_support import digest_of

PATH = "/v1/completions"
WHO = {"model": "tickets", "version": "tickets-v0002"}
HEADERS = {"x-ftdm-version": WHO["version"]}
USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "prompt_tokens_details": None}


def version() -> Version:
    full = WHO["version"]
    return Version("tickets", full, digest_of(full), Path("/m"), "served", 512, "bfloat16")


def counted(
    answer: Response | Exception, path: str = PATH, usage: Mapping[str, Any] | None = None
) -> Metrics:
    """Return the metrics after one call that is answered so."""
    entry = RequestEntry(PATH, "r")
    entry.note_usage(usage or {})

    async def handle(request: Request) -> Response:
        request.state.entry = entry
        if request.query_params.get("known"):
            request.state.version = version()
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def api_error(_: Request, error: Any) -> Response:
        response: Response = error.response()
        return response

    metrics = Metrics()
    app = Starlette(
        routes=[Route(PATH, handle, methods=["POST"])],
        middleware=[Middleware(Measured, metrics=metrics)],
        exception_handlers={ApiError: api_error},
    )
    with TestClient(app, raise_server_exceptions=False) as client:
        client.post(path)
    return metrics


def series(metrics: Metrics, name: str) -> list[tuple[dict[str, str], float]]:
    families = [sample for family in metrics.registry.collect() for sample in family.samples]
    return [(one.labels, one.value) for one in families if one.name == name]


def the_call(metrics: Metrics) -> dict[str, str]:
    ((labels, number),) = series(metrics, "ftdm_gateway_request_seconds_count")
    assert number == 1
    return labels


def errors(metrics: Metrics) -> list[dict[str, str]]:
    return [labels for labels, _ in series(metrics, "ftdm_gateway_errors_total")]


def tokens(metrics: Metrics) -> list[float]:
    names = ("ftdm_gateway_prompt_tokens_total", "ftdm_gateway_completion_tokens_total")
    return [value for name in names for _, value in series(metrics, name)]


@pytest.mark.parametrize(("said", "cached"), [("hit", "hit"), ("joined", "joined"), ("x", "off")])
def test_an_answer_counts_under_what_gave_it(said: str, cached: str) -> None:
    answer = JSONResponse({"choices": []}, headers=HEADERS | {"x-ftdm-cache": said})
    metrics = counted(answer, usage=USAGE)
    assert the_call(metrics) == WHO | {"path": PATH, "cached": cached, "status": "2xx"}
    assert tokens(metrics) == [7, 3]
    assert errors(metrics) == []
    assert series(metrics, "ftdm_gateway_first_token_seconds_count") == []


def events(*contents: object) -> StreamingResponse:
    async def stream() -> AsyncIterator[bytes]:
        for content in contents:
            await asyncio.sleep(0)
            yield b"data: " + json.dumps(content, separators=(",", ":")).encode() + b"\n\n"

    return StreamingResponse(stream(), media_type="text/event-stream", headers=HEADERS)


def test_a_stream_has_a_first_token() -> None:
    metrics = counted(events({"choices": []}, {"choices": []}))
    ((labels, number),) = series(metrics, "ftdm_gateway_first_token_seconds_count")
    assert (labels, number) == (WHO | {"cached": "off"}, 1)
    (_, first), (_, whole) = (
        series(metrics, f"ftdm_gateway_{name}_seconds_sum")[0]
        for name in ("first_token", "request")
    )
    assert 0 < first < whole


def test_tokens_that_nobody_tells_are_not_counted() -> None:
    assert tokens(counted(Response(headers=HEADERS))) == []
    assert tokens(counted(Response(headers=HEADERS), usage={"prompt_tokens": 2})) == [2]


@pytest.mark.parametrize(
    ("answer", "kind", "status"),
    [
        (JSONResponse({"error": {"code": "x y z"}}, 422, HEADERS), "replica_4xx", "4xx"),
        (events({"choices": []}, unreachable("broke").body()), "broken_stream", "2xx"),
        (Response(status_code=499), "client_gone", "4xx"),
        (RuntimeError("a bug"), "internal", "5xx"),
        (ApiError(429, "Slower.", "rate_limited"), "rate_limited", "4xx"),
        (Response("no JSON", 500), "internal", "5xx"),
    ],
)
def test_what_went_wrong_is_one_word(answer: Response | Exception, kind: str, status: str) -> None:
    metrics = counted(answer)
    assert [one["kind"] for one in errors(metrics)] == [kind]
    assert the_call(metrics)["status"] == status
    assert series(metrics, "ftdm_gateway_in_flight") == [({}, 0)]


def test_a_call_that_nobody_answers_counts_under_what_it_meant() -> None:
    metrics = counted(unreachable("nobody"), f"{PATH}?known=1")
    assert errors(metrics) == [WHO | {"kind": "unavailable"}]
    assert the_call(metrics) == WHO | {"path": PATH, "cached": "off", "status": "5xx"}


def test_a_made_up_path_makes_no_series() -> None:
    labels = the_call(counted(Response(), "/v1/whatever-i-like"))
    assert labels["path"] == "other"
    assert labels["model"] == labels["version"] == "-"


def test_an_answer_that_never_ends_is_a_caller_who_went() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"a", b"b")]})
        await send({"type": "http.response.body", "body": b"x", "more_body": True})

    async def nothing(*_: Any) -> Any:
        return None

    metrics = Metrics()
    asyncio.run(Measured(app, metrics)({"type": "http"}, nothing, nothing))
    assert [one["kind"] for one in errors(metrics)] == ["client_gone"]


def test_a_taken_port_says_what_to_set(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = int(taken.getsockname()[1])
        with (
            pytest.raises(ExpositionError, match=f"Port {port}.*FTDM_METRICS_PORT"),
            exposed(Metrics(), tmp_path, port),
        ):
            pass
