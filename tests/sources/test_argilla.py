"""Argilla's protocol from recorded pages, well and not well: a whole snapshot or a clear error."""

import json
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import dagster as dg
import pytest

from ftdm_assets.graph.build import build_plan
from ftdm_assets.graph.sources import current_digests, requests
from ftdm_assets.records.contract import RAW_COLUMNS, contract_problems
from ftdm_assets.settings import SettingsError
from ftdm_assets.sources import argilla_client
from ftdm_assets.sources.argilla import ArgillaServer
from ftdm_assets.sources.http_json import ServerError
from ftdm_assets.sources.label_source import label_source
from ftdm_assets.sources.tables import SourceError
from tests.graph.samples import model_folder
from tests.sources.conftest import Script, answer

KEY = "secret-key-of-the-test"
Fault = Callable[[str, Any, BaseHTTPRequestHandler], bool]
RECORDS = "/api/v1/datasets/ds-2/records"


def response(number: int, user: str | None, label: str, **changes: Any) -> dict[str, Any]:
    return {
        "id": f"resp-{number}", "values": {"label": {"value": label}}, "status": "submitted",
        "record_id": "", "user_id": user, "inserted_at": "2026-03-01T09:00:00",
        "updated_at": f"2026-03-01T09:{number:02d}:00", **changes,
    }  # fmt: skip


def record(number: int, *responses: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": f"rec-{number}", "status": "pending", "external_id": None, "dataset_id": "ds-2",
        "fields": {"text": f"text {number}"}, "metadata": {}, "responses": list(responses),
        "inserted_at": "2026-03-01T08:00:00", "updated_at": "2026-03-01T08:00:00",
    }  # fmt: skip


class Fake:
    """A server with one dataset of five records, in pages of two; and a fault to be chosen."""

    def __init__(self) -> None:
        self.records = [record(n, response(n, "u-ana", "a")) for n in range(1, 5)]
        self.records.append(record(5, response(5, "u-gone", "b", status="draft")))
        self.records[0]["responses"].append(response(6, "u-ben", "b"))
        self.asked: list[str] = []
        self.fault: Fault = lambda *_: False

    def listing(self, path: str, query: dict[str, list[str]]) -> Any:
        if path == "/api/v1/me/workspaces":
            return {"items": [{"id": "w-1", "name": "other"}, {"id": "w-2", "name": "team"}]}
        if path == "/api/v1/me/datasets":
            assert query["workspace_id"] == ["w-2"]
            return {"items": [{"id": "ds-1", "name": "old"}, {"id": "ds-2", "name": "tickets"}]}
        if path == "/api/v1/workspaces/w-2/users":
            users = {"u-ana": "ana", "u-ben": "ben"}
            return {"items": [{"id": key, "username": name} for key, name in users.items()]}
        assert path == RECORDS
        assert query["include"] == ["responses"]
        offset, limit = int(query["offset"][0]), int(query["limit"][0])
        return {"items": self.records[offset : offset + limit], "total": len(self.records)}

    def __call__(self, handler: BaseHTTPRequestHandler) -> None:
        parts = urlsplit(handler.path)
        self.asked.append(handler.path)
        if handler.headers["X-Argilla-Api-Key"] != KEY:
            answer(handler, 401, b'{"detail": "no"}')
            return
        page = self.listing(parts.path, parse_qs(parts.query))
        if not self.fault(parts.path, page, handler):
            answer(handler, 200, json.dumps(page).encode())

    def readings(self) -> int:
        """Return how often the dataset was listed from its beginning."""
        return sum(path.startswith(RECORDS) and "offset=0" in path for path in self.asked)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Fake:
    monkeypatch.setattr(argilla_client, "_PAGE", 2)
    monkeypatch.setattr("ftdm_assets.sources.argilla._PAUSE_S", 0.01)
    monkeypatch.setenv("FTDM_ARGILLA_API_KEY", KEY)
    return Fake()


def source_of(folder: Path, url: str, **changes: Any) -> ArgillaServer:
    there = {"url": url, "workspace": "team", "dataset": "tickets", "timeout_s": 0.4, "retries": 1}
    labels = {"source": "argilla", "argilla": {**there, **changes}, "request_on_change": True}
    found = label_source(model_folder(folder / "demo", labels=labels))
    assert isinstance(found, ArgillaServer)
    return found


@pytest.fixture
def source(fake: Fake, scripted: Callable[[Script], str], tmp_path: Path) -> ArgillaServer:
    return source_of(tmp_path, scripted(fake))


def test_a_row_a_submitted_response(fake: Fake, source: ArgillaServer) -> None:
    snapshot = source.read()
    assert list(snapshot.frame.columns) == list(RAW_COLUMNS)
    assert contract_problems(snapshot.frame) == []
    columns = ["record_id", "input", "output", "annotator", "annotated_at", "source"]
    rows = snapshot.frame[columns].to_numpy().tolist()
    assert rows[0] == ["rec-1/resp-1", "text 1", "a", "ana", "2026-03-01T09:01:00", "argilla ds-2"]
    assert [(row[0], row[2], row[3]) for row in rows[1:]] == [
        ("rec-1/resp-6", "b", "ben"),
        *((f"rec-{n}/resp-{n}", "a", "ana") for n in (2, 3, 4)),
    ]
    assert snapshot.state == source.state()
    assert fake.readings() == 3


def test_the_state_moves_with_every_change_and_requests_the_labels(
    fake: Fake, source: ArgillaServer, tmp_path: Path
) -> None:
    graph = build_plan(source.model)

    def wanted() -> list[dg.RunRequest]:
        labels = {k: v for k, v in current_digests(graph).items() if k == "label_source"}
        return requests(graph, labels)

    states = {source.state()}
    first = wanted()
    assert [one.run_key for one in first] == [f"labels-{next(iter(states))}"]
    # Logged in bulk: neither the record nor the dataset says that anything has changed.
    fake.records[1]["responses"][0]["values"]["label"]["value"] = "b"
    states.add(source.state())
    assert wanted() != first
    fake.records[4]["responses"][0]["status"] = "submitted"
    states.add(source.state())
    fake.records[2]["responses"].clear()
    states.add(source.state())
    fake.records.pop()
    states.add(source.state())
    assert len(states) == 5
    fake.records.reverse()
    assert source.state() in states


def on_records(act: Fault) -> Fault:
    return lambda path, page, handler: path == RECORDS and act(path, page, handler)


def slow(_path: str, _page: Any, _handler: BaseHTTPRequestHandler) -> bool:
    time.sleep(0.8)
    return True


def broken(_path: str, _page: Any, handler: BaseHTTPRequestHandler) -> bool:
    answer(handler, 500)
    return True


def cut(_path: str, page: Any, handler: BaseHTTPRequestHandler) -> bool:
    body = json.dumps(page).encode()
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body[: len(body) // 2])
    handler.close_connection = True
    return True


def truncated(_path: str, page: Any, handler: BaseHTTPRequestHandler) -> bool:
    body = json.dumps(page).encode()
    answer(handler, 200, body[: len(body) // 2])
    return True


def half_page(_path: str, page: Any, _handler: BaseHTTPRequestHandler) -> bool:
    page["items"] = page["items"][:1]
    return False


def twice(_path: str, page: Any, _handler: BaseHTTPRequestHandler) -> bool:
    page["items"] = [{**item, "id": "rec-1"} for item in page["items"]]
    return False


def fewer(_path: str, page: Any, _handler: BaseHTTPRequestHandler) -> bool:
    if page["items"] and page["items"][0]["id"] == "rec-3":
        page["total"] = 4
    return False


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (slow, "no answer within 0.4 s, 2 times"),
        (broken, "the server answers 500, 2 times"),
        (cut, "the connection failed"),
        (truncated, "the answer is no whole JSON document, 2 times"),
        (half_page, "the page at 0 has 1 records, 2 of 5 belong there, 3 readings"),
        (twice, "its pages hold 1 different records, it counts 5, 3 readings"),
        (fewer, "it changed while it was read, 3 readings"),
    ],
)
def test_a_fault_is_one_clear_sentence(
    fake: Fake, source: ArgillaServer, fault: Fault, told: str
) -> None:
    fake.fault = on_records(fault)
    with pytest.raises(ServerError) as error:
        source.read()
    assert told in str(error.value)
    assert KEY not in str(error.value)


@pytest.mark.parametrize("fault", [broken, cut, truncated, half_page, twice, fewer])
@pytest.mark.parametrize("at", [0, 1, 3])
def test_a_fault_that_passes_leaves_no_trace(
    fake: Fake, source: ArgillaServer, fault: Fault, at: int
) -> None:
    whole = source.read()
    seen: list[str] = []

    def once(path: str, page: Any, handler: BaseHTTPRequestHandler) -> bool:
        seen.append(path)
        return len(seen) == at + 1 and fault(path, page, handler)

    fake.fault = on_records(once)
    again = source.read()
    assert again.frame.equals(whole.frame)
    assert again.state == whole.state


def test_a_change_while_it_is_read_is_never_a_mixture(fake: Fake, source: ArgillaServer) -> None:
    def moving(_path: str, _page: Any, _handler: BaseHTTPRequestHandler) -> bool:
        # Behind the first page of the first reading the labels of the first record change.
        if sum(path.startswith(RECORDS) for path in fake.asked) == 2:
            fake.records[0]["responses"][0]["values"]["label"]["value"] = "b"
            fake.records[3]["responses"][0]["values"]["label"]["value"] = "b"
        return False

    fake.fault = on_records(moving)
    snapshot = source.read()
    assert list(snapshot.frame["output"]) == ["b", "b", "a", "a", "b"]
    assert fake.readings() == 3
    assert snapshot.state == source.state()


def test_a_dataset_that_never_rests_is_an_error(fake: Fake, source: ArgillaServer) -> None:
    def moving(_path: str, _page: Any, _handler: BaseHTTPRequestHandler) -> bool:
        fake.records[0]["updated_at"] += "1"
        return False

    fake.fault = on_records(moving)
    with pytest.raises(ServerError, match="it changed while it was read, 3 readings; read it when"):
        source.read()


def test_a_key_that_is_wrong_missing_or_too_weak(
    fake: Fake, source: ArgillaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(_path: str, _page: Any, handler: BaseHTTPRequestHandler) -> bool:
        answer(handler, 403, b'{"detail": {"code": "forbidden"}}')
        return True

    fake.fault = on_records(forbidden)
    with pytest.raises(SourceError, match="may not read that; take one of an owner"):
        source.read()
    monkeypatch.setenv("FTDM_ARGILLA_API_KEY", "wrong-key")
    fake.asked.clear()
    with pytest.raises(SourceError, match="FTDM_ARGILLA_API_KEY is not accepted") as error:
        source.read()
    assert "wrong-key" not in str(error.value)
    assert len(fake.asked) == 1
    monkeypatch.delenv("FTDM_ARGILLA_API_KEY")
    with pytest.raises(SettingsError, match="FTDM_ARGILLA_API_KEY is not set"):
        source.state()


def test_what_is_not_there_is_named(
    fake: Fake, source: ArgillaServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = source.model.settings.labels.argilla.url
    with pytest.raises(SourceError, match="no workspace is called 'tea'; this key sees 'other', "):
        source_of(tmp_path, url, workspace="tea").state()
    with pytest.raises(SourceError, match="no dataset is called 'ticket'; this key sees 'old', 't"):
        source_of(tmp_path, url, dataset="ticket").state()
    with pytest.raises(SourceError, match="dataset tickets in team, record rec-1: 'topic' is miss"):
        source_of(tmp_path, url, question="topic").read()
    with pytest.raises(ServerError, match="the connection failed"):
        source_of(tmp_path, "http://127.0.0.1:9").state()
    fake.fault = lambda _, page, __: bool(page.clear())
    with pytest.raises(ServerError, match="the answer is none of Argilla 2's; check the server"):
        source.state()
    fake.fault = on_records(lambda _, page, __: bool(page.pop("total") is None))
    with pytest.raises(ServerError, match="ds-2/records: the answer is none of Argilla 2's"):
        source.state()


def test_a_server_and_a_recording_exclude_each_other(tmp_path: Path) -> None:
    named = {"url": "http://127.0.0.1:9", "workspace": "team", "dataset": "tickets"}
    labels = {"source": "argilla", "argilla": named, "path": "export.json"}
    with pytest.raises(SettingsError, match=r"labels: expected either path \(a recording\) or arg"):
        model_folder(tmp_path, labels=labels)
    del labels["path"], named["dataset"]
    with pytest.raises(SettingsError, match=r"labels\.argilla\.dataset: this key is needed"):
        model_folder(tmp_path, labels=labels)
