"""Starting, stopping and resuming versions: its replicas, on a platform.

Invariants:
- a version is started only after admission has let it pass;
- a version is `ready` only after each replica has answered for its own served name; the pointer
  accepts no version that is not;
- starting what is up already changes nothing and returns at once;
- a start that fails stops whatever it started and raises with the end of the log that tells why;
- replicas count on disjoint shares of the cores when there are enough, on all of them otherwise;
  a share says how many threads a replica has, the system says where they run.
"""

import hashlib
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from serving import names
from serving.admission import Admission, AdmissionError
from serving.engine import HOST, EngineCommand, EngineError, engine_command
from serving.health import answering, port_is_free, serves
from serving.home import Home, HomeError
from serving.pointer import PointerStore
from serving.sleep import can_sleep, later, wake, with_sleep_mode
from serving.supervision import Program, ProgramStatus, SupervisionError, Supervisor
from serving.versions import UP, CacheTerms, Replica, Version
from serving.waiting import GaveUpError, await_all

_FIRST_PORT, _PORTS = 20000, 10000
_POLL_S = 0.2
_LIVES = 3


class DeploymentError(Exception):
    """A version could not be started or stopped; the message says why and what to do."""


_START_ERRORS = (DeploymentError, GaveUpError, SupervisionError, EngineError)


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
class VersionSpec:
    """What to start: a version, by its full name, and the folder of its merged model.

    `form` is what its answers are held to: see `serving.answer_form`. `sleeps` starts its engines
    so that they can be put to sleep while it is the previous one.
    """

    model: str
    version: str
    digest: str
    folder: Path
    max_model_len: int
    dtype: str
    cache: CacheTerms = field(default_factory=CacheTerms)
    form: Mapping[str, Any] = field(default_factory=dict)
    sleeps: bool = False


def recorded_spec(version: Version) -> VersionSpec:
    """Return what starts a recorded version again."""
    return VersionSpec(
        *(version.model, version.version, version.digest, version.folder),
        version.max_model_len,
        version.dtype,
        cache=version.cache,
        form=version.form,
        sleeps=can_sleep(version),
    )


class Platform(Protocol):
    """Where a version's replicas run; left out, on this machine: `Supervised`."""

    def plan(
        self, store: PointerStore, spec: VersionSpec, replicas: int
    ) -> tuple[Version, frozenset[str]]:
        """Record a version with its addresses; return it, and the names of its parts that exist."""

    def start(
        self,
        version: Version,
        admission: Admission,
        end: float,
        progress: Callable[[str], None],
    ) -> None:
        """Start what is missing and wait until each replica serves.

        Raises:
            DeploymentError, GaveUpError: A part does not come up; the message says why.
        """

    def remove(self, version: Version, but: frozenset[str] = frozenset()) -> None:
        """Stop all parts of a version but those that are named.

        Raises:
            DeploymentError: The platform is out of reach.
        """

    def runs(self, version: Version) -> bool:
        """Say whether a recorded version's addresses are of this platform."""


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


@dataclass(frozen=True)
class RunningVersion:
    """A version that answers; `seconds` is how long the start took (0 when it was up)."""

    version: Version
    seconds: float


def start_version(
    home: Path,
    spec: VersionSpec,
    *,
    admission: Admission,
    replicas: int = 2,
    timeout_s: float = 300.0,
    progress: Callable[[str], None] = lambda _: None,
    engine: EngineBuilder = engine_command,
    platform: Platform | None = None,
) -> RunningVersion:
    """Start a version and wait until all of its replicas answer.

    Raises:
        AdmissionError: Its evidence or its weights do not verify; what runs was left alone.
        DeploymentError: It did not come up; what was started has been stopped.
        PointerError: The version is bound to another digest.
    """
    began = time.monotonic()
    admission.to_start(spec)
    place = platform or Supervised(home, engine)
    with PointerStore(home) as store, Home.at(home).lock(_start_lock(spec.model), timeout_s):
        if platform is None:
            _refuse_elsewhere(store, place, spec)
        version, before = place.plan(store, spec, replicas)
        if before and all_answer(version):
            return RunningVersion(_record_ready(store, version), 0.0)
        try:
            place.start(version, admission, began + timeout_s, progress)
        except BaseException as error:
            # Only what this call started: a production replica that is on its way back stays.
            left = _removed(place, version, before)
            if not before:
                store.set_state(spec.model, spec.version, "failed")
            if isinstance(error, _START_ERRORS):
                raise DeploymentError(f"{spec.version} was not started: {error}{left}") from error
            raise
        ready = _record_ready(store, version)
    progress(f"{spec.version} answers on {_addresses(ready)}")
    return RunningVersion(ready, time.monotonic() - began)


def stop_version(home: Path, model: str, version: str, *, platform: Platform | None = None) -> None:
    """Stop a version's replicas.

    Raises:
        DeploymentError: It is current or kept warm behind the current one.
    """
    with PointerStore(home) as store, Home.at(home).lock(_start_lock(model)):
        known = store.version(model, version)
        if known.version in _kept(store, model):
            raise DeploymentError(
                f"{known.version} is in production or kept warm: move the pointer first."
            )
        place = platform or Supervised(home)
        if not place.runs(known):
            raise DeploymentError(
                f"{known.version} has run on another platform ({_addresses(known)}): stop it there."
            )
        _stop(place, store, known)


def retire_others(home: Path, model: str, *, platform: Platform | None = None) -> list[str]:
    """Stop every version of a model that is neither current nor previous; returns their names.

    A version that some process is starting at this moment is left to it; one whose start was
    abandoned (its process was killed) is stopped.
    """
    stopped, place = [], platform or Supervised(home)
    with PointerStore(home) as store:
        try:
            with Home.at(home).lock(_start_lock(model), timeout_s=0.0):
                kept = _kept(store, model)
                for one in store.versions():
                    over = one.state in UP and one.version not in kept
                    if one.model == model and over and place.runs(one):
                        _stop(place, store, one)
                        stopped.append(one.version)
        except HomeError:
            return []
    return stopped


def resume(
    home: Path,
    *,
    admission: Admission,
    timeout_s: float = 300.0,
    progress: Callable[[str], None] = lambda _: None,
    engine: EngineBuilder = engine_command,
    platform: Platform | None = None,
    model: str | None = None,
) -> dict[str, str]:
    """Start the current and the previous version of every pointer, production first.

    What runs on another platform is left to it. `model` asks for that model's versions only.

    Returns:
        What could not be started: a sentence for each version.
    """
    place = platform or Supervised(home, engine)
    with PointerStore(home) as store:
        pointers = [one for one in store.pointers() if model in (None, one.model)]
        wanted = [(one.model, one.current) for one in pointers]
        wanted += [(one.model, one.previous) for one in pointers if one.previous]
        versions = [store.version(model, version) for model, version in wanted]
    problems = {}
    for one in filter(place.runs, versions):
        if one.state == "asleep" and all_answer(one):
            continue
        try:
            start_version(
                home,
                recorded_spec(one),
                admission=admission,
                replicas=len(one.replicas),
                timeout_s=timeout_s,
                progress=progress,
                platform=place,
            )
        except AdmissionError as error:
            problems[one.version] = f"{error}{_still(one)}"
        except DeploymentError as error:
            problems[one.version] = str(error)
    for pointer in pointers:
        later(home, pointer.model)
    return problems


def _still(version: Version) -> str:
    """Say that replicas which were started before are left running: production is not cut off."""
    if answering(version) == 0:
        return ""
    return " Its replicas, started before, still answer: move the pointer away to end that."


def split_cores(replicas: int) -> list[tuple[int, ...] | None]:
    """Return each replica's cores: disjoint equal shares, or None (all) when there are too few."""
    cores = sorted(os.sched_getaffinity(0))
    share = len(cores) // replicas
    if share == 0:
        return [None] * replicas
    return [tuple(cores[index * share : (index + 1) * share]) for index in range(replicas)]


def _refuse_elsewhere(store: PointerStore, here: Platform, spec: VersionSpec) -> None:
    """Refuse to move a version to this machine that runs elsewhere, where nobody asked for that."""
    for one in store.versions():
        same = (one.model, one.version) == (spec.model, spec.version)
        if same and not here.runs(one):
            raise DeploymentError(
                f"{spec.version} has run on another platform ({_addresses(one)}): "
                f"Dagster's job {spec.model}_rollback, or `ftdm run {spec.model} --select "
                "deployed_version` for the newest, starts it where its defs.yaml says."
            )


def _removed(platform: Platform, version: Version, but: frozenset[str]) -> str:
    """Stop what a start that failed has left; return what could not be stopped, in a sentence."""
    try:
        platform.remove(version, but)
    except DeploymentError as error:
        return f" What it has started may still run: {error}"
    return ""


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


def need_a_replica(replicas: int) -> None:
    """Refuse a version without any."""
    if replicas < 1:
        raise DeploymentError("A version needs at least one replica.")


def planned_version(spec: VersionSpec, replicas: tuple[Replica, ...]) -> Version:
    """Return a version that is to start at these addresses."""
    return Version(
        model=spec.model,
        version=spec.version,
        digest=spec.digest,
        folder=spec.folder.absolute(),
        served_name=names.served_name(spec.model, spec.version, spec.digest),
        max_model_len=spec.max_model_len,
        dtype=spec.dtype,
        replicas=replicas,
        cache=spec.cache,
        form=spec.form,
    )


def with_terms(store: PointerStore, known: Version, spec: VersionSpec) -> Version:
    """Record other terms or another form; the gateway reads them, no replica has to end."""
    wanted = replace(known, cache=spec.cache, form=spec.form)
    return known if known == wanted else store.record_version(wanted)


def all_answer(version: Version) -> bool:
    """Say whether each replica serves the version's own name."""
    return answering(version) == len(version.replicas)


def _addresses(version: Version) -> str:
    return ", ".join(one.url for one in version.replicas)


def _record_ready(store: PointerStore, version: Version) -> Version:
    if version.state == "ready":
        return version
    if version.state == "asleep":
        wake(version)
    return store.record_version(replace(version, state="ready"))


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


def _start_lock(model: str) -> str:
    return f"start-{model}"


def _kept(store: PointerStore, model: str) -> set[str | None]:
    pointer = store.pointer(model)
    return {pointer.current, pointer.previous} if pointer else set()


def _stop(platform: Platform, store: PointerStore, version: Version) -> None:
    # The state first: from then on no promotion and no rollback can choose it.
    store.set_state(version.model, version.version, "stopped")
    platform.remove(version)
