"""Labels and golden set in a bucket: whole copies of one state, or one clear sentence."""

import json
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from ftdm_assets.graph.labels import read_golden, read_raw
from ftdm_assets.home import home
from ftdm_assets.sources import buckets
from ftdm_assets.sources.label_source import label_source
from ftdm_assets.sources.tables import SourceError
from golden.tables import GoldenError
from tests.graph.samples import model_folder
from tests.local_aws import point_to
from tests.sources.conftest import BUCKET, Script, answer

ROWS = [{"id": f"r{n}", "text": f"text {n}", "label": "ab"[n % 2]} for n in range(200)]
JSONL = "".join(json.dumps(row) + "\n" for row in ROWS).encode()


def put(s3: Any, key: str, body: bytes) -> str:
    s3.put_object(Bucket=BUCKET, Key=key, Body=body)
    return f"s3://{BUCKET}/{key}"


def copies() -> list[Path]:
    return [path for path in (home() / "cache").rglob("*") if path.is_file()]


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_labels_and_golden_set_are_read_from_a_bucket(s3: Any, tmp_path: Path, suffix: str) -> None:
    local = tmp_path / f"rows{suffix}"
    frame = pd.DataFrame(ROWS)
    if suffix == ".jsonl":
        frame.to_json(local, orient="records", lines=True)
    elif suffix == ".csv":
        frame.to_csv(local, index=False)
    else:
        frame.to_parquet(local)
    url = put(s3, f"2026/rows{suffix}", local.read_bytes())
    there = model_folder(tmp_path / "there", labels={"path": url}, golden={"path": url})
    here = model_folder(tmp_path / "here", labels={"path": str(local)}, golden={"path": str(local)})
    pd.testing.assert_frame_equal(read_raw(there), read_raw(here))
    assert read_golden(there) == read_golden(here)
    assert label_source(there).description == url


def test_the_state_follows_the_content_and_is_read_once(
    s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = put(s3, "a.jsonl", JSONL)
    source = label_source(model_folder(tmp_path / "m", labels={"path": url}))
    state = source.state()
    assert source.state() == state
    source.read()
    with monkeypatch.context() as patched:
        patched.setattr(buckets, "_download", lambda *_: pytest.fail("read again"))
        assert len(source.read().frame) == 200
    put(s3, "a.jsonl", JSONL[: len(JSONL) // 2].rsplit(b"\n", 1)[0])
    assert source.state() != state
    assert len(source.read().frame) < 200
    put(s3, "a.jsonl", JSONL)
    assert source.state() == state


def test_versions_of_a_bucket_are_told_apart(s3: Any) -> None:
    s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    url = put(s3, "a.jsonl", JSONL)
    first = buckets.object_state(url)
    put(s3, "a.jsonl", b"other")
    assert first.version
    assert buckets.object_state(url).version != first.version


def test_an_object_that_is_replaced_while_it_is_read_gives_one_state(
    s3: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    url = put(s3, "a.jsonl", b"old")
    look, looked = buckets.object_state, [0]

    def replaced_after_the_first_look(asked: str) -> buckets.ObjectState:
        state = look(asked)
        looked[0] += 1
        if looked[0] == 1:
            put(s3, "a.jsonl", b"the new one")
        return state

    monkeypatch.setattr(buckets, "object_state", replaced_after_the_first_look)
    assert buckets.fetch(url, tmp_path).read_bytes() == b"the new one"

    def replaced_after_every_look(asked: str) -> buckets.ObjectState:
        state = look(asked)
        looked[0] += 1
        put(s3, "a.jsonl", str(looked[0]).encode())
        return state

    put(s3, "a.jsonl", b"a third one")
    monkeypatch.setattr(buckets, "object_state", replaced_after_every_look)
    with pytest.raises(SourceError, match="was replaced each of the 3 times"):
        buckets.fetch(url, tmp_path)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["a.jsonl"]


def test_a_defect_in_a_row_names_the_object_and_the_line(s3: Any, tmp_path: Path) -> None:
    url = put(s3, "bad.jsonl", JSONL + b"{broken\n")
    model = model_folder(tmp_path / "m", labels={"path": url}, golden={"path": url})
    with pytest.raises(SourceError, match=r"^s3://labels/bad.jsonl, line 201: not valid JSON"):
        read_raw(model)
    with pytest.raises(GoldenError, match=r"^s3://labels/bad.jsonl, line 201"):
        read_golden(model)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("s3://labels/none.jsonl", r"s3://labels/none\.jsonl: there is no such object; mend"),
        ("s3://nobodys-bucket/a.jsonl", "there is no such object"),
        ("s3://labels", "expected s3://BUCKET/KEY"),
        ("s3:///a.jsonl", "expected s3://BUCKET/KEY"),
    ],
)
def test_what_is_not_there_is_named(s3: Any, tmp_path: Path, url: str, message: str) -> None:
    source = label_source(model_folder(tmp_path / "m", labels={"path": url}))
    for ask in (source.state, source.read):
        with pytest.raises(SourceError, match=message):
            ask()


def _denied(handler: BaseHTTPRequestHandler) -> None:
    answer(handler, 403, b"<Error><Code>AccessDenied</Code></Error>")


def _broken(handler: BaseHTTPRequestHandler) -> None:
    answer(handler, 500, b"<Error><Code>InternalError</Code></Error>")


def _cut(handler: BaseHTTPRequestHandler) -> None:
    """Promise all bytes, send half of them, and hang up."""
    handler.send_response(200)
    handler.send_header("ETag", '"e1"')
    handler.send_header("Content-Length", str(len(JSONL)))
    handler.end_headers()
    if handler.command == "GET":
        handler.wfile.write(JSONL[: len(JSONL) // 2])
        handler.close_connection = True


@pytest.mark.parametrize(
    ("script", "message"),
    [
        (_denied, "access denied"),
        (_broken, "the store answered 500; try again later"),
        (_cut, f"cut 3 times before all {len(JSONL)} bytes"),
    ],
)
def test_a_store_that_refuses_fails_or_hangs_up_leaves_nothing_behind(
    scripted: Callable[[Script], str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    script: Script,
    message: str,
) -> None:
    point_to(monkeypatch, scripted(script))
    monkeypatch.setattr(buckets, "_PAUSE_S", 0.01)
    source = label_source(model_folder(tmp_path / "m", labels={"path": "s3://labels/a.jsonl"}))
    with pytest.raises(SourceError, match=message) as caught:
        source.read()
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert copies() == []


def test_a_connection_that_is_cut_once_is_taken_up_again(
    scripted: Callable[[Script], str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked = []

    def script(handler: BaseHTTPRequestHandler) -> None:
        asked.append(handler.command)
        if asked.count("GET") == 1:
            _cut(handler)
        else:
            answer(handler, 200, JSONL, ETag='"e1"')

    monkeypatch.setattr(buckets, "_PAUSE_S", 0.01)
    monkeypatch.setattr(buckets, "object_state", lambda _: STATE)
    point_to(monkeypatch, scripted(script))
    assert buckets.fetch("s3://labels/a.jsonl", tmp_path).read_bytes() == JSONL
    assert asked == ["GET", "GET"]


STATE = buckets.ObjectState("labels", "a.jsonl", '"e1"', "", len(JSONL))


def test_a_store_that_is_not_there_and_missing_credentials_are_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    point_to(monkeypatch, "http://127.0.0.1:9")
    with pytest.raises(SourceError, match=r"cannot be asked .*127\.0\.0\.1:9.*check endpoint"):
        buckets.object_state("s3://labels/a.jsonl")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(SourceError, match="Unable to locate credentials"):
        buckets.object_state("s3://labels/a.jsonl")
