"""This machine as a platform: every replica is a program of the home's supervisor.

Invariants:
- a version that has programs keeps its addresses: moving it would stop replicas that answer;
- replicas count on disjoint shares of the cores when there are enough, on all of them otherwise;
  a share says how many threads a replica has, the system says where they run.
"""

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from serving import names
from serving.admission import Admission
from serving.engine import HOST, EngineCommand, engine_command
from serving.health import port_is_free, serves
from serving.home import Home
from serving.platform import (
    DeploymentError,
    VersionSpec,
    need_a_replica,
    planned_version,
    with_terms,
)
from serving.pointer import PointerStore
from serving.sleep import with_sleep_mode
from serving.supervision import Program, ProgramStatus, Supervisor
from serving.versions import UP, Replica, Version
from serving.waiting import await_all

_FIRST_PORT, _PORTS = 20000, 10000
_POLL_S = 0.2
_LIVES = 3


class EngineBuilder(Protocol):
    """How an engine's command is made; `serving.engine.engine_command` unless a test says so."""

    def __call__(
        self,
        model_folder: Path,
        served_name: str,
        port: int,
        *,
        cores: list[int] | None,
        max_model_len: int,
        dtype: str,
    ) -> EngineCommand:
        """Return the command for one replica."""
        ...


@dataclass(frozen=True)
class Supervised:
    """This machine: every replica is a program of the home's supervisor."""

    home: Path
    engine: EngineBuilder = engine_command

    def plan(
        self, store: PointerStore, spec: VersionSpec, replicas: int
    ) -> tuple[Version, frozenset[str]]:
        """Choose ports, unless the version has programs already; see `Platform`."""
        return _plan(self.home, store, Supervisor(self.home), spec, replicas)

    def start(
        self,
        version: Version,
        admission: Admission,
        end: float,
        progress: Callable[[str], None],
    ) -> None:
        """Start programs; see `Platform`."""
        _start(Supervisor(self.home), version, admission, self.engine, end, progress)

    def remove(self, version: Version, but: frozenset[str] = frozenset()) -> None:
        """Stop programs; see `Platform`."""
        supervisor = Supervisor(self.home)
        for name in reversed([one for one in _program_names(version) if one not in but]):
            supervisor.remove(name)

    def runs(self, version: Version) -> bool:
        """Say whether it is recorded on loopback, or was never started."""
        return all(urlsplit(one.url).hostname == HOST for one in version.replicas)


def split_cores(replicas: int) -> list[tuple[int, ...] | None]:
    """Return each replica's cores: disjoint equal shares, or None (all) when there are too few."""
    cores = sorted(os.sched_getaffinity(0))
    share = len(cores) // replicas
    if share == 0:
        return [None] * replicas
    return [tuple(cores[index * share : (index + 1) * share]) for index in range(replicas)]


def _plan(
    home: Path, store: PointerStore, supervisor: Supervisor, spec: VersionSpec, replicas: int
) -> tuple[Version, frozenset[str]]:
    """Return the version with its addresses, and those of its programs that exist already.

    A version that has programs keeps its addresses: moving it would stop replicas that answer.
    """
    need_a_replica(replicas)
    served = names.served_name(spec.model, spec.version, spec.digest)
    recorded = {(one.model, one.version): one for one in store.versions()}
    known = recorded.pop((spec.model, spec.version), None)
    if known and known.digest == spec.digest and len(known.replicas) == replicas:
        before = frozenset(_program_names(known)) & frozenset(supervisor.statuses())
        if before:
            return with_terms(store, known, spec), before
    running = [one for one in recorded.values() if one.state in UP]
    first = _free_ports(
        f"{Home.at(home).folder}:{served}",
        replicas,
        {port for one in running for port in _ports(one)},
    )
    planned = tuple(
        Replica(
            *(f"{spec.version}-replica-{index}", _url(first + index), first + index, cores),
            sleeps=spec.sleeps,
        )
        for index, cores in enumerate(split_cores(replicas))
    )
    return store.record_version(planned_version(spec, planned)), frozenset()


def _url(port: int) -> str:
    return f"http://{HOST}:{port}"


def _free_ports(seed: str, count: int, taken: set[int]) -> int:
    """Return the first of `count` free ports in a row, one for each replica.

    Where the search begins depends on the seed, so that two homes seldom meet.
    """
    start = int.from_bytes(hashlib.sha256(seed.encode()).digest()[:4], "big") % _PORTS
    for step in range(0, _PORTS, count):
        first = _FIRST_PORT + (start + step) % _PORTS
        row = range(first, first + count)
        if not taken.intersection(row) and all(port_is_free(HOST, port) for port in row):
            return first
    raise DeploymentError(f"No {count} free ports in a row from {_FIRST_PORT} on.")


def _ports(version: Version) -> list[int]:
    return [one.port for one in version.replicas]


def _program_names(version: Version) -> list[str]:
    return [one.name for one in version.replicas]


def _start(
    supervisor: Supervisor,
    version: Version,
    admission: Admission,
    engine: EngineBuilder,
    end: float,
    progress: Callable[[str], None],
) -> None:
    supervisor.ensure_running()
    _start_replicas(supervisor, version, admission, engine)
    replicas = {one.name: partial(serves, one.url, version.served_name) for one in version.replicas}
    await_all(_Programs(supervisor), dict(replicas), end, progress)


def _start_replicas(
    supervisor: Supervisor, version: Version, admission: Admission, engine: EngineBuilder
) -> None:
    for one in version.replicas:
        command = engine(
            version.folder,
            version.served_name,
            one.port,
            cores=list(one.cores) if one.cores else None,
            max_model_len=version.max_model_len,
            dtype=version.dtype,
        )
        if one.sleeps:
            command = with_sleep_mode(command)
        supervisor.put(Program(one.name, admission.guarded(version, command.argv), command.env))


class _Programs:
    """The supervisor's programs, as they are waited for: one that keeps ending is given up."""

    pause_s = _POLL_S

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._lives: dict[str, set[int]] = {}
        self._statuses: dict[str, ProgramStatus] = {}

    def look(self) -> None:
        self._statuses = self._supervisor.statuses()

    def hopeless(self, name: str) -> str:
        status, lives = self._statuses.get(name), self._lives.setdefault(name, set())
        lives.update({status.pid} if status and status.pid else set())
        over = len(lives) >= _LIVES or (status is not None and status.state == "FATAL")
        return f"ended {len(lives)} times at its start" if over else ""

    def state(self, name: str) -> str:
        del name
        return ""

    def last_words(self, name: str) -> str:
        return f"the end of its log:\n{self._supervisor.log_tail(name)}"
