"""Asking again what a hung replica may hold: a completion has no side effects but its cost.

When a replica is taken out because it hangs or is gone, every request that waits there for the head
of an answer is sent once more, to another, and the first answer counts; the other is broken off,
which has the engine drop it. After the head, a stream is broken off only if it has been silent
since.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar
from weakref import WeakSet

import aiohttp

# Longer than the pause between two tokens of a replica that is only busy.
_SILENT_S = 2.0


class Closable(Protocol):
    """What has begun and can be broken off."""

    def close(self) -> None:
        """Break it off."""
        ...


C = TypeVar("C", bound=Closable)


async def hedged(
    attempt: Callable[[], Awaitable[C]],
    hung: Callable[[], asyncio.Future[str] | None],
    may_repeat: Callable[[str], bool],
) -> C:
    """Return the first answer; raise what the last attempt raised where none succeeds.

    Args:
        attempt: Sends the request and waits for the head of its answer.
        hung: Tells what ends, with its address, when a replica is found to hang; None where there
            is no other.
        may_repeat: Is asked, with that address, before the request is sent once more.
    """
    if hung() is None:
        return await attempt()
    waiting = {_begin(attempt)}
    try:
        while True:
            signal = hung()
            events: set[asyncio.Future[Any]] = {*waiting, *([signal] if signal else [])}
            done, _ = await asyncio.wait(events, return_when=asyncio.FIRST_COMPLETED)
            for one in waiting & done:
                waiting.remove(one)
                if one.exception() is None or not waiting:
                    return one.result()  # Or raise what the last one raised.
            if signal and signal in done and not signal.cancelled() and may_repeat(signal.result()):
                waiting.add(_begin(attempt))
    finally:
        for one in waiting:
            one.add_done_callback(_discard)
            one.cancel()


def _begin(attempt: Callable[[], Awaitable[C]]) -> asyncio.Task[C]:
    async def run() -> C:
        return await attempt()

    return asyncio.create_task(run())


def _discard(task: asyncio.Task[C]) -> None:
    if not task.cancelled() and task.exception() is None:
        task.result().close()


class Held:
    """The answers that have begun, by the replica that gives them."""

    def __init__(self) -> None:
        self._answers: dict[str, WeakSet[aiohttp.ClientResponse]] = {}

    def add(self, url: str, answer: aiohttp.ClientResponse) -> None:
        """Note who gives an answer; it is forgotten with the answer."""
        self._answers.setdefault(url, WeakSet()).add(answer)

    def cut(self, url: str) -> None:
        """Break off what a replica that hangs has begun, if nothing of it comes any more."""
        loop = asyncio.get_running_loop()
        for one in self._answers.pop(url, ()):
            loop.call_later(_SILENT_S, _cut, one, one.content.total_bytes)


def _cut(answer: aiohttp.ClientResponse, bytes_then: int) -> None:
    if answer.content.total_bytes == bytes_then and not answer.content.is_eof():
        answer.content.set_exception(aiohttp.ClientPayloadError("its replica hangs"))
