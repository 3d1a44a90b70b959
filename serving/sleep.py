"""Sleep mode: the previous version gives its accelerator's memory back, and is awake in seconds.

vLLM's level 1 keeps the weights in the host's memory. Its endpoints exist only in the server's
development mode, which opens others as well (weights can be replaced, caches reset): as before,
nobody but gateway and supervisor may reach a replica's port, on loopback or on a network of pods.

Invariants:
- only a previous version falls asleep, and only once nothing is at work at it; its state is
  `asleep` from then on, and the gateway passes nothing on to it;
- a move to it wakes it first, and holds the lock that falling asleep takes, until it has moved;
- asleep counts as warm; what cannot fall asleep runs on.
"""

import http.client
import logging
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Thread

from serving.engine import ANSWER_TIMEOUT_S, EngineCommand, EngineError, serving_python
from serving.health import get_json, get_text, post_json
from serving.home import Home
from serving.pointer import PointerStore
from serving.versions import PointerError, Replica, Version

_log = logging.getLogger("serving.sleep")
_AT_WORK = re.compile(r"^vllm:num_requests_(?:running|waiting)(?:\{[^}]*\})? ([0-9.e+-]+)$", re.M)
_ASK = "from vllm.platforms import current_platform as p; print(p.is_sleep_mode_available())"
_LONGEST_S, _ASK_S = 60.0, 120.0
# A call that has just learned where a version is has not yet reached it.
_QUIET_S, _POLL_S = 1.0, 0.25


def with_sleep_mode(command: EngineCommand) -> EngineCommand:
    """Return the command of an engine that can be put to sleep."""
    environment = {**command.env, "VLLM_SERVER_DEV_MODE": "1"}
    return replace(command, argv=(*command.argv, "--enable-sleep-mode"), env=environment)


def require_sleep_mode() -> None:
    """Ask vLLM whether it has a sleep mode on this machine.

    Raises:
        EngineError: It has none, or does not say.
    """
    done = subprocess.run(
        [str(serving_python()), "-c", _ASK],
        capture_output=True,
        text=True,
        timeout=_ASK_S,
        check=False,
    )
    if done.stdout.split()[-1:] != ["True"]:
        raise EngineError(
            "The engine has no sleep mode on this machine (vLLM has one on CUDA, ROCm and XPU): "
            "write `serving: {previous: running}`."
        )


def can_sleep(version: Version) -> bool:
    """Tell whether all of a version's engines have a sleep mode."""
    return bool(version.replicas) and all(one.sleeps for one in version.replicas)


@contextmanager
def awake(home: Path, store: PointerStore, model: str, version: str | None) -> Iterator[None]:
    """Keep a version (None: the previous one) awake while the pointer moves to it.

    Raises:
        PointerError: It does not wake up.
    """
    pointer = store.pointer(model)
    name = version or (pointer.previous if pointer else None)
    if not name or not can_sleep(store.version(model, name)):
        yield
        return
    with Home.at(home).lock(_lock(model), _LONGEST_S):
        known = store.version(model, name)
        if known.state == "asleep":
            wake(known)
            store.set_state(model, known.version, "ready")
        yield


def wake(version: Version) -> None:
    """Wake every replica of a version.

    Raises:
        PointerError: One does not wake up.
    """
    for one in version.replicas:
        if _is_asleep(one):
            post_json(f"{one.url}/wake_up", {}, _LONGEST_S)
        if _is_asleep(one) is not False:
            raise PointerError(
                f"{one.name} is asleep and does not wake up on {one.url}: see its log, or name "
                "another version."
            )


def put_to_sleep(home: Path, model: str) -> str | None:
    """Put a model's previous version to sleep once nothing is at work at it; returns its name.

    None where there is none, where its engines cannot, or where production moves meanwhile.

    Raises:
        PointerError: It is at work for too long, or does not fall asleep; it is awake then.
    """
    with PointerStore(home) as store:
        pointer = store.pointer(model)
        if pointer is None or pointer.previous is None:
            return None
        version = store.version(model, pointer.previous)
        if version.state not in ("ready", "asleep") or not can_sleep(version):
            return None
        _await_quiet(version)
        with Home.at(home).lock(_lock(model), _LONGEST_S):
            if store.pointer(model) != pointer:
                return None
            store.set_state(model, version.version, "asleep")
            try:
                for one in version.replicas:
                    _put(one)
            except PointerError:
                store.set_state(model, version.version, "ready")
                wake(version)
                raise
    return version.version


def later(home: Path, model: str) -> Thread:
    """Put the previous version to sleep in the background; the process lives until that is done."""

    def sleep() -> None:
        try:
            if version := put_to_sleep(home, model):
                _log.info("%s is asleep", version)
        except Exception as error:
            _log.warning("The previous version of %s stays awake: %s", model, error)

    thread = Thread(target=sleep, name=f"sleep-{model}")
    thread.start()
    return thread


def _lock(model: str) -> str:
    return f"sleep-{model}"


def _is_asleep(one: Replica) -> bool | None:
    status, body = get_json(f"{one.url}/is_sleeping", _LONGEST_S)
    told = status == http.client.OK and isinstance(body, dict)
    return bool(body.get("is_sleeping")) if told else None


def _put(one: Replica) -> None:
    if not _is_asleep(one):
        post_json(f"{one.url}/sleep?level=1", {}, _LONGEST_S)
    if not _is_asleep(one):
        raise PointerError(f"{one.name} does not fall asleep on {one.url}: see its log.")


def _await_quiet(version: Version) -> None:
    """Wait until nothing has been at work at a version for a while."""
    end = time.monotonic() + ANSWER_TIMEOUT_S + _LONGEST_S
    quiet_since = None
    while True:
        now = time.monotonic()
        if any(_at_work(one) for one in version.replicas):
            quiet_since = None
        elif quiet_since is None:
            quiet_since = now
        elif now - quiet_since >= _QUIET_S:
            return
        if now > end:
            raise PointerError(f"{version.version} is still at work: it is not put to sleep.")
        time.sleep(_POLL_S)


def _at_work(one: Replica) -> bool:
    """Tell whether requests are at work at a replica; one that does not say counts as at work."""
    status, text = get_text(f"{one.url}/metrics")
    counts = _AT_WORK.findall(text)
    return status != http.client.OK or not counts or any(float(count) > 0 for count in counts)
