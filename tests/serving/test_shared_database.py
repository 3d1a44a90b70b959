"""What several machines share in Postgres: copies that keep up, one chain, no password shown."""

import json
import logging
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import psycopg
import pytest
from starlette.testclient import TestClient
from typer.testing import CliRunner, Result

from ftdm_assets.cli import app as commands
from ftdm_assets.commands.doctor import _database
from ftdm_assets.commands.errors import exit_code
from ftdm_assets.provenance.chain_links import GENESIS, Head, following
from serving import mirror, postgres, shared_request_log, stack, stack_programs
from serving.api_keys import Grant, KeyStore
from serving.database import DatabaseError
from serving.gateway import GatewaySettings, create_app
from serving.health import free_port
from serving.home import DATABASE_VARIABLE
from serving.local_key import local_key
from serving.pointer import PointerStore
from serving.request_log import RequestLogError
from serving.request_log_check import check
from serving.shared_request_log import SharedRequestLog
from serving.stack_programs import Ports
from tests.serving.cut_line import cut_line
from tests.serving.databases import raw
from tests.serving.postgres_server import PASSWORD, PostgresServer, postgres_server
from tests.serving.serving_support import MODEL, bearer
from tests.serving.test_pointer import ROOT, filled, promote
from tests.serving.test_request_log import entry

# What the docstrings promise, and what a machine with other work may take to notice.
SECOND, PATIENT_S = 1.0, 10.0


def soon(holds: Callable[[], bool]) -> float:
    """Return how long it took until something holds."""
    began = time.monotonic()
    while not holds():
        assert time.monotonic() - began < PATIENT_S
        time.sleep(0.002)
    return time.monotonic() - began


def refusal(store: PointerStore) -> str:
    """Return why a store does not say what production is, or nothing."""
    try:
        store.resolve(MODEL)
    except DatabaseError as error:
        return str(error)
    return ""


@pytest.fixture(scope="module")
def stoppable() -> Iterator[PostgresServer]:
    with postgres_server() as one:
        yield one


@pytest.fixture
def lone(stoppable: PostgresServer) -> Iterator[PostgresServer]:
    """A server that the test may stop."""
    yield stoppable
    if not stoppable.runs():
        stoppable.start()


def test_who_starts_at_once_makes_the_schema_once(tmp_path: Path, shared: str) -> None:
    barrier, failures = threading.Barrier(8), []

    def begin(number: int) -> None:
        barrier.wait()
        try:
            with PointerStore(tmp_path), KeyStore(tmp_path) as keys:
                keys.new(Grant(f"key {number}"), by="t")
            SharedRequestLog(tmp_path, shared).heads()
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=begin, args=(number,)) for number in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert failures == []
    with KeyStore(tmp_path) as keys:
        assert len(keys.keys()) == 8


@pytest.mark.parametrize("channel", [postgres.CHANNEL, "nobody_calls_here"])
def test_a_move_and_a_revocation_are_seen_within_a_second(
    tmp_path: Path, shared: str, channel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With notifications, and by asking alone."""
    monkeypatch.setattr(mirror, "CHANNEL", channel)
    filled(tmp_path, 2)
    promote(tmp_path, "v0001", by="ana", reason="first")
    with (
        PointerStore(tmp_path / "other", watching=True) as far,
        KeyStore(tmp_path / "other", watching=True) as far_keys,
        KeyStore(tmp_path) as keys,
    ):
        assert far.resolve(MODEL).version.endswith("v0001")
        made = keys.new(Grant("billing"), by="ana")
        waits = [soon(lambda: far_keys.find(made.text) is not None)]
        promote(tmp_path, "v0002", by="ana", reason="better")
        waits += [soon(lambda: far.resolve(MODEL).version.endswith("v0002"))]
        keys.revoke(made.key.key_id, by="ana")
        waits += [soon(lambda: getattr(far_keys.find(made.text), "revoked_by", None) == "ana")]
        assert [one.version for one in far.versions()] == [
            f"{MODEL}-v0001",
            f"{MODEL}-v0002",
        ]
        with pytest.raises(DatabaseError, match="copy for reading"):
            far.set_state(MODEL, "v0001", "stopped")
    # The bound, with room for a machine that does other things: the median keeps it.
    assert sorted(waits)[1] < SECOND


def test_a_gateway_answers_from_its_copy_while_postgres_is_away_but_not_for_ever(
    tmp_path: Path,
    lone: PostgresServer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv(DATABASE_VARIABLE, lone.new_schema())
    monkeypatch.setattr(mirror, "STALE_S", 3.0)
    filled(tmp_path, 2)
    promote(tmp_path, "v0001", by="ana", reason="first")
    with (
        caplog.at_level(logging.WARNING, "serving.database"),
        PointerStore(tmp_path, watching=True) as far,
    ):
        lone.stop()
        began = time.monotonic()
        assert far.resolve(MODEL).version.endswith("v0001")
        soon(lambda: "Its last state counts" in caplog.text)
        while "has not answered for" not in (told := refusal(far)):
            assert time.monotonic() - began < PATIENT_S
        assert time.monotonic() - began > 1.0
        assert PASSWORD not in told
        lone.start()
        promote(tmp_path, "v0002", by="ana", reason="better")

        soon(lambda: not refusal(far) and far.resolve(MODEL).version.endswith("v0002"))
        soon(lambda: "answers again" in caplog.text)
    assert PASSWORD not in caplog.text


def test_a_gateway_that_cannot_know_any_more_refuses(
    tmp_path: Path, shared: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    headers = bearer(local_key(tmp_path))
    with TestClient(create_app(GatewaySettings(tmp_path)), headers=headers) as client:
        assert client.get("/v1/models").status_code == 200
        monkeypatch.setattr(mirror, "STALE_S", -1.0)
        answer = client.get("/v1/models")
        assert answer.status_code == 503
        assert "database does not answer" in answer.json()["error"]["message"]
        assert "127.0.0.1" not in answer.text
        monkeypatch.setattr(mirror, "STALE_S", 60.0)
        assert client.get("/v1/models").status_code == 200


def test_a_lost_connection_is_made_again(
    tmp_path: Path, lone: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(DATABASE_VARIABLE, lone.new_schema())
    filled(tmp_path, 1)
    with PointerStore(tmp_path) as store:
        for how in (signal.SIGINT, signal.SIGQUIT):
            lone.stop(how)
            lone.start()
            assert [one.state for one in store.versions()] == ["ready"]
        lone.stop()
        lone.start()
        store.set_state(MODEL, "v0001", "stopped")
        assert store.version(MODEL, "v0001").state == "stopped"


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://ftdm:secretword@127.0.0.1:{port}/none",
        "postgresql://ftdm:secret%word@127.0.0.1:{port}/none",
        "postgresql//ftdm:secretword@127.0.0.1:{port}/none",
        "postgresql://ftdm:secretword@127.0.0.1:{port}/none?nonsense=1",
        "host=127.0.0.1 port={port} password=secretword",
    ],
)
@pytest.mark.parametrize("runs", [True, False])
def test_no_password_is_shown(
    tmp_path: Path,
    postgres: PostgresServer,
    url: str,
    runs: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("serving.postgres.PATIENCE_S", 0.3)
    port = postgres.port if runs else free_port()
    monkeypatch.setenv(DATABASE_VARIABLE, url.format(port=port))
    with pytest.raises(DatabaseError) as failed:
        PointerStore(tmp_path)
    found = stack.status(tmp_path, ports=Ports(free_port(), free_port(), free_port()))
    told = str(failed.value)
    for shown in (told, *found.problems, str(_database()), repr(failed.value)):
        assert DATABASE_VARIABLE in shown
        assert "secret" not in shown
    assert exit_code(failed.value)[0] == 3
    assert f"postgresql://ftdm@127.0.0.1:{port}/none" in told or "is no address" in told


def test_the_doctor_says_which_database_it_is(
    tmp_path: Path, shared: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FTDM_HOME", str(tmp_path))
    found = _database()
    assert found.found.startswith("Postgres 18")
    assert found.found.endswith("answers")
    assert PASSWORD not in str(found)
    assert not found.remedy
    program = stack_programs.gateway(tmp_path, Ports(1, 2, 3))
    assert program.env[DATABASE_VARIABLE] == shared
    assert shared not in " ".join(program.argv)
    monkeypatch.delenv(DATABASE_VARIABLE)
    assert _database().found == f"SQLite, {tmp_path / 'serving.db'}"


KILLED_AT = """
import json, os, signal, sys
from pathlib import Path
import psycopg
from serving.pointer import PointerStore
home, execute = Path(sys.argv[1]), psycopg.Connection.execute
def promote(left):
    def step(*given):
        nonlocal left
        for done in (lambda: None, lambda: execute(*given)):
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            found = done()
        return found
    with PointerStore(home) as store:
        psycopg.Connection.execute = step
        store.promote("support_tickets", "v0002", by="crash", reason="r", admit=lambda _: None)
        os._exit(0)
ended = signal.SIGKILL
for number in range(200):
    if (child := os.fork()) == 0:
        promote(number)
    ended = os.waitpid(child, 0)[1]
    with PointerStore(home) as store:
        # Waits for what the dead process had locked.
        store.set_state("support_tickets", "v0001", "ready")
        pointer, moves = store.pointer("support_tickets"), store.moves("support_tickets")
    print(json.dumps([pointer.current[-5:], (pointer.previous or "")[-5:], len(moves)]))
    if ended == 0 or len(moves) == 2:
        break
"""


def test_killed_at_any_statement_a_promotion_is_made_or_not_made(
    tmp_path: Path, shared: str
) -> None:
    filled(tmp_path, 2)
    promote(tmp_path, "v0001", by="ana", reason="first")
    command = [sys.executable, "-c", KILLED_AT, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, timeout=120, check=True, capture_output=True)
    states = [json.loads(line) for line in done.stdout.splitlines()]
    assert states[:-1] == [["v0001", "", 1]] * (len(states) - 1)
    assert states[-1] == ["v0002", "v0001", 2]
    assert len(states) > 15


def test_one_chain_over_all_machines(tmp_path: Path, shared: str) -> None:
    one, two = (SharedRequestLog(tmp_path / name, shared) for name in ("one", "two"))
    for number in range(1, 10):
        (one if number % 3 else two).append([entry(number)])
    for log in (one, two):
        report = check(log)
        assert (report.head.count, report.problems) == (9, [])
        assert len(log.heads()) == 2
        log.close()
    # A machine that is new takes the head as it is.
    new = SharedRequestLog(tmp_path / "new", shared)
    assert new.append([entry(10)]).count == 10
    new.close()


def test_the_commands_verify_and_export_it(
    tmp_path: Path, shared: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = SharedRequestLog(tmp_path, shared)
    head = log.append([entry(number) for number in range(1, 4)])
    log.close()
    monkeypatch.setenv("FTDM_HOME", str(tmp_path))

    def ftdm(*arguments: str) -> Result:
        return CliRunner().invoke(commands, list(arguments))

    verified = ftdm("verify", "--request-log", "--head", str(head), "--json")
    assert (verified.exit_code, json.loads(verified.stdout)["entries"]) == (0, 3)
    wrong = ftdm("verify", "--request-log", "--head", f"2:{head.digest}")
    assert wrong.exit_code == 1
    exported = ftdm("request-log", "export", "--since", "2026-11-02").stdout.splitlines()
    assert [json.loads(line)["content"]["id"] for line in exported] == ["id2", "id3"]
    rewritten(shared, 3)
    assert "requests.shared.head names row 3" in ftdm("verify", "--request-log").output
    monkeypatch.setattr(postgres, "PATIENCE_S", 0.1)
    monkeypatch.setenv(DATABASE_VARIABLE, f"postgresql://u:secret@127.0.0.1:{free_port()}/x")
    away = ftdm("verify", "--request-log")
    assert isinstance(away.exception, DatabaseError)
    assert "secret" not in f"{away.output} {away.exception}"


def rewritten(shared: str, entries: int) -> None:
    """Write rows and head anew inside Postgres, as nobody but its owner could."""
    with psycopg.connect(shared) as link:
        link.execute("ALTER TABLE requests DISABLE TRIGGER USER")
        link.execute("ALTER TABLE request_head DISABLE TRIGGER USER")
        link.execute("DELETE FROM requests")
        head = Head()
        for number in range(1, entries + 1):
            head, line = following(head, entry(number, key_id="harmless"))
            link.execute(
                "INSERT INTO requests VALUES (%s, %s, %s)", (number, entry(number)["at"], line)
            )
        link.execute("UPDATE request_head SET count = %s, digest = %s", (head.count, head.digest))


@pytest.mark.parametrize("entries", [5, 7, 9])
def test_a_log_written_anew_with_its_head_is_found_by_a_machines_own_head(
    tmp_path: Path, shared: str, entries: int
) -> None:
    log = SharedRequestLog(tmp_path, shared)
    kept = log.append([entry(number) for number in range(1, 8)])
    rewritten(shared, entries)
    assert any(str(log.head_path) in problem for problem in check(log).problems)
    for _ in range(2):
        with pytest.raises(RequestLogError, match="row 7 is not what"):
            log.append([entry(8)])
    stranger = SharedRequestLog(tmp_path / "stranger", shared)
    assert check(stranger).problems == []
    (problem,) = check(stranger, [("the auditor's note", kept)]).problems
    assert problem.startswith("the auditor's note")


@pytest.mark.parametrize(
    "change",
    [
        "TRUNCATE requests",
        "TRUNCATE request_head",
        "DELETE FROM request_head",
        "UPDATE request_head SET count = 0",
        f"UPDATE request_head SET digest = '{GENESIS}'",
    ],
)
def test_table_and_head_only_grow(tmp_path: Path, shared: str, change: str) -> None:
    log = SharedRequestLog(tmp_path, shared)
    log.append([entry(1)])
    with (
        raw(tmp_path) as execute,
        pytest.raises(psycopg.errors.RestrictViolation, match="append-only"),
    ):
        execute(change)
    assert log.append([entry(2)]).count == 2
    log.close()


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("cuts", [1, 2])
def test_a_commit_that_nobody_has_confirmed_is_neither_lost_nor_doubled(
    tmp_path: Path, shared: str, moment: Literal["before", "after"], cuts: int
) -> None:
    other = SharedRequestLog(tmp_path / "other", shared)
    with cut_line(shared, moment) as line:
        log = SharedRequestLog(tmp_path, line.url)
        log.append([entry(1)])
        other.append([entry(2)])
        line.cuts = cuts
        assert log.append([entry(3), entry(4)]).count == 4
        assert line.cuts == (0 if moment == "before" else cuts - 1)
        line.cuts = 0
        other.append([entry(5)])
        assert log.append([entry(6)]).count == 6
        log.close()
    other.close()
    report = check(other)
    assert (report.head.count, report.problems) == (6, [])
    found = [json.loads(row.line)["content"]["id"] for row in other.rows()]
    assert found == [f"id{number}" for number in range(1, 7)]


def test_an_entry_waits_for_a_database_that_starts_anew_and_not_for_ever(
    tmp_path: Path,
    lone: PostgresServer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    log = SharedRequestLog(tmp_path, lone.new_schema())
    log.append([entry(1)])
    lone.stop(signal.SIGQUIT)
    later = threading.Timer(1.0, lone.start)
    later.start()
    assert log.append([entry(2)]).count == 2
    later.join()
    lone.stop()
    monkeypatch.setattr(shared_request_log, "PATIENCE_S", 0.5)
    with pytest.raises(RequestLogError, match="no entry can be written") as failed:
        log.append([entry(3)])
    assert PASSWORD not in str(failed.value) + caplog.text
    assert "requests wait for the request log" in caplog.text
    lone.start()
    assert log.append([entry(3)]).count == 3
    log.close()
