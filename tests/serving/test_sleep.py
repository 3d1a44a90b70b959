"""The previous version sleeps: when it may, what wakes it, and what is told meanwhile."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from serving import cold, deployment, moves
from serving.admission import AdmissionError, Candidate
from serving.drill import drill
from serving.engine import EngineCommand, EngineError
from serving.health import free_port, get_json
from serving.platform import VersionSpec
from serving.pointer import PointerStore
from serving.pointer_tables import version_from, version_row
from serving.sleep import (
    can_sleep,
    later,
    put_to_sleep,
    require_sleep_mode,
    wake,
    with_sleep_mode,
)
from serving.stack_programs import Ports
from serving.versions import PointerError, Replica, Version
from tests.serving.serving_support import MODEL, VOUCHED, Running, Vouched, fake_engine, promote

V1, V2 = f"{MODEL}-v0001", f"{MODEL}-v0002"


def put(running: Running, version: str) -> None:
    spec: VersionSpec = replace(running.spec(version), sleeps=True)
    deployment.start_version(
        running.home, spec, admission=VOUCHED, replicas=1, timeout_s=30, engine=fake_engine
    )
    moves.promote(running.home, MODEL, version, by="t", reason="r", admission=VOUCHED)


@pytest.fixture(scope="module")
def stack_of_two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    ports = Ports(free_port(), free_port(), free_port())
    one = Running(tmp_path_factory.mktemp("sleep") / "home", ports)
    try:
        one.up()
        for version in ("v0001", "v0002"):
            put(one, version)
        yield one
    finally:
        one.supervisor.shutdown(timeout_s=0.5)


@pytest.fixture
def two(stack_of_two: Running) -> Running:
    """Version 2 is current, version 1 previous and awake; both can sleep."""
    for version in ("v0001", "v0002"):
        promote(stack_of_two.home, MODEL, version, by="t", reason="r")
    return stack_of_two


def version_of(running: Running, version: str) -> Version:
    with running.store() as store:
        return store.version(MODEL, version)


def asleep(running: Running, version: str) -> list[bool]:
    known = version_of(running, version)
    return [get_json(f"{one.url}/is_sleeping")[1]["is_sleeping"] for one in known.replicas]


def ask(running: Running, model: str = MODEL, content: str = "words=1") -> httpx.Response:
    body = {"model": model, "messages": [{"role": "user", "content": content}]}
    url = f"{running.url}/v1/chat/completions"
    return httpx.post(url, json=body, headers=running.headers, timeout=30)


def rollback(running: Running) -> cold.RolledBack:
    return cold.rollback(running.home, MODEL, by="t", reason="r", admission=VOUCHED)


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.alone
def test_the_previous_version_sleeps_and_wakes_for_a_rollback(two: Running) -> None:
    with two.store() as store:
        assert can_sleep(store.version(MODEL, "v0001"))
    # Its last answer is finished first.
    answers: list[httpx.Response] = []
    late = threading.Thread(
        target=lambda: answers.append(ask(two, f"{MODEL}@previous", "words=20 pause=0.1"))
    )
    late.start()
    time.sleep(0.5)
    assert put_to_sleep(two.home, MODEL) == V1
    late.join()
    assert answers[0].status_code == 200
    assert (asleep(two, "v0001"), asleep(two, "v0002")) == ([True], [False])
    assert version_of(two, "v0001").state == "asleep"
    refused = ask(two, f"{MODEL}@previous")
    assert refused.status_code == 503
    assert "is kept asleep until production moves to it" in refused.json()["error"]["message"]
    assert ask(two).status_code == 200
    # It is warm: nothing is started, and up leaves it be.
    pids = {name: one.pid for name, one in two.supervisor.statuses().items()}
    assert two.up().healthy
    assert asleep(two, "v0001") == [True]
    made = rollback(two)
    assert made.move.to_version == V1
    assert ask(two).headers["x-ftdm-version"] == V1
    # And the other one takes its place.
    until(lambda: version_of(two, "v0002").state == "asleep")
    until(lambda: asleep(two, "v0002") == [True])
    assert asleep(two, "v0001") == [False]
    assert {name: one.pid for name, one in two.supervisor.statuses().items()} == pids
    # A drill wakes it, asks, and puts it to sleep again; production's state is untouched.
    body = {"messages": [{"role": "user", "content": "hello"}]}
    drilled = drill(two.home, MODEL, body, admission=VOUCHED)
    assert drilled.back.to_version == V2
    until(lambda: asleep(two, "v0002") == [True])
    assert version_of(two, "v0002").state == "asleep"
    # Starting it again wakes it, for the smoke test.
    spec = replace(two.spec("v0002"), sleeps=True)
    deployment.start_version(
        two.home, spec, admission=VOUCHED, replicas=1, timeout_s=30, engine=fake_engine
    )
    assert (asleep(two, "v0002"), version_of(two, "v0002").state) == ([False], "ready")


@pytest.mark.alone
def test_what_does_not_sleep_or_wake_is_said(two: Running) -> None:
    stays_awake, stays_asleep = two.home / "stays-awake", two.home / "stays-asleep"
    stays_awake.touch()
    with pytest.raises(PointerError, match="does not fall asleep"):
        put_to_sleep(two.home, MODEL)
    assert version_of(two, "v0001").state == "ready"
    later(two.home, MODEL).join()
    stays_awake.unlink()
    stays_asleep.touch()
    assert put_to_sleep(two.home, MODEL) == V1
    with pytest.raises(PointerError, match="does not wake up"):
        moves.rollback(two.home, MODEL, by="t", reason="r", admission=VOUCHED)
    with two.store() as store:
        assert store.resolve(MODEL).version == V2
    stays_asleep.unlink()
    wake(version_of(two, "v0001"))
    assert asleep(two, "v0001") == [False]

    class Refusing(Vouched):
        def to_move(self, candidate: Candidate) -> None:
            raise AdmissionError(f"{candidate.version} is not served: its key was revoked.")

    with pytest.raises(AdmissionError):
        cold.rollback(two.home, MODEL, by="t", reason="r", admission=Refusing())
    until(lambda: asleep(two, "v0001") == [True])


def test_what_cannot_sleep_runs_on(tmp_path: Path) -> None:
    assert put_to_sleep(tmp_path, MODEL) is None
    folder = tmp_path / "m"
    version = Version(MODEL, V1, "0" * 64, folder, "served", 2048, "bfloat16")
    assert not can_sleep(version)
    with PointerStore(tmp_path) as store:
        recorded = store.record_version(version)
        assert store.version(MODEL, "v0001") == recorded


def test_the_command_of_an_engine_that_sleeps() -> None:
    plain = EngineCommand(("vllm", "serve"), {"A": "b"}, "health", "base")
    made = with_sleep_mode(plain)
    assert made.argv == ("vllm", "serve", "--enable-sleep-mode")
    assert made.env == {"A": "b", "VLLM_SERVER_DEV_MODE": "1"}


@pytest.mark.parametrize(("says", "holds"), [("True", True), ("False", False), ("", False)])
def test_an_engine_without_sleep_mode_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says: str, holds: bool
) -> None:
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\necho a warning\necho {says}\n", encoding="utf-8")
    python.chmod(0o755)
    monkeypatch.setenv("FTDM_SERVING_PYTHON", str(python))
    if holds:
        require_sleep_mode()
    else:
        with pytest.raises(EngineError, match="previous: running"):
            require_sleep_mode()


def test_a_version_of_before_sleep_mode_is_read(tmp_path: Path) -> None:
    replica = Replica("one", "http://127.0.0.1:1", 1, (0, 1), sleeps=True)
    version = Version(MODEL, V1, "0" * 64, tmp_path, "served", 2048, "bfloat16", (replica,))
    row = list(version_row(version))
    assert version_from(tuple(row)) == version
    row[8] = str(row[8]).replace(', "sleeps": true', "")
    assert version_from(tuple(row)).replicas == (replace(replica, sleeps=False),)
