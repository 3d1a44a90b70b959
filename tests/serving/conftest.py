"""Fixtures: a supervisor, a whole stack, a gateway with its cache, in a home of their own."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from serving.health import free_port
from serving.home import DATABASE_VARIABLE
from serving.stack_programs import Ports
from serving.supervision import Supervisor
from tests.serving.cache_support import Bench, FakeReplica, gateway, put, served, valkey
from tests.serving.postgres_server import PostgresServer, postgres_server
from tests.serving.serving_support import Running, bearer


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A real Postgres; started when the first test asks for it."""
    with postgres_server() as one:
        yield one


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The database of the test's stores."""
    monkeypatch.delenv(DATABASE_VARIABLE, raising=False)
    if request.param == "postgres":
        url = request.getfixturevalue("postgres").new_schema()
        monkeypatch.setenv(DATABASE_VARIABLE, url)


@pytest.fixture
def shared(postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> str:
    """A schema of its own in Postgres, as the environment names it."""
    url = postgres.new_schema()
    monkeypatch.setenv(DATABASE_VARIABLE, url)
    return url


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[Supervisor]:
    """A supervisor that is not running yet; what the test leaves is stopped."""
    one = Supervisor(tmp_path / "home")
    try:
        yield one
    finally:
        one.shutdown(timeout_s=0.5)


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    """A stack without versions; what the test leaves is stopped."""
    one = Running(tmp_path / "home", Ports(free_port(), free_port(), free_port()))
    try:
        one.up()
        yield one
    finally:
        # Short: nobody waits for the routers' pause before they end.
        one.supervisor.shutdown(timeout_s=0.5)


@pytest.fixture(scope="module")
def answer_store() -> Iterator[str]:
    port = free_port()
    with valkey(port):
        yield f"redis://127.0.0.1:{port}/0"


@pytest.fixture(params=["valkey"])
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    """`no cache` is an address where nobody answers."""
    url = f"redis://127.0.0.1:{free_port()}/0"
    if request.param == "valkey":
        url = request.getfixturevalue("answer_store")
    one, two = FakeReplica("one"), FakeReplica("two")
    with (
        served(one.app()) as first,
        served(two.app()) as second,
        gateway(tmp_path, url) as gate,
        httpx.Client(timeout=30, verify=False, headers=bearer(gate.key)) as client,
    ):
        put(tmp_path, first)
        yield Bench(tmp_path, gate, client, url, one, two, second)
