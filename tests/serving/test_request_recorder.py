"""No answer leaves the gateway before its entry is on the disk."""

import asyncio
import json
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.testclient import TestClient
from typer.testing import CliRunner

from ftdm_assets.cli import app as commands
from serving import group_commit
from serving.api_keys import Grant, KeyStore
from serving.gateway import GatewaySettings
from serving.group_commit import GroupCommit, NotWrittenError
from serving.pointer import PointerStore
from serving.request_entry import RequestEntry
from serving.request_log import RequestLog, RequestLogError
from serving.request_log_check import check
from serving.request_recorder import RecorderMiddleware, recorder
from tests.serving.gateway_process import gateway_process
from tests.serving.serving_support import MODEL, bearer, digest_of, unasked
from tests.serving.test_gateway import CHAT, Fake, a_version, chat, client_of, error_of
from tests.serving.test_gateway import fake as fake

SECRET = "a secret text words=3"


@pytest.fixture
def client(fake: Fake) -> Iterator[TestClient]:
    with client_of(GatewaySettings(fake.home, retry_for_s=0.4)) as one:
        yield one


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a failure the log is tried again soon."""
    monkeypatch.setattr(group_commit, "_REFUSE_FOR_S", 0.2)


def contents(home: Path) -> list[dict[str, Any]]:
    return [json.loads(row.line)["content"] for row in RequestLog(home).rows()]


def entries(home: Path, request_id: str) -> list[dict[str, Any]]:
    return [one for one in contents(home) if one.get("request_id") == request_id]


def ids(name: str) -> dict[str, str]:
    return {"x-request-id": name}


def test_an_entry_says_who_when_what_which_and_how_long(client: TestClient, fake: Fake) -> None:
    with KeyStore(fake.home) as store:
        key = store.new(Grant("billing"), by="t")
    headers = bearer(key.text) | ids("one")
    assert client.post(CHAT, json=chat(SECRET), headers=headers).status_code == 200
    (entry,) = entries(fake.home, "one")
    assert entry.pop("at").startswith("20")
    assert len(entry.pop("id")) == 32
    assert 0 < entry.pop("latency_us") < 60e6
    assert len(entry.pop("input_digest")) == 64
    assert entry == {
        "event": "answered",
        "request_id": "one",
        "key_id": key.key.key_id,
        "key_name": "billing",
        "path": CHAT,
        "model": MODEL,
        "version": f"{MODEL}-v0001",
        "digest": digest_of(f"{MODEL}-v0001"),
        "constrained": "off",
        "status": 200,
        "error": "",
        "streamed": False,
        "cached": False,
        "prompt_tokens": 3,
        "completion_tokens": 3,
    }
    log = b"".join(row.line for row in RequestLog(fake.home).rows())
    assert b"secret" not in log
    assert key.text.rsplit("_", 1)[1].encode() not in log


def test_the_input_is_kept_only_where_a_setting_says_so(fake: Fake) -> None:
    with client_of(GatewaySettings(fake.home, keep_inputs=True)) as client:
        client.post(CHAT, json=chat(SECRET), headers=ids("kept"))
    (entry,) = entries(fake.home, "kept")
    assert json.loads(entry["input"])["messages"][0]["content"] == SECRET


def test_the_same_input_has_the_same_digest(client: TestClient, fake: Fake, tmp_path: Path) -> None:
    body = chat("hello", temperature=0)
    client.post(CHAT, json=body, headers=ids("a"))
    turned = dict(reversed(body.items())) | {"model": f"{MODEL}@v0001"}
    client.post(CHAT, content=json.dumps(turned, indent=3), headers=ids("a"))
    client.post(CHAT, json=chat("hello", temperature=1), headers=ids("a"))
    one, two, three = (entry["input_digest"] for entry in entries(fake.home, "a"))
    assert one == two != three
    path = tmp_path / "request.json"
    path.write_text(json.dumps(body))
    for home, same in ((fake.home, True), (tmp_path, False)):
        shown = CliRunner().invoke(
            commands, ["request-log", "digest", str(path)], env={"FTDM_HOME": str(home)}
        )
        assert (shown.stdout.strip() == one) is same


@pytest.mark.parametrize("asked", [None, {"include_usage": True}, {"include_usage": False}])
def test_a_stream_has_an_entry_of_its_beginning_and_of_its_end(
    client: TestClient, fake: Fake, asked: dict[str, bool] | None
) -> None:
    headers = ids(f"stream{asked and asked['include_usage']}")
    body = chat("words=4", stream=True) | ({"stream_options": asked} if asked else {})
    answer = client.post(CHAT, json=body, headers=headers)
    # The caller sees the tokens only if it asked for them; the log has them unless it refused.
    assert ('"usage"' in answer.text) is bool(asked and asked["include_usage"])
    began, ended = entries(fake.home, headers["x-request-id"])
    tokens = (ended["prompt_tokens"], ended["completion_tokens"])
    assert tokens == ((None, None) if asked == {"include_usage": False} else (3, 4))
    assert (began["event"], ended["event"]) == ("stream_began", "stream_ended")
    assert began["id"] == ended["id"]
    assert began["streamed"]
    assert began["version"] == ended["version"] == f"{MODEL}-v0001"
    assert began["constrained"] == ended["constrained"] == "off"
    assert began["latency_us"] <= ended["latency_us"]


def test_refusals_are_recorded_too(fake: Fake) -> None:
    with KeyStore(fake.home) as store:
        revoked = store.new(Grant("gone"), by="t")
        store.revoke(revoked.key.key_id, by="t")
        other = store.new(Grant("other", models=("other",)), by="t")
    with client_of(GatewaySettings(fake.home)) as client:
        client.post(CHAT, json=chat(), headers=bearer(other.text) | ids("other"))
        for key in ("x", "y", revoked.text):
            client.post(CHAT, json=chat(), headers=bearer(key) | ids("none"))
        client.post(CHAT, content=b"{", headers=ids("bad"))
        client.get("/nowhere", headers=ids("path"))
        client.post(CHAT, json=chat() | {"model": "tell me a secret"}, headers=ids("model"))
    found = {}
    for name in ("other", "bad", "path", "model"):
        (entry,) = entries(fake.home, name)
        assert (entry["version"], entry["constrained"]) == ("", "")
        found[name] = (entry["status"], entry["error"], entry["key_name"], entry["model"])
    assert found == {
        "other": (403, "model_not_allowed", "other", MODEL),
        "bad": (400, "invalid_json", "local", ""),
        "path": (404, "not_found", "local", ""),
        "model": (404, "model_not_found", "local", ""),
    }
    # Without a key that counts: counted together, by reason.
    refused: Counter[str] = Counter()
    for one in contents(fake.home):
        if one["event"] == "refused":
            assert (one["status"], one["error"]) == (401, "invalid_api_key")
            assert one["at"] <= one["until"]
            refused[one["key_name"]] += one["count"]
    assert refused == {"": 2, "gone": 1}
    assert not entries(fake.home, "none")


@pytest.mark.alone
def test_a_flood_without_a_key_leaves_a_row_a_second_and_lets_others_through(
    tmp_path: Path,
) -> None:
    flood = 3000
    with gateway_process(tmp_path) as gate:
        keyless = b"GET /v1/models HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer x\r\n\r\n"
        began = time.monotonic()
        with gate.connection(120) as one:
            for _ in range(flood // 100):
                one.sendall(keyless * 100)
                told = b""
                while told.count(b"HTTP/1.1 401 ") < 100:
                    told += one.recv(65536)
            took = time.monotonic() - began
        answer = gate.request(b"GET /v1/models", b"x-request-id: with-a-key")
        assert b" 200 OK" in answer
        gate.process.terminate()
        assert gate.process.wait(60) == 0
    assert len(entries(tmp_path, "with-a-key")) == 1
    refused = [one for one in contents(tmp_path) if one["event"] == "refused"]
    assert sum(one["count"] for one in refused) == flood
    assert len(refused) <= took + 2
    assert not check(RequestLog(tmp_path)).problems


def test_the_log_can_be_verified_and_exported(client: TestClient, fake: Fake) -> None:
    client.get("/v1/models", headers=ids("export"))
    environment = {"FTDM_HOME": str(fake.home)}
    done = CliRunner().invoke(commands, ["verify", "--request-log", "--json"], env=environment)
    report = json.loads(done.stdout)
    assert (done.exit_code, report["problems"]) == (0, [])
    shown = CliRunner().invoke(
        commands, ["request-log", "export", "--since", "2020"], env=environment
    )
    lines = [json.loads(line) for line in shown.stdout.splitlines()]
    assert len(lines) == report["entries"]
    assert lines[-1]["content"]["request_id"] == "export"
    wrong = f"1:{'0' * 64}"
    done = CliRunner().invoke(
        commands, ["verify", "--request-log", "--head", wrong], env=environment
    )
    assert done.exit_code == 1


def test_a_log_that_began_without_a_field_goes_on_with_it(fake: Fake, tmp_path: Path) -> None:
    with PointerStore(tmp_path) as store:
        store.record_version(a_version(fake.url))
        store.promote(MODEL, "v0001", by="t", reason="r", admit=unasked)
    old = RequestEntry(CHAT, "old", status=200).content("answered", 5)
    del old["constrained"]
    log = RequestLog(tmp_path)
    log.append([old])
    log.close()
    with client_of(GatewaySettings(tmp_path)) as client:
        assert client.post(CHAT, json=chat(), headers=ids("new")).status_code == 200
    environment = {"FTDM_HOME": str(tmp_path)}
    shown = CliRunner().invoke(commands, ["request-log", "export"], env=environment)
    before, after = [json.loads(line)["content"] for line in shown.stdout.splitlines()]
    assert "constrained" not in before
    assert after["constrained"] == "off"
    report = check(RequestLog(tmp_path))
    assert (report.head.count, report.problems) == (2, [])


def test_a_gateway_whose_log_cannot_be_written_answers_nothing(
    fake: Fake, tmp_path: Path, impatient: None
) -> None:
    with PointerStore(tmp_path) as store:
        store.record_version(a_version(fake.url))
        store.promote(MODEL, "v0001", by="t", reason="r", admit=unasked)
    in_the_way = RequestLog(tmp_path).path
    in_the_way.mkdir(parents=True)
    with client_of(GatewaySettings(tmp_path)) as client:
        for stream in (False, True):
            answer = client.post(CHAT, json=chat(stream=stream))
            assert answer.status_code == 503
            assert "while the request log cannot be written" in error_of(answer)["message"]
            assert str(tmp_path) not in answer.text
        assert client.get("/health").status_code == 200
        in_the_way.rmdir()
        time.sleep(0.25)
        assert client.post(CHAT, json=chat()).status_code == 200
    assert [row.number for row in RequestLog(tmp_path).rows()] == [1]


class Disk:
    """A log whose disk waits until it is told to go on, or fails."""

    def __init__(self) -> None:
        self.written: list[Mapping[str, Any]] = []
        self.goes_on, self.fails_from = threading.Event(), 10**6
        self.goes_on.set()

    def append(self, contents: Sequence[Mapping[str, Any]]) -> None:
        assert self.goes_on.wait(20)
        if len(self.written) >= self.fails_from:
            raise RequestLogError("the disk is full; make room")
        self.written += contents


async def whole(_: Request) -> Response:
    return JSONResponse({"usage": {"prompt_tokens": 1, "completion_tokens": 2}})


async def broken(_: Request) -> Response:
    raise RuntimeError("a bug")


async def stream(_: Request) -> Response:
    async def events() -> AsyncIterator[bytes]:
        yield b'data: {"choices": []}\n\n'
        yield b'data: {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 6}}\n\n'
        yield b"data: [DONE]\n\n"

    return StreamingResponse(events(), media_type="text/event-stream")


class Recorded:
    """An application behind the recorder, called as a server calls it."""

    def __init__(self) -> None:
        self.disk = Disk()
        routes = [Route("/whole", whole), Route("/stream", stream), Route("/broken", broken)]
        self.app = Starlette(routes=routes, middleware=[Middleware(RecorderMiddleware)])
        self.app.state.recorder = GroupCommit(self.disk.append)
        self.sent: list[Any] = []
        self.at_each: list[int] = []

    async def ask(self, path: str, gone_after: int = 10**6) -> None:
        scope = {"type": "http", "method": "GET", "path": path, "headers": [], "query_string": b""}

        async def receive() -> Any:
            await anyio.sleep_forever()

        async def send(message: Any) -> None:
            if len(self.sent) >= gone_after:
                raise OSError("the caller is gone")
            self.sent.append(message)
            self.at_each.append(len(self.disk.written))

        spec = {"asgi": {"spec_version": "2.4"}}
        await self.app({**scope, **spec}, receive, send)

    def body(self) -> bytes:
        return b"".join(one.get("body", b"") for one in self.sent)


def test_an_answer_waits_for_its_entry() -> None:
    async def scenario() -> None:
        one = Recorded()
        one.disk.goes_on.clear()
        task = asyncio.create_task(one.ask("/whole"))
        await asyncio.sleep(0.1)
        assert one.sent == []
        one.disk.goes_on.set()
        await task
        assert one.at_each == [1, 1]
        assert one.disk.written[0]["completion_tokens"] == 2
        one.app.state.recorder.close()

    asyncio.run(scenario())


def test_a_stream_begins_after_its_first_entry_and_ends_after_its_last() -> None:
    async def scenario() -> None:
        one = Recorded()
        await one.ask("/stream")
        # Head and events as they come, then the last event and the end.
        assert one.at_each == [1, 1, 1, 2, 2]
        assert [entry["event"] for entry in one.disk.written] == ["stream_began", "stream_ended"]
        assert one.disk.written[1]["prompt_tokens"] == 5
        one.app.state.recorder.close()

    asyncio.run(scenario())


@pytest.mark.parametrize("path", ["/whole", "/stream", "/broken", "/nowhere"])
def test_no_entry_no_answer(path: str, impatient: None) -> None:
    async def scenario() -> None:
        one = Recorded()
        one.disk.fails_from = 0
        await one.ask(path)
        assert one.sent[0]["status"] == 503
        error = json.loads(one.body())["error"]
        assert error["code"] == "not_recorded"
        assert "while the request log cannot be written" in error["message"]
        # At once, without another try; then, when there is room, again.
        with pytest.raises(NotWrittenError, match="the disk is full; make room"):
            one.app.state.recorder.check()
        one.disk.fails_from, one.sent = 10**6, []
        await asyncio.sleep(0.25)
        await one.ask("/whole")
        assert one.sent[0]["status"] == 200
        one.app.state.recorder.close()

    asyncio.run(scenario())


def test_a_stream_whose_end_cannot_be_recorded_has_no_end() -> None:
    async def scenario() -> None:
        one = Recorded()
        one.disk.fails_from = 1
        await one.ask("/stream")
        assert b"[DONE]" not in one.body()
        assert b"request log cannot be written" in one.body()
        assert one.sent[-1]["more_body"] is False
        one.app.state.recorder.close()

    asyncio.run(scenario())


def test_a_failure_of_the_gateway_is_recorded() -> None:
    async def scenario() -> None:
        one = Recorded()
        await one.ask("/broken")
        assert one.sent[0]["status"] == 500
        assert [entry["status"] for entry in one.disk.written] == [500]
        one.app.state.recorder.close()

    asyncio.run(scenario())


def test_a_stream_that_the_caller_leaves_is_recorded_as_broken_off() -> None:
    async def scenario() -> None:
        one = Recorded()
        with pytest.raises(ClientDisconnect):
            await one.ask("/stream", gone_after=2)
        one.app.state.recorder.close()
        assert [entry["error"] for entry in one.disk.written] == ["", "broken_off"]

    asyncio.run(scenario())


def test_what_comes_together_is_written_together(tmp_path: Path) -> None:
    batches: list[int] = []
    first = threading.Event()

    def append(contents: Sequence[Mapping[str, Any]]) -> None:
        batches.append(len(contents))
        first.wait(5)

    async def scenario() -> None:
        writer = GroupCommit(append)
        waiting = [writer.put({"n": number}) for number in range(20)]
        while not batches:
            await asyncio.sleep(0.01)
        first.set()
        await asyncio.gather(*waiting)
        writer.close()

    asyncio.run(scenario())
    assert sum(batches) == 20
    assert len(batches) <= 3


def test_entries_from_many_callers_are_one_chain(tmp_path: Path) -> None:
    async def scenario() -> None:
        writer = recorder(tmp_path)
        await asyncio.gather(*(writer.write({"at": "2026", "n": n}) for n in range(300)))
        writer.close()

    began = time.monotonic()
    asyncio.run(scenario())
    assert sorted(json.loads(row.line)["content"]["n"] for row in RequestLog(tmp_path).rows()) == (
        list(range(300))
    )
    assert time.monotonic() - began < 10
