import os
import socket
import sys
import time
from pathlib import Path

import httpx
import pytest
import redis

from serving import stack, stack_programs
from serving.health import free_port
from serving.stack_programs import Ports, StackError
from serving.supervision import Program
from tests.serving.serving_support import MODEL, VOUCHED, Running, fake_engine


def test_up_twice_changes_nothing(running: Running) -> None:
    running.put("v0001", replicas=1)
    pids = {name: one.pid for name, one in running.supervisor.statuses().items()}
    status = running.up()
    assert status.healthy
    assert {one.name: one.pid for one in status.programs} == pids


def test_another_name_of_the_same_python_replaces_nothing(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    pids = {name: one.pid for name, one in running.supervisor.statuses().items()}
    monkeypatch.setattr(sys, "executable", f"{sys.executable}3.11")
    assert {one.name: one.pid for one in running.up().programs} == pids


def test_status_names_what_is_wrong(running: Running) -> None:
    running.put("v0001", replicas=1)
    running.put("v0002", replicas=1)
    assert stack.status(running.home, ports=running.ports).healthy
    running.supervisor.remove("support_tickets-v0001-replica-0")
    running.supervisor.remove("gateway")
    status = stack.status(running.home, ports=running.ports)
    assert not status.healthy
    assert any("gateway does not answer" in one for one in status.problems)
    assert any("v0001 is not warm" in one for one in status.problems)


def test_the_cache_is_a_redis(running: Running) -> None:
    url = stack.status(running.home, ports=running.ports).cache_url
    with redis.Redis.from_url(url) as cache:
        assert cache.set("a", "b")
        assert cache.get("a") == b"b"
        assert cache.config_get("maxmemory-policy") == {"maxmemory-policy": "allkeys-lru"}
        assert cache.config_get("maxmemory") == {"maxmemory": str(256 * 1024 * 1024)}


def test_the_gateway_keeps_answers_in_it(running: Running) -> None:
    running.put("v0001", replicas=1)
    url, body = f"{running.url}/v1/completions", {"model": MODEL, "prompt": "words=1"}
    words, headers = [""], running.headers | {"x-ftdm-cache": "on"}
    # A store that was late once is passed over for a moment.
    while words[-1] != "hit" and len(words) < 40:
        answer = httpx.post(url, json=body, headers=headers, timeout=30)
        words.append(answer.headers["x-ftdm-cache"])
        time.sleep(0.2 if len(words) > 2 else 0.0)
    assert words[1] == "miss"
    assert words[-1] == "hit"


def test_answers_may_be_kept_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ports = Ports(1, 2)
    assert stack_programs.gateway(tmp_path, ports).env["FTDM_CACHE_URL"] == "redis://127.0.0.1:2/0"
    monkeypatch.setenv("FTDM_CACHE_URL", "rediss://user:password@cache:6379/0")
    program = stack_programs.gateway(tmp_path, ports)
    assert program.env["FTDM_CACHE_URL"] == "rediss://user:password@cache:6379/0"
    assert "password" not in " ".join(program.argv)
    assert stack.status(tmp_path, ports=ports).cache_url == "redis://127.0.0.1:2/0"


def test_down_ends_everything_and_frees_the_ports(running: Running) -> None:
    running.put("v0001", replicas=1)
    pids = [one.pid for one in running.supervisor.statuses().values()]
    status = stack.down(running.home, ports=running.ports)
    assert not status.running
    assert status.programs == ()
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]
    with running.store() as store:
        assert store.resolve("support_tickets").state == "stopped"
    assert stack.down(running.home, ports=running.ports).running is False


def test_extra_programs_are_supervised_too(running: Running) -> None:
    extra = Program("extra", ("sleep", "600"))
    status = stack.up(
        running.home, [extra], admission=VOUCHED, ports=running.ports, engine=fake_engine
    )
    assert status.healthy
    assert "extra" in {one.name for one in status.programs}


@pytest.mark.parametrize("name", ["gateway", "cache", "metrics"])
def test_a_port_that_somebody_else_holds_is_an_error(tmp_path: Path, name: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = int(taken.getsockname()[1])
        free = {one: free_port() for one in ("gateway", "cache", "metrics")}
        ports = Ports(**(free | {name: port}))
        with pytest.raises(StackError, match=f"Port {port}.*FTDM_{name.upper()}_PORT"):
            stack.up(tmp_path / "home", admission=VOUCHED, ports=ports)
    assert not stack.status(tmp_path / "home", ports=ports).running


def test_ports_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Ports.from_environment() == Ports(8321, 8379, 8323)
    monkeypatch.setenv("FTDM_GATEWAY_PORT", "9000")
    assert Ports.from_environment() == Ports(9000, 8379, 8323)
    monkeypatch.setenv("FTDM_CACHE_PORT", "no")
    with pytest.raises(StackError, match="FTDM_CACHE_PORT"):
        Ports.from_environment()


def test_inputs_are_kept_only_where_the_environment_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def keeps() -> bool:
        return "--keep-inputs" in stack_programs.gateway(tmp_path, Ports()).argv

    monkeypatch.delenv("FTDM_REQUEST_LOG_INPUTS", raising=False)
    assert not keeps()
    monkeypatch.setenv("FTDM_REQUEST_LOG_INPUTS", "keep")
    assert keeps()
    monkeypatch.setenv("FTDM_REQUEST_LOG_INPUTS", "yes")
    with pytest.raises(StackError, match="FTDM_REQUEST_LOG_INPUTS"):
        keeps()


def test_the_status_of_a_home_that_never_was(tmp_path: Path) -> None:
    status = stack.status(tmp_path / "none")
    assert (status.running, status.healthy, status.models) == (False, False, ())
    assert not (tmp_path / "none").exists()


def test_a_relative_home_and_any_working_folder(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(running.home.parent)
    relative = Path(running.home.name)
    before = {one.name: one.pid for one in stack.status(relative, ports=running.ports).programs}
    again = stack.up(relative, admission=VOUCHED, ports=running.ports, engine=fake_engine)
    assert again.healthy
    monkeypatch.chdir("/")
    after = {one.name: one.pid for one in running.supervisor.statuses().values()}
    assert after == before
    assert os.getcwd() == "/"  # noqa: PTH109
