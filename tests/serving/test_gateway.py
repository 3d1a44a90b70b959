"""The gateway alone: its app in this process, a fake replica (no router) behind it."""

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from serving.gateway import GatewaySettings, create_app
from serving.health import free_port, serves
from serving.local_key import local_key
from serving.pointer import PointerStore
from serving.supervision import Program, Supervisor
from serving.versions import Version
from tests.serving.as_replica import version_at
from tests.serving.serving_support import FAKE, MODEL, bearer, digest_of, unasked

CHAT = "/v1/chat/completions"
LIMIT = 10_000


@dataclass(frozen=True)
class Fake:
    """A fake replica that runs, and the home whose production it is."""

    home: Path
    url: str
    served_name: str


def a_version(url: str, number: int = 1, served_name: str = "served") -> Version:
    full = f"{MODEL}-v{number:04d}"
    version = version_at(url, MODEL, full, served_name)
    # A program of its own, which has its own address.
    return replace(version, replicas=(replace(version.replicas[0], url=url),))


@pytest.fixture(scope="module")
def fake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fake]:
    port = free_port()
    command = [sys.executable, str(FAKE), "--port", str(port), "--served-model-name", "served"]
    one = Fake(tmp_path_factory.mktemp("home"), f"http://127.0.0.1:{port}", "served")
    with PointerStore(one.home) as store:
        store.record_version(a_version(one.url))
        store.promote(MODEL, "v0001", by="t", reason="r", admit=unasked)
    with subprocess.Popen(command) as process:
        try:
            while not serves(one.url, "served"):
                assert process.poll() is None
            yield one
        finally:
            process.kill()


@pytest.fixture
def client(fake: Fake) -> Iterator[TestClient]:
    with client_of(GatewaySettings(fake.home, max_body_bytes=LIMIT, retry_for_s=0.4)) as one:
        yield one


def client_of(settings_: GatewaySettings) -> TestClient:
    app, headers = create_app(settings_), bearer(local_key(settings_.home))
    return TestClient(app, headers=headers, raise_server_exceptions=False)


def chat(content: str = "hello", **fields: object) -> dict[str, object]:
    return {"model": MODEL, "messages": [{"role": "user", "content": content}], **fields}


def error_of(answer: Any) -> dict[str, Any]:
    body = answer.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"message", "type", "param", "code"}
    return dict(body["error"])


def test_the_request_goes_on_as_it_came_but_for_the_model(client: TestClient) -> None:
    body = chat(structured_outputs={"choice": ["a", "b"]}, unknown=[1, None], temperature=0.5)
    answer = client.post(CHAT, json=body)
    assert answer.status_code == 200
    assert answer.json()["echo"] == body | {"model": "served"}


def test_the_answer_names_its_version(client: TestClient) -> None:
    answer = client.post(CHAT, json=chat(), headers={"x-request-id": "abc"})
    assert answer.headers["x-ftdm-version"] == f"{MODEL}-v0001"
    assert answer.headers["x-ftdm-digest"] == digest_of(f"{MODEL}-v0001")


@pytest.mark.parametrize("name", [MODEL, f"{MODEL}@v0001"])
def test_names_of_production(client: TestClient, name: str) -> None:
    answer = client.post("/v1/completions", json={"model": name, "prompt": "words=3"})
    assert answer.status_code == 200
    assert answer.json()["choices"][0]["text"] == "w0 w1 w2"


def test_a_stream_is_passed_through_event_by_event(client: TestClient) -> None:
    with client.stream("POST", CHAT, json=chat("words=4", stream=True)) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["x-ftdm-version"] == f"{MODEL}-v0001"
        events = [line for line in answer.iter_lines() if line]
    assert len(events) == 5
    assert events[-1] == "data: [DONE]"
    assert json.loads(events[0].removeprefix("data: "))["choices"][0]["delta"]["content"] == "w0 "


@pytest.mark.parametrize(
    "name", ["other", f"{MODEL}@v0007", f"{MODEL}@previous", f"{MODEL}@new", "served", "", "a b"]
)
def test_an_unknown_model_is_not_found(client: TestClient, name: str) -> None:
    answer = client.post(CHAT, json=chat() | {"model": name})
    assert answer.status_code == 404
    error = error_of(answer)
    assert (error["code"], error["param"]) == ("model_not_found", "model")
    assert client.get(f"/v1/models/{name or 'x'}").status_code == 404


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "invalid_json"),
        (b"{bad", "invalid_json"),
        (b"[1]", "invalid_json"),
        (b"\xff\xfe", "invalid_json"),
        (b"[" * 5000, "invalid_json"),
        (b"{}", "invalid_value"),
        (b'{"model": 3}', "invalid_value"),
    ],
)
def test_a_body_that_is_no_request(client: TestClient, content: bytes, code: str) -> None:
    answer = client.post(CHAT, content=content)
    assert answer.status_code == 400
    assert error_of(answer)["code"] == code


def test_a_body_that_is_nested_deeply(client: TestClient) -> None:
    for depth in (500, 800, 900, 940, 980, 1000):
        body = b'{"model": "none", "a": ' + b"[" * depth + b"]" * depth + b"}"
        answer = client.post(CHAT, content=body)
        assert answer.status_code in (400, 404), depth
        assert error_of(answer)["code"] in ("invalid_json", "model_not_found")


def test_a_body_that_is_too_large(client: TestClient) -> None:
    answer = client.post(CHAT, json=chat("x" * LIMIT))
    assert answer.status_code == 413
    assert error_of(answer)["code"] == "request_too_large"

    def chunks() -> Iterator[bytes]:
        for _ in range(20):
            yield b"x" * 1000

    assert client.post(CHAT, content=chunks()).status_code == 413


@pytest.mark.parametrize(("method", "path", "status"), [("GET", CHAT, 405), ("GET", "/no", 404)])
def test_other_paths_and_methods(client: TestClient, method: str, path: str, status: int) -> None:
    answer = client.request(method, path)
    assert answer.status_code == status
    assert error_of(answer)["type"] == "invalid_request_error"


def test_the_replicas_own_errors_are_passed_on(client: TestClient) -> None:
    answer = client.post(CHAT, json=chat("status=422"))
    assert answer.status_code == 422
    assert answer.json()["error"]["message"] == "as asked"


def test_models_and_health(client: TestClient) -> None:
    listed = client.get("/v1/models").json()
    assert listed["object"] == "list"
    assert [one["id"] for one in listed["data"]] == [MODEL, f"{MODEL}@v0001"]
    assert client.get(f"/v1/models/{MODEL}@v0001").json() == listed["data"][1]
    assert client.get("/health").json() == {"status": "ok"}


def app_for(home: Path, version: Version, **fields: Any) -> TestClient:
    with PointerStore(home) as store:
        store.record_version(version)
        store.promote(version.model, version.version, by="t", reason="r", admit=unasked)
    return client_of(GatewaySettings(home, **{"retry_for_s": 0.4, **fields}))


@pytest.mark.parametrize("stream", [False, True])
def test_nobody_behind_it(tmp_path: Path, stream: bool) -> None:
    with app_for(tmp_path, a_version(f"http://127.0.0.1:{free_port()}")) as client:
        answer = client.post(CHAT, json=chat(stream=stream))
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "1"
    error = error_of(answer)
    assert (error["type"], error["code"]) == ("server_error", "unavailable")


def test_an_answer_that_does_not_come_is_a_timeout(fake: Fake, tmp_path: Path) -> None:
    with app_for(tmp_path, a_version(fake.url), answer_timeout_s=0.5) as client:
        answer = client.post(CHAT, json=chat("hang"))
    assert answer.status_code == 504
    assert error_of(answer)["code"] == "timeout"


BROKEN = """
import socket, sys
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
head = b"HTTP/1.1 200 OK\\r\\ncontent-type: text/event-stream\\r\\n"
head += b"transfer-encoding: chunked\\r\\n\\r\\n"
while True:
    link, _ = listener.accept()
    link.recv(65536)
    link.sendall(head + bytes.fromhex(sys.argv[2]))
    link.close()
"""


@pytest.fixture
def broken(supervisor: Supervisor) -> Callable[[bytes], str]:
    """Starts an upstream that sends a stream's head and some bytes, and then breaks off."""

    def start(content: bytes) -> str:
        port = free_port()
        argv = (sys.executable, "-c", BROKEN, str(port), content.hex())
        supervisor.put(Program("broken", argv))
        for _ in range(100):
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                time.sleep(0.05)
        return f"http://127.0.0.1:{port}"

    return start


def chunk(text: bytes) -> bytes:
    return f"{len(text):x}\r\n".encode() + text + b"\r\n"


def test_a_stream_that_breaks_ends_with_an_error_event(
    broken: Callable[[bytes], str], tmp_path: Path
) -> None:
    url = broken(chunk(b'data: {"model": "served", "choices": []}\n\n'))
    with app_for(tmp_path, a_version(url)) as client:
        answer = client.post(CHAT, json=chat(stream=True))
    assert answer.status_code == 200
    events = [line for line in answer.text.splitlines() if line]
    assert events[0] == 'data: {"model": "served", "choices": []}'
    assert json.loads(events[1].removeprefix("data: "))["error"]["code"] == "unavailable"
    assert "[DONE]" not in answer.text


@pytest.mark.parametrize("content", [b"", chunk(b'data: {"error": {"message": "broke"}}\n\n')])
def test_a_stream_that_breaks_before_its_first_event_is_asked_again(
    broken: Callable[[bytes], str], tmp_path: Path, content: bytes
) -> None:
    with app_for(tmp_path, a_version(broken(content))) as client:
        answer = client.post(CHAT, json=chat(stream=True))
    assert answer.status_code == 503
    assert "broke off" in error_of(answer)["message"]


def test_a_move_of_the_pointer_saves_a_waiting_call(fake: Fake, tmp_path: Path) -> None:
    """Production is dead; while a call waits, someone rolls back, and the call is answered."""
    with PointerStore(tmp_path) as store:
        store.record_version(a_version(fake.url, 1))
        store.promote(MODEL, "v0001", by="t", reason="r", admit=unasked)

    def roll_back() -> None:
        time.sleep(0.5)
        with PointerStore(tmp_path) as store:
            store.rollback(MODEL, by="t", reason="dead", admit=unasked)

    thread = threading.Thread(target=roll_back)
    dead = a_version(f"http://127.0.0.1:{free_port()}", 2)
    with app_for(tmp_path, dead, retry_for_s=10.0) as client:
        thread.start()
        answer = client.post(CHAT, json=chat())
        thread.join()
    assert answer.status_code == 200
    assert answer.headers["x-ftdm-version"] == f"{MODEL}-v0001"


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=10,
)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.one_of(st.binary(max_size=200), JSON.map(lambda value: json.dumps(value).encode())))
def test_no_body_breaks_the_gateway(client: TestClient, content: bytes) -> None:
    answer = client.post(CHAT, content=content)
    assert answer.status_code in (400, 404)
    assert error_of(answer)["message"]
