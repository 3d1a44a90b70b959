"""What somebody sends who means no good, byte by byte, to a gateway that runs."""

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from serving.request_log import RequestLog
from tests.serving.gateway_process import (
    GatewayProcess,
    gateway_process,
    status,
)
from tests.serving.serving_support import MODEL

pytestmark = pytest.mark.alone
CHAT = b"POST /v1/chat/completions"
TEXT = "a text that nobody else may see"


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    with gateway_process(tmp_path_factory.mktemp("home")) as one:
        yield one


def chat(**fields: Any) -> bytes:
    messages = [{"role": "user", "content": TEXT}]
    return json.dumps({"model": MODEL, "messages": messages, "temperature": 0.5, **fields}).encode()


def body_of(answer: bytes) -> Any:
    return json.loads(answer.partition(b"\r\n\r\n")[2])


def headers_of(answer: bytes) -> dict[bytes, bytes]:
    lines = answer.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:]
    pairs = [line.split(b": ", 1) for line in lines]
    assert len({name for name, _ in pairs}) == len(pairs)
    return dict(pairs)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"GET //v1/models", 404),
        (b"GET /v1/models/", 404),
        (b"GET /v1//models", 404),
        (b"GET /V1/models", 404),
        (b"GET /v1/models%2f", 404),
        (b"GET /v1%2Fmodels", 200),  # The same path in other letters: one handler, one key.
        (b"GET /v1/models/x%2fy", 404),
        (b"GET /v1/models/%2e%2e", 404),
        (b"GET /v1/./models", 404),
        (b"GET /v1/../v1/models", 404),
        (b"POST /health/../admin/rollback", 404),
        (b"POST /health%2f..%2fadmin/rollback", 404),
        (b"POST /v1/../admin/rollback", 404),
        (b"POST /admin/rollback/", 404),
        (b"POST /admin/rollback;a", 404),
        (b"POST /admin/rollback%00", 404),
        (b"GET /v1/models\\..\\health", 404),
        (b"GET /v1/models/a%00b", 404),
        (b"GET /v1/models/%ff%fe", 404),
        (b"GET http://elsewhere.example/v1/models", 200),
        (b"GET /v1/models?x=/health", 200),
        (b"OPTIONS *", 404),
        (b"TRACE /v1/models", 405),
        (b"DELETE /v1/models", 405),
        (b"GET /v1/models/" + b"a" * 3000, 404),
        (b"GET /v1/models/" + b"%41" * 3000, 404),
    ],
)
def test_a_path_is_what_it_says_and_needs_a_key(
    gate: GatewayProcess, line: bytes, expected: int
) -> None:
    body = b"{}" if line.startswith(b"POST") else b""
    answer = gate.request(line, body=body)
    assert status(answer) == expected
    assert b"location" not in headers_of(answer)
    keyless = gate.told(line + b" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert status(keyless) == 401
    for host in (b"elsewhere.example", b"[", b"a:b:c", b"\xff", b""):
        own = (b"Authorization: Bearer " + gate.key.encode(), b"Connection: close")
        told = gate.told(b"\r\n".join((line + b" HTTP/1.1", b"Host: " + host, *own, b"", b"")))
        assert status(told) in (expected, 400, 403)
        assert b"elsewhere" not in told.partition(b"\r\n\r\n")[0]


@pytest.mark.parametrize(
    "framing",
    [
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        b"Content-Length: 2\r\nContent-Length: 40\r\n\r\n{}",
        b"Content-Length: 2, 2\r\n\r\n{}",
        b"Content-Length: +2\r\n\r\n{}",
        b"Content-Length: -1\r\n\r\n{}",
        b"Content-Length: 0x2\r\n\r\n{}",
        b"Content-Length : 2\r\n\r\n{}",
        b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n-1\r\n{}\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n2\n{}\n0\n\n",
        b"X: 1\r\n folded: 1\r\nContent-Length: 2\r\n\r\n{}",
        b"X\0: 1\r\nContent-Length: 2\r\n\r\n{}",
        b"X-Request-Id: a\0b\r\nContent-Length: 2\r\n\r\n{}",
        b"X-Request-Id: a\nX-Evil: 1\r\nContent-Length: 2\r\n\r\n{}",
        b"X-Request-Id: a\rX-Evil: 1\r\nContent-Length: 2\r\n\r\n{}",
    ],
)
def test_a_request_whose_end_can_be_read_in_two_ways_is_none(
    gate: GatewayProcess, framing: bytes
) -> None:
    """Else what one server takes for a body is a request to the other (smuggling)."""
    smuggled = b"GET /v1/models HTTP/1.1\r\nHost: smuggled\r\n\r\n"
    head = CHAT + b" HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer " + gate.key.encode()
    answer = gate.told(head + b"\r\n" + framing + smuggled)
    assert status(answer[answer.rindex(b"HTTP/1.1 ") :]) == 400
    # What came whole before the damage may be answered, what lies behind it never is.
    assert answer.count(b"HTTP/1.1 ") == 1
    assert b'"error":{' in answer


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b"x-request-id", b"a b"),
        (b"x-request-id", b"a%0d%0aX-Evil: 1"),
        (b"x-request-id", b"\xe2\x80\xa8evil"),
        (b"x-request-id", b"a" * 200),
        (b"x-request-id", b'"},{"event":"evil"'),
        (b"traceparent", b"evil\x80"),
        (b"traceparent", b"00-" + b"0" * 32 + b"-" + b"0" * 16 + b"-01; evil"),
        (b"tracestate", b"evil=" + b"a" * 2000),
        (b"x-request-id", b"\x7fevil"),
        (b"cookie", b"evil=1"),
        (b"x-forwarded-for", b"evil"),
    ],
)
def test_a_header_of_the_caller_becomes_none_of_the_answer_nor_of_what_is_sent_on(
    gate: GatewayProcess, name: bytes, value: bytes
) -> None:
    answer = gate.request(CHAT, name + b": " + value, body=chat())
    assert status(answer) in (200, 400)
    if status(answer) == 200:
        assert headers_of(answer).keys() <= {
            *(b"date", b"content-type", b"content-length", b"connection"),
            *(b"x-ftdm-version", b"x-ftdm-digest", b"x-ftdm-constrained", b"x-ftdm-cache"),
        }
        sent_on = body_of(answer)["headers"]
        assert value.decode("latin-1") not in sent_on.values() or name in (
            *(b"traceparent", b"tracestate"),
        )
        assert "authorization" not in sent_on
        assert "cookie" not in sent_on
        assert len(sent_on["x-request-id"]) == 32


def test_a_trace_that_is_passed_on_is_one(gate: GatewayProcess) -> None:
    good = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    sent_on = body_of(gate.request(CHAT, b"traceparent: " + good, body=chat()))["headers"]
    assert sent_on["traceparent"] == good.decode()


@pytest.mark.parametrize(
    "model",
    [
        "a\r\nX-Evil: 1",
        "../../etc/passwd",
        "a\0",
        "\u2028",
        "x" * 100_000,
        "a@previous\n",
        "\ud800",
    ],
)
def test_a_model_s_name_is_a_name_or_not_found(gate: GatewayProcess, model: str) -> None:
    answer = gate.request(CHAT, body=chat(model=model))
    assert status(answer) == 404
    assert headers_of(answer).keys() <= {b"date", b"content-type", b"content-length", b"connection"}
    assert b"\r\nX-Evil" not in answer


@pytest.mark.parametrize(
    "nested", [b"[" * 100_000 + b"]" * 100_000, b'{"a":' * 100_000 + b"1" + b"}" * 100_000]
)
def test_deep_json(gate: GatewayProcess, nested: bytes) -> None:
    body = b'{"model": "%s", "x": %s}' % (MODEL.encode(), nested)
    answer = gate.request(CHAT, body=body)
    assert status(answer) == 400
    assert body_of(answer)["error"]["code"] == "invalid_json"


@pytest.mark.parametrize(
    "content",
    [
        b'{"model": "%s", "n": ' + b"9" * 100_000 + b"}",
        b'{"model": "%s", "model": "%s"}',
        b'\xef\xbb\xbf{"model": "%s"}',
        b'{"model": "%s"}\0',
    ],
)
def test_odd_json_is_answered_without_a_failure(gate: GatewayProcess, content: bytes) -> None:
    answer = gate.request(CHAT, body=content.replace(b"%s", MODEL.encode()))
    assert status(answer) in (200, 400)


@pytest.mark.parametrize("number", [b"1e999", b"NaN", b"Infinity", b"-Infinity", b"9" * 10_000])
def test_what_is_no_number_is_not_passed_on(gate: GatewayProcess, number: bytes) -> None:
    answer = gate.request(CHAT, body=b'{"model": "%s", "n": %s}' % (MODEL.encode(), number))
    assert status(answer) == 400
    assert body_of(answer)["error"]["code"] == "invalid_json"


def test_an_oversized_body(gate: GatewayProcess) -> None:
    head = CHAT + b" HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer " + gate.key.encode() + b"\r\n"
    with gate.connection() as one:
        one.sendall(head + b"Content-Length: %d\r\n\r\n" % 10**12)
        assert status(one.recv(65536)) == 413
    with gate.connection() as one:
        one.sendall(head + b"Transfer-Encoding: chunked\r\n\r\n")
        for _ in range(80):
            one.sendall(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")
        assert status(one.recv(65536)) == 413


def test_an_upgrade_leads_to_no_other_protocol(gate: GatewayProcess) -> None:
    upgrade = b"Connection: close, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    head = b"GET /v1/models HTTP/1.1\r\nHost: a\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    assert status(gate.told(head + upgrade + b"\r\n")) == 401


def test_neither_keys_nor_texts_stand_in_any_log(gate: GatewayProcess) -> None:
    secret, admin = (key.rsplit("_", 1)[1].encode() for key in (gate.key, gate.admin_key))
    wrong = b"ftdm_000000000000_" + b"ab" * 32
    gate.request(CHAT, body=chat(model="none"))
    gate.request(CHAT, body=b'{"model": "' + TEXT.encode())
    gate.request(CHAT, b"x-ftdm-cache: " + TEXT.encode(), body=chat())
    gate.request(CHAT, b"x-request-id: " + secret, body=chat())
    gate.told(b"GET /v1/models?key=" + wrong + b" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
              b"Authorization: Bearer " + wrong + b"\r\n\r\n")  # fmt: skip
    time.sleep(0.1)
    log = b"".join(row.line for row in RequestLog(gate.home).rows()) + gate.log.read_bytes()
    assert b'"status":200' in log
    for hidden in (admin, wrong, TEXT.encode()):
        assert hidden not in log
    assert b"Traceback" not in log
