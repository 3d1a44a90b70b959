"""Waiting until every part of a version answers, on whatever platform they run."""

import time
from collections.abc import Callable, Mapping
from typing import Protocol

_PROGRESS_EVERY_S = 10.0


class GaveUpError(Exception):
    """A part will not answer, or has not in time; the message names it and shows why."""


class Watched(Protocol):
    """What a platform says of the parts that are waited for."""

    @property
    def pause_s(self) -> float:
        """Seconds between two looks."""

    def look(self) -> None:
        """See how the parts are now; called before each round of questions."""

    def hopeless(self, name: str) -> str:
        """Return why a part will not answer however long it is waited for, or nothing."""

    def state(self, name: str) -> str:
        """Return what a part waits for, or nothing."""

    def last_words(self, name: str) -> str:
        """Return what tells why a part does not answer: the end of its log, for one."""


def await_all(
    watched: Watched,
    checks: Mapping[str, Callable[[], bool]],
    end: float,
    progress: Callable[[str], None],
) -> None:
    """Wait until each named part passes its check.

    Raises:
        GaveUpError: One is hopeless, or `end` (monotonic) has come.
    """
    waiting = dict(checks)
    said = began = time.monotonic()
    while waiting:
        watched.look()
        for name, ready in list(waiting.items()):
            if why := watched.hopeless(name):
                raise _gave_up(watched, name, why)
            if ready():
                del waiting[name]
                progress(f"{name} is ready after {time.monotonic() - began:.0f} s")
        if waiting and time.monotonic() > end:
            raise _gave_up(watched, next(iter(waiting)), "did not answer in time")
        if waiting and time.monotonic() - said > _PROGRESS_EVERY_S:
            said = time.monotonic()
            progress(f"waiting for {', '.join(_told(watched, name) for name in waiting)}")
        time.sleep(watched.pause_s if waiting else 0)


def _told(watched: Watched, name: str) -> str:
    state = watched.state(name)
    return f"{name} ({state})" if state else name


def _gave_up(watched: Watched, name: str, what: str) -> GaveUpError:
    return GaveUpError(f"{name} {what}; {watched.last_words(name)}")
