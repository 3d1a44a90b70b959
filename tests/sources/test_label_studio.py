"""Label Studio's protocol, well and not well: a whole snapshot or a clear error."""

import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit
from xml.etree import ElementTree

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ftdm_assets.model_folder import ModelFolder
from ftdm_assets.records.contract import RAW_COLUMNS, contract_problems
from ftdm_assets.settings import SettingsError
from ftdm_assets.sources.http_json import ServerError
from ftdm_assets.sources.label_studio import LabelStudioSource
from ftdm_assets.sources.label_studio_project import labelling_config
from ftdm_assets.sources.tables import SourceError
from tests.graph.samples import model_folder

TOKEN = "secret-token-of-the-test"
# Printable: XML has no control characters.
WORDS = st.text(
    st.characters(min_codepoint=32, max_codepoint=0x2FF, exclude_categories=["Cc"]), min_size=1
)
USERS = [{"id": 1, "email": "ana@x.org"}, {"id": 2, "email": "ben@x.org"}]


def annotation(number: int, label: str = "a", **changes: Any) -> dict[str, Any]:
    result = [{"type": "choices", "from_name": "label", "value": {"choices": [label]}}]
    moment = f"2026-03-01T09:00:{number:02d}Z"
    return {
        "id": number, "completed_by": 1, "updated_by": 2, "was_cancelled": False,
        "result": result, "updated_at": moment, **changes,
    }  # fmt: skip


class Fake:
    """A server with one project, and a fault to be chosen: what to do with an answer."""

    def __init__(self) -> None:
        skipped = annotation(4, was_cancelled=True, result=[])
        self.tasks: list[dict[str, Any]] = [
            {"id": 1, "data": {"text": "one"}, "annotations": [annotation(1), annotation(2, "b")]},
            {"id": 2, "data": {"text": "two"}, "meta": {"ftdm_role": "review"},
             "annotations": [annotation(3), skipped]},
            {"id": 3, "data": {"text": "three"}, "annotations": [], "predictions": [7]},
        ]  # fmt: skip
        self.newest = "2026-03-01T10:00:00Z"
        self.asked: list[str] = []
        self.fault: Callable[[str, bytes, BaseHTTPRequestHandler], bool] = lambda *_: False

    def change(self, place: int, moment: str, **changes: Any) -> None:
        """Change a task as the server does: its time moves, and the project's newest."""
        self.tasks[place] = {**self.tasks[place], **changes, "updated_at": moment}
        self.newest = moment

    def read(self) -> list[str]:
        """Return what was read of the tasks since the last call."""
        found = [p for p in self.asked if "export" in p or "fields=all" in p]
        self.asked.clear()
        return ["export" if "export" in path else "changed" for path in found]

    def answer(self, path: str) -> Any:
        annotations = [a for task in self.tasks for a in task["annotations"]]
        skipped = sum(a["was_cancelled"] for a in annotations)
        if path.startswith("/api/projects/7/export"):
            return self.tasks
        if path.startswith("/api/projects/7/"):
            return {
                "task_number": len(self.tasks),
                "total_annotations_number": len(annotations) - skipped,
                "skipped_annotations_number": skipped,
            }
        if path.startswith("/api/projects/"):
            return {"results": [{"id": 7, "title": "demo"}, {"id": 8, "title": "demo 2"}]}
        if path.startswith("/api/tasks/") and "fields=all" in path:
            since = json.loads(parse_qs(urlsplit(path).query)["query"][0])
            since = since["filters"]["items"][0]["value"]
            late = [task for task in self.tasks if task.get("updated_at", "") > since]
            page = int(parse_qs(urlsplit(path).query)["page"][0])
            return {"tasks": late[page - 1 : page], "total": len(late)}
        if path.startswith("/api/tasks/"):
            return {"tasks": [{"updated_at": self.newest}]}
        return USERS


@pytest.fixture
def fake() -> Iterator[tuple[Fake, str]]:
    made = Fake()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            made.asked.append(self.path)
            if self.headers["Authorization"] != f"Token {TOKEN}":
                self.send_error(401)
                return
            body = json.dumps(made.answer(self.path)).encode()
            if not made.fault(self.path, body, self):
                send(self, body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield made, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def send(handler: BaseHTTPRequestHandler, body: bytes, length: int | None = None) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(body) if length is None else length))
    handler.end_headers()
    handler.wfile.write(body)


@pytest.fixture
def source(
    fake: tuple[Fake, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> LabelStudioSource:
    monkeypatch.setenv("FTDM_LABEL_STUDIO_TOKEN", TOKEN)
    return LabelStudioSource(folder_of(tmp_path, fake[1]))


def folder_of(folder: Path, url: str, **changes: Any) -> ModelFolder:
    there = {"url": url, "project": "demo", "timeout_s": 0.4, "retries": 1, **changes}
    return model_folder(folder / "demo", labels={"source": "label_studio", "label_studio": there})


def test_a_row_an_annotation(fake: tuple[Fake, str], source: LabelStudioSource) -> None:
    snapshot = source.read()
    assert list(snapshot.frame.columns) == list(RAW_COLUMNS)
    assert contract_problems(snapshot.frame) == []
    rows = snapshot.frame.to_dict("records")
    assert [row["record_id"] for row in rows] == ["ls-7-1-1", "ls-7-1-2", "ls-7-2-3"]
    assert [row["output"] for row in rows] == ["a", "b", "a"]
    assert {(row["annotator"], row["actor"]) for row in rows} == {("ana@x.org", "ben@x.org")}
    assert [row["role"] for row in rows] == ["label", "label", "review"]
    assert rows[0]["annotated_at"] == "2026-03-01T09:00:01Z"
    assert snapshot.state == source.state()


def test_the_state_is_cheap_and_moves_with_every_change(
    fake: tuple[Fake, str], source: LabelStudioSource
) -> None:
    states = {source.state()}
    assert not any("export" in path for path in fake[0].asked)
    assert source.state() in states
    fake[0].newest = "2026-03-01T10:00:01Z"
    states.add(source.state())
    fake[0].tasks[0]["annotations"].pop()
    states.add(source.state())
    fake[0].tasks.pop()
    states.add(source.state())
    assert len(states) == 4


def slow(_path: str, _body: bytes, _handler: BaseHTTPRequestHandler) -> bool:
    time.sleep(0.8)
    return True


def drip(path: str, body: bytes, handler: BaseHTTPRequestHandler) -> bool:
    if "export" in path:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        for byte in body[:30]:
            try:
                handler.wfile.write(bytes([byte]))
                handler.wfile.flush()
            except OSError:
                return True
            time.sleep(0.05)
        return True
    return False


def broken(path: str, _body: bytes, handler: BaseHTTPRequestHandler) -> bool:
    if "export" in path:
        handler.send_error(500)
    return "export" in path


def cut(path: str, body: bytes, handler: BaseHTTPRequestHandler) -> bool:
    if "export" in path:
        send(handler, body[: len(body) // 2], len(body))
    return "export" in path


def truncated(path: str, body: bytes, handler: BaseHTTPRequestHandler) -> bool:
    if "export" in path:
        send(handler, body[: len(body) // 2])
    return "export" in path


def half_page(path: str, body: bytes, handler: BaseHTTPRequestHandler) -> bool:
    if "export" in path:
        send(handler, json.dumps(json.loads(body)[:2]).encode())
    return "export" in path


def fewer_annotations(path: str, body: bytes, handler: BaseHTTPRequestHandler) -> bool:
    if "export" in path:
        tasks = json.loads(body)
        tasks[0]["annotations"].pop()
        send(handler, json.dumps(tasks).encode())
    return "export" in path


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (slow, "no answer within 0.4 s, 2 times"),
        (drip, "no whole answer within 0.4 s, 2 times"),
        (broken, "the server answers 500, 2 times"),
        (cut, "the connection failed"),
        (truncated, "the answer is no whole JSON document"),
        (half_page, "the export holds 2 tasks, the project counts 3"),
        (fewer_annotations, "the export holds 2 annotations, the project counts 3"),
    ],
)
def test_a_fault_is_one_clear_sentence(
    fake: tuple[Fake, str], source: LabelStudioSource, fault: Any, told: str
) -> None:
    fake[0].fault = fault
    with pytest.raises(ServerError) as error:
        source.read()
    assert told in str(error.value)
    assert TOKEN not in str(error.value)


@pytest.mark.parametrize("fault", [slow, broken, cut, truncated, half_page, fewer_annotations])
def test_a_fault_that_passes_leaves_no_trace(
    fake: tuple[Fake, str], source: LabelStudioSource, fault: Any, tmp_path: Path
) -> None:
    whole = source.read()
    for kept in (tmp_path / "home" / "mirrors").iterdir():
        kept.unlink()
    left = [1]

    def once(path: str, body: bytes, handler: BaseHTTPRequestHandler) -> bool:
        if "export" not in path or not left:
            return False
        left.clear()
        return bool(fault(path, body, handler))

    fake[0].fault = once
    again = source.read()
    assert not left
    assert again.frame.equals(whole.frame)
    assert again.state == whole.state


def more(fake: Fake) -> None:
    """Add tasks, so that one or two are few."""
    fake.tasks += [{"id": n, "data": {"text": f"no. {n}"}, "annotations": []} for n in range(4, 12)]


def test_only_what_has_changed_is_read_again(
    fake: tuple[Fake, str], source: LabelStudioSource, tmp_path: Path
) -> None:
    server = fake[0]
    more(server)
    before = source.read().frame
    assert server.read() == ["export"]
    assert source.read().frame.equals(before)
    assert server.read() == ["changed"]
    server.change(1, "2026-03-01T11:00:00Z", annotations=[annotation(3, "b")])
    server.change(4, "2026-03-01T11:00:01Z", annotations=[annotation(5, "b")])
    after = source.read()
    # One task a page.
    assert server.read() == ["changed", "changed"]
    shutil.rmtree(tmp_path / "home" / "mirrors")
    assert source.read().frame.equals(after.frame)
    assert server.read() == ["export"]
    assert after.frame["output"].tolist() == ["a", "b", "b", "b"]


def test_a_deletion_is_found_by_the_export(
    fake: tuple[Fake, str], source: LabelStudioSource
) -> None:
    server = fake[0]
    more(server)
    source.read()
    # One goes and one comes: the numbers are the same.
    server.tasks.pop(0)
    server.tasks.append({"id": 99, "data": {"text": "new"}, "annotations": [annotation(8, "b")]})
    server.change(-1, "2026-03-01T11:00:00Z", annotations=[annotation(8), annotation(9)])
    server.read()
    rows = source.read().frame
    assert server.read() == ["changed", "export"]
    assert rows["record_id"].tolist() == ["ls-7-2-3", "ls-7-99-8", "ls-7-99-9"]


def test_after_many_changes_the_export_is_cheaper(
    fake: tuple[Fake, str], source: LabelStudioSource
) -> None:
    server = fake[0]
    source.read()
    for place in range(3):
        server.change(place, f"2026-03-01T11:00:0{place}Z")
    server.read()
    source.read()
    assert server.read() == ["changed", "export"]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"newest": "soon", "tasks": []}'])
def test_a_damaged_mirror_is_none(
    fake: tuple[Fake, str], source: LabelStudioSource, tmp_path: Path, content: str
) -> None:
    whole = source.read()
    [mirror] = (tmp_path / "home" / "mirrors").iterdir()
    mirror.write_text(content)
    fake[0].read()
    assert source.read().frame.equals(whole.frame)
    assert fake[0].read() == ["export"]


@pytest.mark.parametrize("fault", [broken, cut, truncated, slow])
def test_a_fault_of_the_listing_is_told_as_well(
    fake: tuple[Fake, str], source: LabelStudioSource, fault: Any
) -> None:
    source.read()

    def late(path: str, body: bytes, handler: BaseHTTPRequestHandler) -> bool:
        return "fields=all" in path and bool(fault("export", body, handler))

    fake[0].fault = late
    with pytest.raises(ServerError, match="2 times"):
        source.read()


def test_a_project_that_moves_once_is_read_again(
    fake: tuple[Fake, str], source: LabelStudioSource
) -> None:
    exports: list[str] = []

    def moving(path: str, body: bytes, handler: BaseHTTPRequestHandler) -> bool:
        if "export" in path:
            exports.append(path)
            if len(exports) == 1:
                fake[0].tasks[2]["annotations"].append(annotation(9))
                fake[0].newest = "2026-03-01T11:00:00Z"
        return False

    fake[0].fault = moving
    snapshot = source.read()
    assert len(exports) == 2
    assert "ls-7-3-9" in set(snapshot.frame["record_id"])
    assert snapshot.state == source.state()


def test_a_project_that_never_rests_is_an_error(
    fake: tuple[Fake, str], source: LabelStudioSource
) -> None:
    def moving(path: str, body: bytes, handler: BaseHTTPRequestHandler) -> bool:
        if "export" in path:
            fake[0].newest += "1"
        return False

    fake[0].fault = moving
    with pytest.raises(ServerError, match="it changed while it was read, 2 times"):
        source.read()


def test_a_wrong_token_is_not_tried_again_and_not_told(
    fake: tuple[Fake, str], source: LabelStudioSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FTDM_LABEL_STUDIO_TOKEN", "wrong")
    with pytest.raises(SourceError, match="FTDM_LABEL_STUDIO_TOKEN is not accepted") as error:
        source.read()
    assert "wrong" not in str(error.value)
    assert len(fake[0].asked) == 1


def test_a_missing_token_names_the_variable(
    source: LabelStudioSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FTDM_LABEL_STUDIO_TOKEN")
    with pytest.raises(SettingsError, match="FTDM_LABEL_STUDIO_TOKEN is not set"):
        source.state()


def test_a_missing_project_says_how_to_make_it(
    fake: tuple[Fake, str], source: LabelStudioSource, tmp_path: Path
) -> None:
    other = LabelStudioSource(folder_of(tmp_path / "other", fake[1], project="dem"))
    with pytest.raises(SourceError, match=r"no project is called 'dem'.*ftdm labels init"):
        other.read()


def test_a_server_that_is_not_there(source: LabelStudioSource, tmp_path: Path) -> None:
    other = LabelStudioSource(folder_of(tmp_path / "other", "http://127.0.0.1:9"))
    with pytest.raises(ServerError, match="the connection failed"):
        other.state()


@given(labels=st.dictionaries(WORDS, WORDS, min_size=1, max_size=4))
@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_taxonomy_comes_back_from_the_interface(tmp_path: Path, labels: dict[str, str]) -> None:
    model = model_folder(tmp_path / "demo", task={"instruction": "Sort.", "taxonomy": labels})
    choices = ElementTree.fromstring(labelling_config(model)).iter("Choice")
    assert {c.get("value"): c.get("hint", "") for c in choices} == labels
