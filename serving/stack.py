"""Everything that serving runs on one machine, up and down: `up`, `down`, `status`.

Invariants:
- `up` may be called at any time and any number of times: what runs is left alone, what is missing
  is started, and it returns once everything answers (or names what does not);
- a port (`serving.stack_programs`) that somebody else holds is an error that says how to choose
  another, never a silent move.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path

from serving.admission import Admission
from serving.database import DatabaseError, exists
from serving.deployment import resume
from serving.engine import HOST, engine_command
from serving.health import answering, get_json, port_is_free
from serving.home import Home
from serving.local_key import local_key
from serving.pointer import PointerStore
from serving.rotation_status import out_of_rotation
from serving.stack_programs import (
    CACHE,
    GATEWAY,
    Ports,
    StackError,
    cache,
    cache_url,
    gateway,
    gateway_url,
    pongs,
)
from serving.supervised import EngineBuilder, Supervised
from serving.supervision import Program, ProgramStatus, Supervisor
from serving.versions import UP

_READY_TIMEOUT_S = 30.0
_PORT_PATIENCE_S = 2.0


@dataclass(frozen=True)
class ModelStatus:
    """One model in production: replicas that answer now and that should, for each version.

    `out` holds a sentence for each replica that is out of rotation.
    """

    model: str
    current: str
    previous: str | None
    current_healthy: int
    previous_healthy: int
    replicas: int
    out: tuple[str, ...] = ()


@dataclass(frozen=True)
class StackStatus:
    """What runs; `problems` holds one sentence for each thing that should and does not."""

    home: Path
    running: bool
    gateway_url: str
    cache_url: str
    programs: tuple[ProgramStatus, ...] = ()
    models: tuple[ModelStatus, ...] = ()
    problems: tuple[str, ...] = field(default=())

    @property
    def healthy(self) -> bool:
        """Whether everything that should run answers."""
        return self.running and not self.problems


def up(
    home: Path,
    extra_programs: Sequence[Program] = (),
    *,
    admission: Admission,
    ports: Ports | None = None,
    timeout_s: float = 300.0,
    progress: Callable[[str], None] = lambda _: None,
    engine: EngineBuilder = engine_command,
) -> StackStatus:
    """Start supervisor, cache, extra programs, gateway and every version of every pointer.

    A version that admission refuses is named among the problems; the others come up.

    Raises:
        StackError: A port is taken, or the gateway or the cache does not answer.
        SupervisionError: The supervisor does not start.
    """
    ports = ports or Ports.from_environment()
    folder = Home.at(home).make().folder
    supervisor = Supervisor(folder)
    _check_port(supervisor, GATEWAY, ports.gateway, "FTDM_GATEWAY_PORT")
    _check_port(supervisor, CACHE, ports.cache, "FTDM_CACHE_PORT")
    _check_port(supervisor, GATEWAY, ports.metrics, "FTDM_METRICS_PORT")
    with PointerStore(folder):
        pass
    local_key(folder)
    for program in (cache(ports), gateway(folder, ports), *extra_programs):
        supervisor.put(program)
        progress(f"{program.name} started")
    _await(supervisor, CACHE, lambda: pongs(ports.cache))
    _await(
        supervisor, GATEWAY, lambda: get_json(gateway_url(ports) + "/health")[0] == HTTPStatus.OK
    )
    progress(f"the gateway answers on {gateway_url(ports)}")
    problems = resume(
        folder, admission=admission, timeout_s=timeout_s, progress=progress, engine=engine
    )
    return status(folder, ports=ports, also=tuple(problems.values()))


def down(home: Path, *, ports: Ports | None = None, timeout_s: float = 60.0) -> StackStatus:
    """Stop everything, also what a killed supervisor left behind."""
    folder = Home.at(home).make().folder
    Supervisor(folder).shutdown(timeout_s, first=(GATEWAY,))
    with PointerStore(folder) as store:
        for one in store.versions():
            if one.state in UP and Supervised(folder).runs(one):
                store.set_state(one.model, one.version, "stopped")
    return status(folder, ports=ports)


def status(home: Path, *, ports: Ports | None = None, also: tuple[str, ...] = ()) -> StackStatus:
    """Say what runs; `also` are problems that the caller knows of."""
    ports = ports or Ports.from_environment()
    folder = Home.at(home).folder
    supervisor = Supervisor(folder)
    running = supervisor.is_running()
    programs = tuple(supervisor.statuses().values())
    problems = [*also]
    try:
        models = _models(folder) if exists(folder) else ()
    except DatabaseError as error:
        models = ()
        problems.append(str(error))
    if running:
        problems += [
            f"{one.name} is {one.state}: see {one.log}" for one in programs if not _ok(one)
        ]
        if get_json(gateway_url(ports) + "/health")[0] != HTTPStatus.OK:
            problems.append(f"The gateway does not answer on {gateway_url(ports)}.")
        problems += [_model_problem(one) for one in models if _model_problem(one)]
        problems += [sentence for one in models for sentence in one.out]
    return StackStatus(
        folder, running, gateway_url(ports), cache_url(ports), programs, models, tuple(problems)
    )


def _ok(program: ProgramStatus) -> bool:
    return program.state in ("RUNNING", "STARTING")


def _models(folder: Path) -> tuple[ModelStatus, ...]:
    with PointerStore(folder) as store:
        return tuple(
            ModelStatus(
                one.model,
                one.current,
                one.previous,
                _healthy(store, one.model, one.current),
                _healthy(store, one.model, one.previous),
                len(store.version(one.model, one.current).replicas),
                tuple(
                    sentence
                    for name in (one.current, one.previous)
                    if name
                    for sentence in out_of_rotation(store.version(one.model, name))
                ),
            )
            for one in store.pointers()
        )


def _healthy(store: PointerStore, model: str, version: str | None) -> int:
    return answering(store.version(model, version)) if version else 0


def _model_problem(one: ModelStatus) -> str:
    if one.current_healthy < one.replicas:
        return f"{one.current}: {one.current_healthy} of {one.replicas} replicas answer."
    if one.previous and not one.previous_healthy:
        return f"{one.previous} is not warm: a rollback would have to start it first."
    return ""


def _check_port(supervisor: Supervisor, name: str, port: int, variable: str) -> None:
    # What a killed supervisor ran dies with it, but a moment later.
    end = time.monotonic() + _PORT_PATIENCE_S
    while name not in supervisor.statuses() and not port_is_free(HOST, port):
        if time.monotonic() > end:
            raise StackError(
                f"Port {port}, which the {name} needs, is taken by another program: end it, or "
                f"set {variable} to a free port."
            )
        time.sleep(0.1)


def _await(supervisor: Supervisor, name: str, ready: Callable[[], bool]) -> None:
    end = time.monotonic() + _READY_TIMEOUT_S
    while not ready():
        if time.monotonic() > end:
            raise StackError(
                f"The {name} does not answer; the end of its log:\n{supervisor.log_tail(name)}"
            )
        time.sleep(0.1)
