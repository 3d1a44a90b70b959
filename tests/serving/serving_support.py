"""What the tests of serving share: fake replicas behind the real parts, and load on them."""

import hashlib
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, Protocol

from bench.kept_alive import Callers
from serving import moves, stack
from serving.admission import Admission, Candidate
from serving.deployment import start_version
from serving.engine import EngineCommand
from serving.local_key import local_key
from serving.platform import VersionSpec
from serving.pointer import PointerStore
from serving.stack_programs import Ports
from serving.supervision import Supervisor
from serving.versions import Version

FAKE = Path(__file__).with_name("fake_engine.py")
MODEL = "support_tickets"


class Vouched:
    """Admits every version: the tests' versions lie in no store. Only tests have such a thing."""

    def to_start(self, candidate: Candidate) -> None:
        """Let it start."""

    def to_move(self, candidate: Candidate) -> None:
        """Let the pointer move to it."""

    def guarded(self, candidate: Candidate, argv: tuple[str, ...]) -> tuple[str, ...]:
        """Return the command as it is."""
        return argv


VOUCHED: Admission = Vouched()
promote = partial(moves.promote, admission=VOUCHED)
rollback = partial(moves.rollback, admission=VOUCHED)


def unasked(_: Version) -> None:
    """Let the pointer move, where nothing but the pointer is tested."""


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


def digest_of(version: str) -> str:
    return hashlib.sha256(version.encode()).hexdigest()


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@dataclass(frozen=True)
class Running:
    """A stack that is up, in a home of its own."""

    home: Path
    ports: Ports
    admission: Admission = VOUCHED

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.ports.gateway}"

    @property
    def headers(self) -> dict[str, str]:
        return bearer(local_key(self.home))

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
        start_version(
            self.home,
            spec,
            admission=self.admission,
            replicas=replicas,
            timeout_s=30,
            engine=fake_engine,
        )

    def put(self, version: str, replicas: int = 2, model: str = MODEL) -> None:
        """Start and promote."""
        self.start(version, replicas, model)
        moves.promote(
            self.home, model, version, by="test", reason="because", admission=self.admission
        )

    def up(self) -> stack.StackStatus:
        return stack.up(
            self.home,
            admission=self.admission,
            ports=self.ports,
            timeout_s=30,
            engine=fake_engine,
        )

    def pid(self, name: str) -> int:
        return self.supervisor.statuses()[name].pid

    def store(self) -> PointerStore:
        return PointerStore(self.home)


class Door(Protocol):
    """Where a load is put: a gateway's address, and a key."""

    @property
    def url(self) -> str: ...

    @property
    def headers(self) -> dict[str, str]: ...


def under_load(
    door: Door,
    model: str = MODEL,
    content: str = "words=2 pause=0.01",
    *,
    stream: bool = False,
    count: int = 4,
    cache: Literal["on", "off", ""] = "off",
) -> Callers:
    """Return callers that ask a gateway one question again and again while their context lasts."""
    return Callers(
        *(door.url, door.headers, model, [content], count),
        stream=stream,
        cache=cache,
        timeout_s=30,
        keeps_texts=True,
    )
