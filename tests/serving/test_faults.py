"""Parts are killed, hung, or answer for others while callers ask: what fails, how long it takes.

Each test says its counts (`pytest -s`). What `test_failover.py` counts is not counted again.
"""

import os
import re
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx
import pytest

from bench.kept_alive import Callers
from serving import stack
from serving.health import free_port
from serving.request_log import RequestLog
from serving.request_log_check import check
from serving.stack_programs import CACHE, GATEWAY, Ports, pongs
from serving.versions import Version
from tests.serving.cache_support import chat, gateway
from tests.serving.serving_support import MODEL, Running, bearer, under_load
from tests.serving.test_failover import kill, within

# They measure how long callers wait.
pytestmark = pytest.mark.alone

# The aim is 2 s; the rest is for a machine that is busy with something else.
OUT_WITHIN_S = 4.0
# Far below the 120 s that a request to a hung replica took once.
LONGEST_S = 15.0


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One stack for all of them: each leaves it as it was."""
    home = tmp_path_factory.mktemp("faults") / "home"
    one = Running(home, Ports(free_port(), free_port(), free_port()))
    try:
        one.up()
        one.put("v0001")
        yield one
    finally:
        one.supervisor.shutdown(timeout_s=0.5)


@pytest.fixture
def version(up: Running) -> Version:
    with up.store() as store:
        one = store.version(MODEL, "v0001")
    assert within(15, lambda: in_rotation(up) == [True, True])
    return one


def in_rotation(running: Running) -> list[bool]:
    """Return what the gateway says of each replica of version 1."""
    try:
        metrics = httpx.get(f"http://127.0.0.1:{running.ports.metrics}/metrics", timeout=5).text
    except httpx.HTTPError:
        return []
    named = r'ftdm_replica_in_rotation\{.*replica="\S*v0001-replica-\d".*\} (\d)'
    return [found == "1" for found in re.findall(named, metrics)]


def become(version: Version, what: str) -> None:
    """Change what the first replica answers."""
    httpx.post(f"{version.replicas[0].url}/become/{what}").raise_for_status()


def rotated(running: Running) -> bool:
    """Say whether the gateway sends requests to the first replica."""
    return in_rotation(running)[:1] == [True]


def seconds_until(holds: Callable[[], bool], most: float = 15.0) -> float:
    began = time.monotonic()
    assert within(most, holds)
    return time.monotonic() - began


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def tell(what: str, load: Callers, **more: float) -> None:
    further = ", ".join(f"{name} {value:.2f} s" for name, value in more.items())
    sys.stdout.write(
        f"\n{what}: {len(load.answers)} requests, {len(load.failures())} failed, "
        f"longest {longest(load):.2f} s{', ' if further else ''}{further}"
    )


def longest(load: Callers) -> float:
    return max(one.ended - one.began for one in load.answers)


@pytest.mark.parametrize("what", ["wrong", "garbage"])
def test_a_replica_that_is_another_is_never_heard_and_comes_back(
    up: Running, version: Version, what: str
) -> None:
    with under_load(up) as load:
        time.sleep(0.5)
        become(version, what)
        out = seconds_until(lambda: not rotated(up))
        # A gateway that is new finds it out by itself.
        with gateway(up.home, None) as new, httpx.Client(headers=bearer(new.key)) as client:
            for _ in range(20):
                told = client.post(f"{new.url}/v1/chat/completions", json=chat(), timeout=30)
                assert told.json()["model"] == version.served_name
        assert not rotated(up)
        reasons = stack.status(up.home, ports=up.ports).models[0].out
        become(version, "well")
        back = seconds_until(lambda: rotated(up))
    tell(what, load, out=out, back=back)
    assert load.failures() == []
    assert out < OUT_WITHIN_S
    assert all(f'"model":"{version.served_name}"' in one.text for one in load.answers)
    assert len(reasons) == 1
    assert version.replicas[0].name in reasons[0]
    counted = f'ftdm_replicas_taken_out_total{{model="{MODEL}",reason="'
    metrics = httpx.get(f"http://127.0.0.1:{up.ports.metrics}/metrics").text.splitlines()
    assert sum(float(one.rsplit(" ", 1)[1]) for one in metrics if one.startswith(counted)) >= 1


def test_a_replica_that_is_stopping_holds_no_request(up: Running, version: Version) -> None:
    pid = up.pid(version.replicas[0].name)
    with under_load(up) as load:
        time.sleep(0.5)
        become(version, "stuck")
        time.sleep(0.7)
        # As vLLM does: no connection is taken any more, and what is at work gets no answer.
        os.kill(pid, signal.SIGTERM)
        out = seconds_until(lambda: not rotated(up))
        time.sleep(2 * OUT_WITHIN_S)
        during = [one for one in load.answers if not one.failure]
        kill(pid)
        back = seconds_until(lambda: rotated(up))
    tell("stopping", load, out=out, back=back)
    assert load.failures() == []
    assert out < OUT_WITHIN_S
    assert longest(load) < out + OUT_WITHIN_S
    assert len(during) > 20


@pytest.mark.parametrize("stream", [False, True])
def test_a_replica_that_hangs_fails_no_request_and_holds_none(
    up: Running, version: Version, stream: bool
) -> None:
    content = "words=8 pause=0.05" if stream else "words=2 pause=0.05"
    with under_load(up, content=content, stream=stream, count=8) as load:
        time.sleep(0.7)
        with stopped(up.pid(version.replicas[0].name)):
            out = seconds_until(lambda: not rotated(up))
            time.sleep(3.0 if stream else 1.0)
            during = list(load.answers)
        back = seconds_until(lambda: rotated(up))
    tell(f"hung, {'streams' if stream else 'plain'}", load, out=out, back=back)
    assert load.failures() == []
    assert out < OUT_WITHIN_S
    assert longest(load) < LONGEST_S
    assert len(during) > 10
    if stream:
        assert load.streamed_texts() == {"".join(f"w{number} " for number in range(8))}


@pytest.mark.parametrize("harm", [signal.SIGKILL, signal.SIGSTOP])
def test_the_cache_of_a_running_stack_fails_no_request(
    up: Running, version: Version, harm: signal.Signals
) -> None:
    pid = up.pid(CACHE)
    with under_load(up, cache="") as load:
        time.sleep(0.5)
        os.kill(pid, harm)
        time.sleep(2.0)
        if harm == signal.SIGSTOP:
            os.kill(pid, signal.SIGCONT)
        assert within(10, lambda: pongs(up.ports.cache))
        time.sleep(0.5)
    tell(f"cache, {harm.name}", load)
    assert load.failures() == []
    assert len(load.answers) > 20
    assert longest(load) < LONGEST_S


def test_a_killed_replica_fails_no_request(up: Running, version: Version) -> None:
    replica = version.replicas[0].name
    first = up.pid(replica)
    with under_load(up, count=8) as load:
        time.sleep(0.5)
        kill(first)
        back = seconds_until(lambda: up.pid(replica) not in (0, first) and rotated(up))
    tell("replica killed", load, back=back)
    assert load.failures() == []


def recorded(up: Running) -> int:
    log = RequestLog(up.home)
    assert check(log).problems == []
    return sum(b'"status":200' in row.line for row in log.rows())


def test_a_killed_gateway_loses_what_is_in_flight_only(up: Running, version: Version) -> None:
    callers, before = 6, recorded(up)
    with under_load(up, count=callers) as load:
        time.sleep(0.7)
        first = up.pid(GATEWAY)
        kill(first)
        assert within(10, lambda: up.pid(GATEWAY) not in (0, first))
        served = len(load.answers)
        assert within(10, lambda: any(not one.failure for one in load.answers[served:]))
        time.sleep(0.5)
    # Nobody listened: such a request was not in flight, and was not taken.
    failed = [one for one in load.failures() if not one.failure.startswith("ConnectError")]
    load.answers = [one for one in load.answers if not one.failure.startswith("ConnectError")]
    tell("gateway killed, without those that reached nobody", load)
    assert len(failed) <= callers
    assert up.up().healthy
    assert recorded(up) - before >= len(load.answers) - len(load.failures()) > 20


def test_a_full_disk_gives_no_answer_without_its_row(up: Running, version: Version) -> None:
    pid, before = up.pid(GATEWAY), recorded(up)
    unlimited = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    with under_load(up) as load:
        time.sleep(0.7)
        # What lies behind the first pages of a file has no room, as on a full disk.
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (8192, unlimited[1]))
        assert within(10, lambda: any(one.failure.startswith("503") for one in load.answers))
        time.sleep(1.0)
        failing = len(load.answers)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, unlimited)
        back = seconds_until(lambda: any(not one.failure for one in load.answers[failing:]))
        time.sleep(0.5)
    tell("disk full", load, back=back)
    assert {one.failure[:3] for one in load.failures()} == {"503"}
    assert up.pid(GATEWAY) == pid
    assert recorded(up) - before >= len(load.answers) - len(load.failures()) > 20


def test_the_last_replica_stays_in_rotation_while_it_hangs(running: Running) -> None:
    running.put("v0001", replicas=1)
    with running.store() as store:
        version = store.version(MODEL, "v0001")
    with under_load(running) as load:
        time.sleep(0.3)
        with stopped(running.pid(version.replicas[0].name)):
            time.sleep(2.5)
        assert within(10, lambda: rotated(running))
        time.sleep(0.3)
    tell("the only replica hung for 2.5 s", load)
    assert load.failures() == []
