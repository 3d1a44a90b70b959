"""Starting, stopping and resuming versions: N supervised replicas and one router for each.

Invariants:
- a version is started only after admission has let it pass;
- a version is `ready` only after each replica has answered for its own served name and the router
  counts every one of them; the pointer accepts no version that is not;
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

from serving import names
from serving.admission import Admission, AdmissionError
from serving.engine import HOST, EngineCommand, EngineError, engine_command
from serving.health import healthy_replicas, port_is_free, serves
from serving.home import Home, HomeError
from serving.pointer import PointerStore
from serving.router import RouterError, router_command
from serving.sleep import can_sleep, later, wake, with_sleep_mode
from serving.supervision import Program, SupervisionError, Supervisor
from serving.versions import UP, CacheTerms, Replica, Version

_FIRST_PORT, _PORTS = 20000, 10000
_POLL_S = 0.2
_LIVES = 3
_PROGRESS_EVERY_S = 10.0


class DeploymentError(Exception):
    """A version could not be started or stopped; the message says why and what to do."""


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
) -> RunningVersion:
    """Start a version behind its own router and wait until all of it answers.

    Raises:
        AdmissionError: Its evidence or its weights do not verify; what runs was left alone.
        DeploymentError: It did not come up; what was started has been stopped.
        PointerError: The version is bound to another digest.
    """
    began = time.monotonic()
    admission.to_start(spec)
    supervisor = Supervisor(home)
    with PointerStore(home) as store, Home.at(home).lock(_start_lock(spec.model), timeout_s):
        version, before = _plan(home, store, supervisor, spec, replicas)
        if before and _answers(version):
            return RunningVersion(_record_ready(store, version), 0.0)
        try:
            _start(supervisor, version, admission, engine, began + timeout_s, progress)
        except BaseException as error:
            # Only what this call started: a production replica that is on its way back stays.
            for name in reversed([one for one in _program_names(version) if one not in before]):
                supervisor.remove(name)
            if not before:
                store.set_state(spec.model, spec.version, "failed")
            if isinstance(error, DeploymentError | SupervisionError | EngineError | RouterError):
                raise DeploymentError(f"{spec.version} was not started: {error}") from error
            raise
        ready = _record_ready(store, version)
    progress(f"{spec.version} answers on {ready.router_url}")
    return RunningVersion(ready, time.monotonic() - began)


def stop_version(home: Path, model: str, version: str) -> None:
    """Stop a version's replicas and router.

    Raises:
        DeploymentError: It is current or kept warm behind the current one.
    """
    with PointerStore(home) as store, Home.at(home).lock(_start_lock(model)):
        known = store.version(model, version)
        if known.version in _kept(store, model):
            raise DeploymentError(
                f"{known.version} is in production or kept warm: move the pointer first."
            )
        _stop(home, store, known)


def retire_others(home: Path, model: str) -> list[str]:
    """Stop every version of a model that is neither current nor previous; returns their names.

    A version that some process is starting at this moment is left to it; one whose start was
    abandoned (its process was killed) is stopped.
    """
    stopped = []
    with PointerStore(home) as store:
        try:
            with Home.at(home).lock(_start_lock(model), timeout_s=0.0):
                kept = _kept(store, model)
                for one in store.versions():
                    if one.model == model and one.state in UP and one.version not in kept:
                        _stop(home, store, one)
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
) -> dict[str, str]:
    """Start the current and the previous version of every pointer, production first.

    Returns:
        What could not be started: a sentence for each version.
    """
    with PointerStore(home) as store:
        pointers = store.pointers()
        wanted = [(one.model, one.current) for one in pointers]
        wanted += [(one.model, one.previous) for one in pointers if one.previous]
        versions = [store.version(model, version) for model, version in wanted]
    problems = {}
    for one in versions:
        if one.state == "asleep" and _answers(one):
            continue
        try:
            start_version(
                home,
                recorded_spec(one),
                admission=admission,
                replicas=len(one.replicas),
                timeout_s=timeout_s,
                progress=progress,
                engine=engine,
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
    if healthy_replicas(version.router_url) == 0:
        return ""
    return " Its replicas, started before, still answer: move the pointer away to end that."


def split_cores(replicas: int) -> list[tuple[int, ...] | None]:
    """Return each replica's cores: disjoint equal shares, or None (all) when there are too few."""
    cores = sorted(os.sched_getaffinity(0))
    share = len(cores) // replicas
    if share == 0:
        return [None] * replicas
    return [tuple(cores[index * share : (index + 1) * share]) for index in range(replicas)]


def _plan(
    home: Path, store: PointerStore, supervisor: Supervisor, spec: VersionSpec, replicas: int
) -> tuple[Version, set[str]]:
    """Return the version with its addresses, and those of its programs that exist already.

    A version that has programs keeps its addresses: moving it would stop replicas that answer.
    """
    if replicas < 1:
        raise DeploymentError("A version needs at least one replica.")
    served = names.served_name(spec.model, spec.version, spec.digest)
    recorded = {(one.model, one.version): one for one in store.versions()}
    known = recorded.pop((spec.model, spec.version), None)
    if known and known.digest == spec.digest and len(known.replicas) == replicas:
        before = set(_program_names(known)) & set(supervisor.statuses())
        if before:
            return _with_terms(store, known, spec), before
    running = [one for one in recorded.values() if one.state in UP]
    first = _free_ports(
        f"{Home.at(home).folder}:{served}",
        replicas + 2,
        {port for one in running for port in _ports(one)},
    )
    planned = tuple(
        Replica(
            *(f"{spec.version}-replica-{index}", _url(first + index), first + index, cores),
            sleeps=spec.sleeps,
        )
        for index, cores in enumerate(split_cores(replicas))
    )
    version = Version(
        model=spec.model,
        version=spec.version,
        digest=spec.digest,
        folder=spec.folder.absolute(),
        served_name=served,
        max_model_len=spec.max_model_len,
        dtype=spec.dtype,
        router_url=_url(first + replicas),
        replicas=planned,
        cache=spec.cache,
        form=spec.form,
    )
    return store.record_version(version), set()


def _with_terms(store: PointerStore, known: Version, spec: VersionSpec) -> Version:
    """Record other terms or another form; the gateway reads them, no replica has to end."""
    wanted = replace(known, cache=spec.cache, form=spec.form)
    return known if known == wanted else store.record_version(wanted)


def _answers(version: Version) -> bool:
    return healthy_replicas(version.router_url) == len(version.replicas) and all(
        serves(one.url, version.served_name) for one in version.replicas
    )


def _record_ready(store: PointerStore, version: Version) -> Version:
    if version.state == "ready":
        return version
    if version.state == "asleep":
        wake(version)
    return store.record_version(replace(version, state="ready"))


def _url(port: int) -> str:
    return f"http://{HOST}:{port}"


def _free_ports(seed: str, count: int, taken: set[int]) -> int:
    """Return the first of `count` free ports in a row: the replicas', the router's, its metrics'.

    Where the search begins depends on the seed, so that two homes seldom meet.
    """
    start = int.from_bytes(hashlib.sha256(seed.encode()).digest()[:4], "big") % _PORTS
    for step in range(0, _PORTS, count):
        first = _FIRST_PORT + (start + step) % _PORTS
        row = range(first, first + count)
        if not taken.intersection(row) and all(port_is_free(HOST, port) for port in row):
            return first
    raise DeploymentError(f"No {count} free ports in a row from {_FIRST_PORT} on.")


def _router_port(version: Version) -> int:
    return int(version.router_url.rsplit(":", 1)[1])


def _ports(version: Version) -> list[int]:
    router = [_router_port(version), _router_port(version) + 1] if version.router_url else []
    return [one.port for one in version.replicas] + router


def _router_name(version: Version) -> str:
    return f"{version.version}-router"


def _program_names(version: Version) -> list[str]:
    return [one.name for one in version.replicas] + [_router_name(version)]


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
    _await_all(supervisor, dict(replicas), end, progress)
    _start_router(supervisor, version)
    counted = {_router_name(version): lambda: _answers(version)}
    _await_all(supervisor, dict(counted), end, progress)


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


def _start_router(supervisor: Supervisor, version: Version) -> None:
    port = _router_port(version)
    urls = tuple(one.url for one in version.replicas)
    supervisor.put(Program(_router_name(version), router_command(urls, port, port + 1)))


def _await_all(
    supervisor: Supervisor,
    checks: dict[str, Callable[[], bool]],
    end: float,
    progress: Callable[[str], None],
) -> None:
    """Wait until each named program passes its check; give up on one that keeps ending."""
    lives: dict[str, set[int]] = {name: set() for name in checks}
    waiting = dict(checks)
    said = began = time.monotonic()
    while waiting:
        statuses = supervisor.statuses()
        for name, ready in list(waiting.items()):
            status = statuses.get(name)
            lives[name].update({status.pid} if status and status.pid else set())
            if len(lives[name]) >= _LIVES or (status and status.state == "FATAL"):
                raise _gave_up(supervisor, name, f"ended {len(lives[name])} times at its start")
            if ready():
                del waiting[name]
                progress(f"{name} is ready after {time.monotonic() - began:.0f} s")
        if waiting and time.monotonic() > end:
            raise _gave_up(supervisor, next(iter(waiting)), "did not answer in time")
        if waiting and time.monotonic() - said > _PROGRESS_EVERY_S:
            said = time.monotonic()
            progress(f"waiting for {', '.join(waiting)}")
        time.sleep(_POLL_S if waiting else 0)


def _gave_up(supervisor: Supervisor, name: str, what: str) -> DeploymentError:
    return DeploymentError(f"{name} {what}; the end of its log:\n{supervisor.log_tail(name)}")


def _start_lock(model: str) -> str:
    return f"start-{model}"


def _kept(store: PointerStore, model: str) -> set[str | None]:
    pointer = store.pointer(model)
    return {pointer.current, pointer.previous} if pointer else set()


def _stop(home: Path, store: PointerStore, version: Version) -> None:
    # The state first: from then on no promotion and no rollback can choose it.
    store.set_state(version.model, version.version, "stopped")
    _stop_programs(Supervisor(home), version)


def _stop_programs(supervisor: Supervisor, version: Version) -> None:
    for name in reversed(_program_names(version)):
        supervisor.remove(name)
