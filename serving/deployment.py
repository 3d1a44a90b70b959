"""Starting, stopping and resuming versions, on a platform.

Invariants:
- a version is started only after admission has let it pass;
- a version is `ready` only after each replica has answered for its own served name; the pointer
  accepts no version that is not;
- starting what is up already changes nothing and returns at once;
- a start that fails stops whatever it started and raises with the end of the log that tells why.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from serving.admission import Admission, AdmissionError
from serving.engine import EngineError, engine_command
from serving.health import answering
from serving.home import Home, HomeError
from serving.platform import (
    DeploymentError,
    Platform,
    VersionSpec,
    all_answer,
    recorded_spec,
)
from serving.pointer import PointerStore
from serving.sleep import later, wake
from serving.supervised import EngineBuilder, Supervised
from serving.supervisord import SupervisionError
from serving.versions import UP, Version
from serving.waiting import GaveUpError

_START_ERRORS = (DeploymentError, GaveUpError, SupervisionError, EngineError)


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
            for one in store.versions():
                if (one.model, one.version) == (spec.model, spec.version):
                    refuse_elsewhere(place, one)
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
    progress(f"{spec.version} answers on {ready.addresses}")
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
                f"{known.version} has run on another platform ({known.addresses}): stop it there."
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


def refuse_elsewhere(here: Platform, version: Version) -> None:
    """Refuse to move a version to a platform that nobody asked for.

    Raises:
        DeploymentError: It has run on another; the message says who starts it there.
    """
    if not here.runs(version):
        raise DeploymentError(
            f"{version.version} has run on another platform ({version.addresses}): `ftdm rollback "
            f"{version.model} --to {version.version}`, or Dagster's job {version.model}_rollback "
            f"with `to: {version.version}`, starts it where its defs.yaml says."
        )


def _still(version: Version) -> str:
    """Say that replicas which were started before are left running: production is not cut off."""
    if answering(version) == 0:
        return ""
    return " Its replicas, started before, still answer: move the pointer away to end that."


def _removed(platform: Platform, version: Version, but: frozenset[str]) -> str:
    """Stop what a start that failed has left; return what could not be stopped, in a sentence."""
    try:
        platform.remove(version, but)
    except DeploymentError as error:
        return f" What it has started may still run: {error}"
    return ""


def _record_ready(store: PointerStore, version: Version) -> Version:
    if version.state == "ready":
        return version
    if version.state == "asleep":
        wake(version)
    return store.record_version(replace(version, state="ready"))


def _start_lock(model: str) -> str:
    return f"start-{model}"


def _kept(store: PointerStore, model: str) -> set[str | None]:
    pointer = store.pointer(model)
    return {pointer.current, pointer.previous} if pointer else set()


def _stop(platform: Platform, store: PointerStore, version: Version) -> None:
    # The state first: from then on no promotion and no rollback can choose it.
    store.set_state(version.model, version.version, "stopped")
    platform.remove(version)
