"""Old rows leave the request log for a file, and the evidence stays whole."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from ftdm_assets import home as homes
from ftdm_assets.cli import app as commands
from ftdm_assets.provenance.chain_links import Head
from ftdm_assets.provenance.statements import REQUEST_LOG
from serving import request_log_prune
from serving.request_log import Log, RequestLogError, request_log
from serving.request_log_check import check
from serving.request_log_prune import Pruned, prune
from tests.provenance.samples import manifest
from tests.serving.databases import REFUSED, both, raw
from tests.serving.test_request_log import entry, tampered, written


def contents(log: Log) -> list[dict[str, Any]]:
    return [json.loads(row.line)["content"] for row in log.rows()]


def pruned_at(home: Path, before: str, name: str = "old.jsonl") -> Pruned:
    pruned = prune(home, before, home / name, "alice")
    assert pruned is not None
    return pruned


def test_old_rows_are_in_the_file_and_the_log_says_so(tmp_path: Path) -> None:
    log = written(tmp_path)
    lines = [row.line for row in log.rows()]
    pruned = pruned_at(tmp_path, "2026-11-04")
    assert (pruned.first, pruned.last) == (1, 3)
    content = (tmp_path / "old.jsonl").read_bytes()
    assert content == b"".join(line + b"\n" for line in lines[:3])
    assert (tmp_path / "old.jsonl").stat().st_mode & 0o777 == 0o600
    *rest, said = contents(log)
    assert rest == [entry(number) for number in range(4, 8)]
    assert said.pop("at") > "2026"
    assert len(said.pop("id")) == 32
    assert said == {
        "event": "pruned",
        "by": "alice",
        "before": "2026-11-04",
        "first": 1,
        "last": 3,
        "last_digest": json.loads(lines[2])["digest"],
        "file": "old.jsonl",
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    report = check(log)
    assert (report.problems, report.notes, report.head.count) == ([], [], 8)


@both
def test_the_log_goes_on_and_is_pruned_again(tmp_path: Path) -> None:
    log = written(tmp_path)
    heads = [Head(row.number, row.digest) for row in log.rows()]
    writing = request_log(tmp_path)
    writing.append([entry(8)])
    first = pruned_at(tmp_path, "2026-11-04")
    writing.append([entry(9)])
    second = pruned_at(tmp_path, "2026-11-08", "older.jsonl")
    assert (second.first, second.last) == (4, 7)
    assert writing.append([entry(10)]).count == 12
    early = [("one", heads[1]), ("two", heads[5])]
    report = check(log, early)
    assert report.problems == []
    (note,) = report.notes
    assert "2 heads that were kept (one first) are of rows that were pruned" in note
    whole = check(log, early, [first.file, second.file])
    assert (whole.problems, whole.notes, whole.head.count) == ([], [], 12)
    wrong = check(log, [("kept", Head(2, heads[3].digest))], [first.file, second.file])
    assert "written anew" in wrong.problems[0]
    assert check(log, (), [second.file]).problems == []
    first.file.write_bytes(first.file.read_bytes().replace(b"id2", b"idX"))
    assert "row 2: the entry was changed" in check(log, (), [first.file, second.file]).problems[0]
    assert check(log, (), [first.file]).problems != []
    writing.close()


@both
def test_everything_old_leaves_the_last_entry_of_a_request(tmp_path: Path) -> None:
    log = written(tmp_path)
    writing = request_log(tmp_path)
    writing.append([entry(8)])
    pruned_at(tmp_path, "2099")
    assert [one["event"] for one in contents(log)] == ["answered", "pruned"]
    assert prune(tmp_path, "2099", tmp_path / "none.jsonl", "alice") is None
    assert not (tmp_path / "none.jsonl").exists()
    writing.append([entry(9)])
    assert check(log).problems == []
    writing.close()


@both
@pytest.mark.parametrize("rows", ["number < 3", "number < 4", "number = 6"])
def test_rows_that_nobody_pruned_are_missed(tmp_path: Path, rows: str) -> None:
    log = written(tmp_path)
    pruned_at(tmp_path, "2026-11-02")
    found = tampered(log, f"DELETE FROM requests WHERE {rows}")
    assert "missing" in " ".join(found.problems)
    with pytest.raises(RequestLogError, match="nothing was taken out"):
        prune(tmp_path, "2026-11-05", tmp_path / "more.jsonl", "alice")


@both
def test_the_table_still_only_grows(tmp_path: Path) -> None:
    log = written(tmp_path)
    pruned_at(tmp_path, "2026-11-04")
    with raw(Path(log.path)) as execute, pytest.raises(REFUSED, match="append-only"):
        execute("DELETE FROM requests")


@both
@pytest.mark.parametrize("parts", [0, 2])
def test_who_is_stopped_before_all_is_deleted_prunes_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parts: int
) -> None:
    log, done = written(tmp_path), 0

    def stop(_: float) -> None:
        nonlocal done
        done += 1
        if done >= parts:
            raise KeyboardInterrupt

    with monkeypatch.context() as stopped:
        stopped.setattr(request_log_prune, "_PART", 1)
        stopped.setattr("serving.request_log_prune.time.sleep", stop)
        if parts == 0:
            stopped.setattr(request_log_prune, "_delete", lambda *_: stop(0))
        with pytest.raises(KeyboardInterrupt):
            prune(tmp_path, "2026-11-04", tmp_path / "old.jsonl", "alice")
    assert next(log.rows()).number == parts + 1
    assert check(log).problems == []
    assert check(log, (), [tmp_path / "old.jsonl"]).problems == []
    again = pruned_at(tmp_path, "2026-11-04", "again.jsonl")
    assert (again.first, again.last) == (parts + 1, 3)
    assert check(log).problems == []


def test_heads_in_manifests_are_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FTDM_HOME", str(tmp_path))
    log, artifacts = written(tmp_path), homes.store()
    made = artifacts.put_document("canary", {"a": 1})
    facts = {REQUEST_LOG: str(log.heads()[0][1])}
    artifacts.add_manifest(manifest("canary_scores", made.digest, kind=made.kind, facts=facts))
    ask = ["verify", "--request-log"]
    assert CliRunner().invoke(commands, ask).exit_code == 0
    log.close()
    for path in (log.path, log.head_path):
        Path(path).unlink()
    for number in range(1, 9):
        log.append([entry(number, cached=True)])
    shown = CliRunner().invoke(commands, ask)
    assert shown.exit_code == 1
    assert "of demo/canary_scores names row 7" in " ".join(shown.output.split())


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FTDM_HOME", str(tmp_path))
    monkeypatch.setenv("FTDM_ACTOR", "bob")
    log, file = written(tmp_path), tmp_path / "old.jsonl"
    ask = ["request-log", "prune", "--before", "2026-11-04", "--export", str(file)]
    shown = CliRunner().invoke(commands, [*ask, "--json"])
    assert json.loads(shown.stdout)["pruned"]["last"] == 3
    assert contents(log)[-1]["by"].endswith("(bob)")
    assert CliRunner().invoke(commands, ask).exit_code == 2
    verify = ["verify", "--request-log", "--archive", str(file)]
    assert CliRunner().invoke(commands, verify).exit_code == 0
    assert CliRunner().invoke(commands, verify[:2]).exit_code == 0
    assert CliRunner().invoke(commands, [verify[0], *verify[2:]]).exit_code == 2
    ask[3] = "yesterday"
    assert CliRunner().invoke(commands, ask).exit_code == 2
