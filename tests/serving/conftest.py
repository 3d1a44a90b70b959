"""A home with fake replicas behind the real supervisor, router, gateway and cache."""

import hashlib
import os
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from serving import stack
from serving.deployment import VersionSpec, start_version
from serving.engine import EngineCommand
from serving.leash import kill_leftovers
from serving.pointer import PointerStore, promote
from serving.supervision import Supervisor

FAKE = Path(__file__).with_name("fake_engine.py")
MODEL = "support_tickets"


def fake_engine(
    model_folder: Path,
    served_name: str,
    port: int,
    *,
    cores: list[int] | None,
    max_model_len: int,
    dtype: str,
) -> EngineCommand:
    """Stand in for `serving.engine.engine_command`: the same signature, a program that starts fast.

    The folder's `arguments` file, if any, holds further arguments of the fake.
    """
    further = model_folder / "arguments"
    extra = further.read_text(encoding="utf-8").split() if further.is_file() else []
    argv = (sys.executable, str(FAKE), "--port", str(port), "--served-model-name", served_name)
    base = f"http://127.0.0.1:{port}"
    return EngineCommand((*argv, *extra), {"FAKE": dtype}, f"{base}/health", base)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def digest_of(version: str) -> str:
    return hashlib.sha256(version.encode()).hexdigest()


@dataclass(frozen=True)
class Running:
    """A stack that is up, in a home of its own."""

    home: Path
    ports: stack.Ports

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.ports.gateway}"

    @property
    def supervisor(self) -> Supervisor:
        return Supervisor(self.home)

    def spec(self, version: str, model: str = MODEL) -> VersionSpec:
        folder = self.home / "models" / version
        folder.mkdir(parents=True, exist_ok=True)
        full = f"{model}-{version}"
        return VersionSpec(model, full, digest_of(full), folder, 2048, "bfloat16")

    def start(self, version: str, replicas: int = 2, model: str = MODEL) -> None:
        spec = self.spec(version, model)
        start_version(self.home, spec, replicas=replicas, timeout_s=30, engine=fake_engine)

    def put(self, version: str, replicas: int = 2, model: str = MODEL) -> None:
        """Start and promote."""
        self.start(version, replicas, model)
        promote(self.home, model, version, by="test", reason="because")

    def up(self) -> stack.StackStatus:
        return stack.up(self.home, ports=self.ports, timeout_s=30, engine=fake_engine)

    def pid(self, name: str) -> int:
        return self.supervisor.statuses()[name].pid

    def store(self) -> PointerStore:
        return PointerStore(self.home)


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    """A stack without versions; whatever the test leaves is stopped."""
    one = Running(tmp_path / "home", stack.Ports(free_port(), free_port()))
    try:
        one.up()
        yield one
    finally:
        stack.down(one.home, ports=one.ports)


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[Supervisor]:
    one = Supervisor(tmp_path / "home")
    try:
        yield one
    finally:
        one.shutdown()
        kill_leftovers(f"{os.path.abspath(one.home.folder)}:x")  # noqa: PTH100
