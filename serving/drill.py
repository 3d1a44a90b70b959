"""A rollback drill: how long production would take to go back to the version kept warm, and forth.

It moves a copy of the pointer, in a database of its own, read by a gateway of its own: the same
program, for as long as the drill takes. Versions, replicas and evidence are the live ones.
So each step of a rollback is done and timed (is it warm, is it admitted, the move, the first answer
of the other version), and nobody who calls production is ever sent to the previous version, no
move of a drill stands in production's history, and a drill that is killed leaves production as it
was. Not tried is production's own gateway process; the canary asks that one.

Invariants:
- production's database is only read; a previous version that was asleep is put to sleep again;
- every call has a timeout; what the drill started ends with it.
"""

import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import uvicorn

from serving import moves
from serving.admission import Admission
from serving.engine import HOST
from serving.gateway import GatewaySettings, create_app
from serving.home import Home
from serving.local_key import local_key
from serving.pointer import PointerStore
from serving.sleep import later
from serving.versions import Version

_BY = "rollback drill"
_START_S = 30.0


class DrillError(Exception):
    """A rollback would not have worked; the message says where it stopped."""


class NothingToDrillError(DrillError):
    """No previous version is kept warm yet."""


@dataclass(frozen=True)
class Leg:
    """One move, in seconds from its beginning: until the pointer stood, and until an answer."""

    to_version: str
    moved_s: float
    answered_s: float


@dataclass(frozen=True)
class Drill:
    """What a drill measured: back to the version kept warm, and forth to the current one."""

    back: Leg
    forth: Leg

    @property
    def seconds(self) -> float:
        """Return the longer of the two."""
        return max(self.back.answered_s, self.forth.answered_s)


def drill(
    home: Path,
    model: str,
    body: Mapping[str, Any],
    *,
    admission: Admission,
    timeout_s: float = 60.0,
) -> Drill:
    """Roll a copy of a model's pointer back and forth and ask after each move.

    Args:
        home: Whose production it is.
        model: The domain model.
        body: A chat completion to ask, without its `model`.
        admission: Asked as before any move.
        timeout_s: Longest wait for one answer.

    Raises:
        NothingToDrillError: There is no previous version.
        DrillError: A version did not answer.
        AdmissionError: A version's evidence does not hold.
        PointerError: A version is not warm.
    """
    pair = _pair(home, model)
    with _copy(home, pair) as copy:
        for version in pair:
            moves.promote(copy, model, version.version, by=_BY, reason=_BY, admission=admission)
        with PointerStore(copy) as store:
            # One that is asleep is woken by the rollback, as production's would be, and timed.
            store.set_state(model, pair[0].version, pair[0].state)
        try:
            with _gateway(copy) as url:
                asked = {**body, "model": model}
                legs = [_leg(copy, url, asked, admission, timeout_s) for _ in pair]
        finally:
            later(home, model)
    return Drill(*legs)


def _pair(home: Path, model: str) -> tuple[Version, Version]:
    """Return the previous and the current version."""
    with PointerStore(home) as store:
        pointer = store.pointer(model)
        if pointer is None or pointer.previous is None:
            raise NothingToDrillError(
                f"{model} has no previous version yet: there is nothing to roll back to."
            )
        return store.version(model, pointer.previous), store.version(model, pointer.current)


@contextmanager
def _copy(home: Path, pair: tuple[Version, Version]) -> Iterator[Path]:
    place = Home.at(home).make()
    name = f"drill-{pair[0].model}"
    folder = place.run / name
    with place.lock(name):
        # A drill that was killed leaves its copy behind.
        shutil.rmtree(folder, ignore_errors=True)
        try:
            # Its own SQLite, also where production shares a database: what is drilled is a copy.
            folder.mkdir(parents=True)
            Home.at(folder).own_database.touch()
            with PointerStore(folder) as store:
                for version in pair:
                    asleep = version.state == "asleep"
                    store.record_version(replace(version, state="ready") if asleep else version)
            # Its gateway's key, before anything is timed.
            local_key(folder)
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _gateway(home: Path) -> Iterator[str]:
    config = uvicorn.Config(
        create_app(GatewaySettings(home)), host=HOST, port=0, access_log=False, log_config=None
    )
    server = uvicorn.Server(config)
    thread = Thread(target=server.run, daemon=True)
    thread.start()
    try:
        end = time.monotonic() + _START_S
        while not server.started:
            if time.monotonic() > end or not thread.is_alive():
                raise DrillError("The drill's gateway did not start.")
            time.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://{HOST}:{port}"
    finally:
        server.should_exit = True
        thread.join(_START_S)


def _leg(
    home: Path, url: str, body: Mapping[str, Any], admission: Admission, timeout_s: float
) -> Leg:
    began = time.monotonic()
    move = moves.rollback(home, str(body["model"]), by=_BY, reason=_BY, admission=admission)
    moved = time.monotonic()
    answered = _ask(url, body, local_key(home), timeout_s)
    if answered != move.to_version:
        raise DrillError(f"After the move to {move.to_version} the gateway answered as {answered}.")
    return Leg(move.to_version, moved - began, time.monotonic() - began)


def _ask(url: str, body: Mapping[str, Any], key: str, timeout_s: float) -> str:
    """Return the version that answered."""
    try:
        answer = httpx.post(
            f"{url}/v1/chat/completions",
            json=dict(body),
            headers={"Authorization": f"Bearer {key}"},
            timeout=timeout_s,
            trust_env=False,
        )
    except httpx.HTTPError as error:
        raise DrillError(f"No answer to the drill within {timeout_s:.0f} s: {error!r}.") from error
    if answer.status_code != httpx.codes.OK:
        raise DrillError(f"The drill was answered with {answer.status_code}: {answer.text[:300]}")
    return str(answer.headers.get("x-ftdm-version", ""))
