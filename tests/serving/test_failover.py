"""Parts are killed while callers ask: what is lost, and how it comes back."""

import os
import signal
import time
from collections.abc import Callable

import httpx
import pytest

from serving import stack
from serving.health import answering, serves
from serving.request_log import RequestLog
from serving.request_log_check import check
from tests.serving.serving_support import MODEL, Running, promote, rollback, under_load

# They measure how long callers wait.
pytestmark = pytest.mark.alone

PLAIN = "words=2 pause=0.01"


def within(seconds: float, holds: Callable[[], bool]) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if holds():
            return True
        time.sleep(0.05)
    return holds()


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def ask(running: Running) -> httpx.Response:
    body = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}]}
    return httpx.post(
        f"{running.url}/v1/chat/completions", json=body, headers=running.headers, timeout=30
    )


@pytest.mark.parametrize("stream", [False, True])
def test_a_killed_replica_loses_no_request_and_comes_back(running: Running, stream: bool) -> None:
    running.put("v0001")
    with running.store() as store:
        version = store.version(MODEL, "v0001")
    name = version.replicas[0].name
    first = running.pid(name)
    # The kill meets streams in their middle: another replica goes on with them.
    content = "words=8 pause=0.02" if stream else PLAIN
    with under_load(running, content=content, stream=stream) as load:
        time.sleep(1.0)
        kill(first)
        assert within(15, lambda: running.pid(name) not in (0, first))
        url = version.replicas[0].url
        assert within(15, lambda: serves(url, version.served_name))
        assert within(15, lambda: answering(version) == 2)
        time.sleep(0.5)
    assert len(load.answers) > 20
    assert load.failures() == []
    if stream:
        assert load.streamed_texts() == {"".join(f"w{number} " for number in range(8))}


def test_a_replica_that_hangs_is_left_out(running: Running) -> None:
    running.put("v0001")
    with running.store() as store:
        version = store.version(MODEL, "v0001")
    hung = running.pid(version.replicas[0].name)
    os.kill(hung, signal.SIGSTOP)
    try:
        assert within(15, lambda: answering(version) == 1)
        for _ in range(20):
            assert ask(running).status_code == 200
    finally:
        os.kill(hung, signal.SIGCONT)
    assert within(15, lambda: answering(version) == 2)


def test_a_killed_gateway_comes_back_and_has_recorded_every_answer(running: Running) -> None:
    running.put("v0001", replicas=1)

    def answers() -> bool:
        try:
            return ask(running).status_code == 200
        except httpx.HTTPError:
            return False

    with under_load(running, content="words=1", count=2) as load:
        time.sleep(0.5)
        kill(running.pid("gateway"))
        time.sleep(0.2)
        assert within(10, answers)
    assert running.up().healthy
    log = RequestLog(running.home)
    assert check(log).problems == []
    recorded = sum(b'"status":200' in row.line for row in log.rows())
    answered = len(load.answers) - len(load.failures())
    # A row may stand there whose answer the kill has cut off, never an answer without its row.
    assert recorded >= answered > 10


def test_a_killed_supervisor_is_restored_by_the_next_up(running: Running) -> None:
    running.put("v0001", replicas=1)
    running.put("v0002", replicas=1)
    daemon = running.home / "run" / "supervisord.pid"
    kill(int(daemon.read_text(encoding="ascii")))
    assert within(10, lambda: not stack.status(running.home, ports=running.ports).running)
    status = running.up()
    assert status.healthy
    assert (status.models[0].current_healthy, status.models[0].previous_healthy) == (1, 1)
    assert ask(running).headers["x-ftdm-version"] == f"{MODEL}-v0002"


def test_promotion_and_rollback_under_load_fail_no_request(running: Running) -> None:
    running.put("v0001")
    running.start("v0002")
    # Asks for many moves while streams, which outlast a move, and plain calls are in flight.
    plain = under_load(running, content=PLAIN, count=3)
    streams = under_load(running, content="words=10 pause=0.05", stream=True, count=3)
    seconds, switched = [], []
    with plain, streams:
        time.sleep(0.5)
        promote(running.home, MODEL, "v0002", by="t", reason="load")
        for number in range(6):
            time.sleep(0.3)
            began = time.monotonic()
            move = rollback(running.home, MODEL, by="t", reason="load")
            seconds.append(time.monotonic() - began)
            began = time.monotonic()
            assert ask(running).headers["x-ftdm-version"] == move.to_version
            switched.append(time.monotonic() - began)
            assert move.to_version.endswith("v0001" if number % 2 == 0 else "v0002")
    assert plain.failures() == []
    assert streams.failures() == []
    assert plain.versions() == streams.versions() == {f"{MODEL}-v0001", f"{MODEL}-v0002"}
    assert len(plain.answers) > 20
    assert max(seconds) < 1.0
    assert max(switched) < 5.0


def test_a_stream_that_began_before_a_rollback_ends_on_its_own_version(running: Running) -> None:
    running.put("v0001", replicas=1)
    running.put("v0002", replicas=1)
    body = {
        "model": MODEL,
        "stream": True,
        "messages": [{"role": "user", "content": "words=20 pause=0.1"}],
    }
    url = f"{running.url}/v1/chat/completions"
    with httpx.stream("POST", url, json=body, headers=running.headers, timeout=30) as answer:
        lines = answer.iter_lines()
        first = next(lines)
        rollback(running.home, MODEL, by="t", reason="while it streams")
        assert ask(running).headers["x-ftdm-version"] == f"{MODEL}-v0001"
        text = first + "".join(lines)
    assert answer.headers["x-ftdm-version"] == f"{MODEL}-v0002"
    assert "[DONE]" in text
    assert '"error"' not in text
    with running.store() as store:
        names = {store.version(MODEL, v).served_name for v in ("v0001", "v0002")}
        used = store.version(MODEL, "v0002").served_name
    assert used in text
    assert not any(name in text for name in names - {used})
