"""Rollback to any version that was in production, warm or not: the one way for all who roll back.

`ftdm rollback`, the Dagster job and `POST /admin/rollback` call `rollback`. The first two start a
version where its model's defs.yaml says; a gateway knows no settings and starts it on its own
machine only.

Invariants:
- to what is warm the pointer moves at once; what is not is started first, and each of its replicas
  has given an answer before the pointer moves. Admission is asked at the start and at the move;
- production serves unchanged until the move; where the start fails it stays as it was;
- whoever moved production while a version was being started decided on newer facts: this rollback
  is refused then;
- afterwards only the current and the previous version run on: of the others, what this call started
  or left behind is stopped.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from serving import moves, names
from serving.admission import Admission
from serving.deployment import refuse_elsewhere, start_version, stop_version
from serving.health import answering, answers_chat
from serving.home import HomeError
from serving.platform import DeploymentError, Platform, recorded_spec
from serving.pointer import PointerStore
from serving.sleep import later
from serving.supervised import Supervised
from serving.supervisord import SupervisionError
from serving.versions import Move, Pointer, PointerError, Version

_FAILURES = (DeploymentError, SupervisionError, HomeError)


class ColdStartError(PointerError):
    """The version to go back to did not start; the message says why and what production serves."""


@dataclass(frozen=True)
class StartTerms:
    """Where a version is started that is not warm (None: on this machine), and within how long."""

    platform: Platform | None = None
    timeout_s: float = 300.0


@dataclass(frozen=True)
class RolledBack:
    """A rollback, and the seconds from its beginning until the pointer stood."""

    move: Move
    seconds: float


def rollback(
    home: Path,
    model: str,
    to: str | None = None,
    *,
    by: str,
    reason: str,
    admission: Admission,
    progress: Callable[[str], None] = lambda _: None,
    start: Callable[[], StartTerms] = StartTerms,
) -> RolledBack:
    """Go back to the previous version, or to another that was in production; start it if need be.

    `start` is asked only if something has to be started, before anything is done; what it raises
    ends the rollback.

    Raises:
        AdmissionError: Its evidence does not hold.
        ColdStartError: It did not come up.
        PointerError: There is nothing to go back to, or production has moved meanwhile.
    """
    began = time.monotonic()
    terms, before, version = StartTerms(), None, None
    if cold := what_must_start(home, model, to):
        before, target = cold
        terms = start()
        version = _started(home, before, target, admission, progress, terms)
        to = version.version
    try:
        if version and before:
            _warm_up(version, before, progress)
        move = moves.rollback(
            home, model, to, by=by, reason=reason, admission=admission, since=before
        )
    except BaseException:
        if version is not None:
            _stop(home, model, version.version, progress, terms.platform)
        raise
    finally:
        later(home, model)
    seconds = time.monotonic() - began
    progress(f"production is {move.to_version} again, it was {move.from_version} ({seconds:.2f} s)")
    if before and before.previous:
        _stop(home, model, before.previous, progress, terms.platform)
    return RolledBack(move, seconds)


def what_must_start(home: Path, model: str, to: str | None) -> tuple[Pointer, Version] | None:
    """Return the pointer, and the version that a rollback would have to start before it moves.

    None where the target is warm, or where the pointer's own rules refuse the move.

    Raises:
        PointerError: The target is unknown or was never in production.
    """
    with PointerStore(home) as store:
        pointer = store.pointer(model)
        wanted = pointer and (to or pointer.previous)
        if not pointer or not wanted:
            return None
        target = store.version(model, was_in_production(store, model, wanted))
    warm = target.state in ("ready", "asleep") and answering(target) > 0
    if warm or target.version == pointer.current:
        return None
    return pointer, target


def need_this_machine(home: Path, before: Pointer, target: Version) -> None:
    """Refuse to start a version without the settings of the platform that it has run on.

    Raises:
        ColdStartError: It has run elsewhere; the message says who can start it.
    """
    try:
        refuse_elsewhere(Supervised(home), target)
    except DeploymentError as error:
        raise _as_before(before, error) from error


def was_in_production(store: PointerStore, model: str, version: str) -> str:
    """Return a version's full name, if it was in production before.

    Raises:
        PointerError: It was not: its first promotion is the graph's, after gate and smoke test.
    """
    full = names.full_version(model, version)
    if any(move.to_version == full for move in store.moves(model)):
        return full
    raise PointerError(
        f"{full} was never in production: `ftdm run {model}` promotes it after its smoke test."
    )


def _started(
    home: Path,
    before: Pointer,
    target: Version,
    admission: Admission,
    progress: Callable[[str], None],
    terms: StartTerms,
) -> Version:
    name = target.version
    progress(f"{name} is not warm: it is started first, production is {before.current} meanwhile")
    try:
        return start_version(
            home,
            recorded_spec(target),
            admission=admission,
            replicas=len(target.replicas) or 2,
            timeout_s=terms.timeout_s,
            progress=progress,
            platform=terms.platform,
        ).version
    except _FAILURES as error:
        raise _as_before(before, error) from error


def _warm_up(version: Version, before: Pointer, progress: Callable[[str], None]) -> None:
    """Have each replica complete a first request, which takes longer than those after it."""
    for replica in version.replicas:
        if not answers_chat(replica.url, version.served_name):
            told = f"{replica.name} is up, but completes no request on {replica.url}; see its log"
            raise _as_before(before, told)
    progress(f"each replica of {version.version} has answered")


def _as_before(before: Pointer, why: object) -> ColdStartError:
    return ColdStartError(f"production is {before.current} as before: {why}")


def _stop(
    home: Path,
    model: str,
    version: str,
    progress: Callable[[str], None],
    platform: Platform | None,
) -> None:
    """Stop a version unless it is current or previous; nothing that was done hangs on it."""
    with PointerStore(home) as store:
        pointer = store.pointer(model)
        if pointer and version in (pointer.current, pointer.previous):
            return
    try:
        stop_version(home, model, version, platform=platform)
        progress(f"{version} is stopped")
    except _FAILURES as error:
        progress(f"warning: {version} may still run: {error}")
