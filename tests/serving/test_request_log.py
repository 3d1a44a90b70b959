"""The request log: what was changed, dropped, swapped or put in is found; crashes."""

import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ftdm_assets.provenance.chain_links import Head, following
from serving.request_log import RequestLog, RequestLogError, request_log
from serving.request_log_check import RequestLogReport, check
from serving.shared_request_log import SharedRequestLog
from tests.commands.helpers import REPOSITORY
from tests.serving.databases import REFUSED, both, is_shared, raw

Log = RequestLog | SharedRequestLog


def entry(number: int, **fields: object) -> dict[str, Any]:
    return {"event": "answered", "id": f"id{number}", "at": f"2026-11-{number:02}T00", **fields}


def written(home: Path, entries: int = 7) -> Log:
    log = request_log(home)
    for number in range(1, entries + 1):
        log.append([entry(number)])
    log.close()
    return log


def tampered(log: Log, *statements: str) -> RequestLogReport:
    """Change the table as somebody would who may write it: triggers do not stop him."""
    with raw(Path(log.path)) as execute:
        if is_shared():
            execute("ALTER TABLE requests DISABLE TRIGGER USER")
        else:
            execute("DROP TRIGGER requests_are_never_changed")
            execute("DROP TRIGGER requests_are_never_deleted")
        for statement in statements:
            execute(statement.replace(REPLACED, REPLACED_BYTES) if is_shared() else statement)
    return check(log)


REPLACED = "replace(line, 'id3', 'id9')"
REPLACED_BYTES = "convert_to(replace(convert_from(line, 'UTF8'), 'id3', 'id9'), 'UTF8')"


@both
def test_entries_come_back_in_order_and_the_head_counts_them(tmp_path: Path) -> None:
    log = written(tmp_path)
    head = log.append([entry(8), entry(9)])
    assert head.count == 9
    assert [json.loads(row.line)["content"] for row in log.rows()] == [
        entry(number) for number in range(1, 10)
    ]
    report = check(log)
    assert (report.head, report.problems, report.notes) == (head, [], [])
    assert [row.number for row in log.rows("2026-11-05")] == [5, 6, 7, 8, 9]
    assert list(log.rows("2027")) == []
    log.close()


def test_the_log_is_for_its_owner_only(tmp_path: Path) -> None:
    log = RequestLog(tmp_path)
    log.append([entry(1)])
    files = list(log.path.parent.glob("requests.db*"))
    assert len(files) == 3
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}


@both
def test_nothing_at_all_is_whole(tmp_path: Path) -> None:
    report = check(request_log(tmp_path))
    assert (report.head, report.problems) == (Head(), [])


@pytest.mark.parametrize("change", ["UPDATE requests SET at = ''", "DELETE FROM requests"])
@both
def test_the_table_only_grows(tmp_path: Path, change: str) -> None:
    with (
        raw(Path(written(tmp_path).path)) as execute,
        pytest.raises(REFUSED, match="append-only"),
    ):
        execute(change)


@pytest.mark.parametrize(
    ("statements", "told"),
    [
        (
            [f"UPDATE requests SET line = {REPLACED} WHERE number = 3"],
            "was changed",
        ),
        (["UPDATE requests SET line = '{}' WHERE number = 3"], "row 3: this is no entry"),
        (["UPDATE requests SET at = '2020' WHERE number = 3"], "row 3: its time"),
        (["DELETE FROM requests WHERE number = 3"], "this is entry 4; entries are missing"),
        (["DELETE FROM requests WHERE number = 1"], "rows 1 to 1 are missing"),
        (["DELETE FROM requests WHERE number >= 6"], "counts 7 rows, the log ends after 5"),
        (["DELETE FROM requests"], "counts 7 rows, the log ends after 0"),
        (
            [
                "UPDATE requests SET number = 99 WHERE number = 3",
                "UPDATE requests SET number = 3 WHERE number = 4",
                "UPDATE requests SET number = 4 WHERE number = 99",
            ],
            "row 3: this is entry 4",
        ),
        (
            [
                "UPDATE requests SET number = -number WHERE number > 3",
                "UPDATE requests SET number = 1 - number WHERE number < 0",
                "INSERT INTO requests SELECT 4, at, line FROM requests WHERE number = 2",
            ],
            "row 4: this is entry 2",
        ),
        (["INSERT INTO requests SELECT 8, at, line FROM requests WHERE number = 2"], "row 8"),
    ],
)
@both
def test_any_changed_dropped_swapped_or_inserted_row_is_found(
    tmp_path: Path, statements: list[str], told: str
) -> None:
    report = tampered(written(tmp_path), *statements)
    assert any(told in problem for problem in report.problems), report.problems


@pytest.mark.parametrize(
    "statement", ["DELETE FROM requests WHERE number >= 6", "DELETE FROM requests"]
)
@both
def test_a_log_that_does_not_fit_its_head_takes_no_entry(tmp_path: Path, statement: str) -> None:
    log = written(tmp_path)
    tampered(log, statement)
    with pytest.raises(RequestLogError, match="not what its head says"):
        log.append([entry(8)])


@both
def test_what_others_do_to_the_log_while_it_is_open_is_seen_with_the_next_entry(
    tmp_path: Path,
) -> None:
    log, other = request_log(tmp_path), request_log(tmp_path)
    assert [log.append([entry(number)]).count for number in (1, 2)] == [1, 2]
    assert [other.append([entry(number)]).count for number in (3, 4)] == [3, 4]
    assert [log.append([entry(number)]).count for number in (5, 6)] == [5, 6]
    assert check(log).problems == []
    tampered(log, "DELETE FROM requests WHERE number = 6")
    with pytest.raises(RequestLogError, match="not what its head says"):
        log.append([entry(7)])
    other.close()


def test_a_missing_or_damaged_head_is_named(tmp_path: Path) -> None:
    log = written(tmp_path)
    log.head_path.unlink()
    assert "is missing" in check(log).problems[0]
    with pytest.raises(RequestLogError, match="is missing"):
        log.append([entry(8)])
    log.head_path.write_text("nonsense")
    assert "this is no head of a log" in check(log).problems[0]
    with pytest.raises(RequestLogError, match="this is no head of a log"):
        log.append([entry(8)])


def test_a_log_written_anew_is_found_by_a_head_that_was_kept(tmp_path: Path) -> None:
    kept = check(written(tmp_path / "true")).head
    anew = RequestLog(tmp_path / "anew")
    anew.append([entry(number, key_id="harmless") for number in range(1, 8)])
    anew.close()
    assert check(anew).problems == []
    (problem,) = check(anew, [("the auditor's note", kept)]).problems
    assert "the auditor's note names row 7" in problem


def test_a_log_put_away_while_it_is_written_takes_no_entry(tmp_path: Path) -> None:
    log = RequestLog(tmp_path)
    log.append([entry(1)])
    for path in log.path.parent.glob("requests.db*"):
        path.unlink()
    for _ in range(2):
        with pytest.raises(RequestLogError):
            log.append([entry(2)])
    assert any("cut off" in problem for problem in check(log).problems)


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    path = RequestLog(tmp_path).path
    log = written(tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[:100] + b"\0" * (len(content) - 100))
    assert check(log).problems


def test_rows_behind_the_head_are_taken_in_if_they_follow(tmp_path: Path) -> None:
    log = written(tmp_path, 3)
    head = log.head_path.read_bytes()
    log.append([entry(4)])
    log.close()
    log.head_path.write_bytes(head)
    assert check(log).problems == []
    assert log.append([entry(5)]).count == 5
    assert check(log).problems == []


@both
def test_a_row_put_in_behind_the_head_takes_no_entry(tmp_path: Path) -> None:
    log = written(tmp_path, 3)
    _, line = following(Head(3, "0" * 64), entry(4))
    sent = f"'\\x{line.hex()}'" if is_shared() else f"x'{line.hex()}'"
    with raw(Path(log.path)) as execute:
        execute(f"INSERT INTO requests VALUES (4, '{entry(4)['at']}', {sent})")
    told = "rows behind its head" if is_shared() else "row 4: the entry does not follow"
    with pytest.raises(RequestLogError, match=told):
        log.append([entry(5)])


@both
def test_two_processes_append_one_after_another(tmp_path: Path) -> None:
    """A gateway that ends still writes while its successor has begun."""
    one, two = request_log(tmp_path), request_log(tmp_path)
    for number in range(1, 7):
        (one if number % 3 else two).append([entry(number)])
    assert check(one).problems == []
    assert check(one).head.count == 6
    one.close()
    two.close()


WRITER = """
import sys
from pathlib import Path
from serving.request_log import request_log
log = request_log(Path(sys.argv[1]))
number = 0
while True:
    head = log.append([{"at": "2026", "n": number + k} for k in range(3)])
    number += 3
    print(head.count, flush=True)
"""


@both
def test_a_writer_that_is_killed_leaves_whole_batches(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    for kills in range(1, 4):
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, cwd=REPOSITORY, env={**os.environ}
        ) as process:
            assert process.stdout is not None
            promised = [int(process.stdout.readline()) for _ in range(15 * kills)][-1]
            process.send_signal(signal.SIGKILL)
            rest = process.stdout.read().split()
        promised = int(rest[-1]) if rest else promised
        report = check(request_log(tmp_path))
        assert report.problems == []
        assert report.head.count >= promised
        assert report.head.count % 3 == 0


def test_a_full_disk_is_an_error_and_undoes_the_whole_batch(tmp_path: Path) -> None:
    log = RequestLog(tmp_path)
    log.append([entry(1), entry(2)])
    before = log.append([entry(3)])
    # SQLite's own limit: the database answers as it does on a full disk.
    assert log._db is not None
    pages = log._db.execute("PRAGMA page_count").fetchone()[0]
    log._db.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(RequestLogError, match=r"no entry can be written.*full.*disk has room"):
        log.append([entry(4, text="x" * 3000) for _ in range(5)])
    assert check(log).head == before
    assert log.append([entry(4)]).count == 4
    assert check(log).problems == []


def test_a_folder_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("a file where the folder should be")
    with pytest.raises(RequestLogError, match="no entry can be written"):
        RequestLog(tmp_path).append([entry(1)])
