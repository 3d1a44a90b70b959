"""One thread that writes entries for all requests at once, and wakes each when its own is safe.

Invariants:
- `write` returns only after the entry's batch is on the disk; while one batch is written, the next
  gathers, so that the disk is waited for once for all that came meanwhile;
- an entry that cannot be written is an error of its request, never silence;
- after a failure, requests are refused at once for a moment instead of each finding it out.
"""

import asyncio
import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_LARGEST_BATCH = 256
_LONGEST_WAIT_S = 15.0
_REFUSE_FOR_S = 1.0

_log = logging.getLogger("serving.request_log")


class NotWrittenError(Exception):
    """An entry is not on the disk; the message says why and what to do."""


@dataclass(frozen=True)
class _Waiting:
    content: Mapping[str, Any]
    done: "asyncio.Future[None]"
    loop: asyncio.AbstractEventLoop


class GroupCommit:
    """The writing thread; `append` writes a batch and is called in that thread only."""

    def __init__(
        self,
        append: Callable[[Sequence[Mapping[str, Any]]], object],
        close: Callable[[], None] = lambda: None,
    ) -> None:
        self._append, self._close = append, close
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._failed: tuple[float, str] | None = None
        self._thread = threading.Thread(target=self._run, name="request-log", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Write what is waiting, and end the thread."""
        self._queue.put(None)
        self._thread.join(_LONGEST_WAIT_S)

    def check(self) -> None:
        """Refuse at once what could not be written.

        Raises:
            NotWrittenError: The last batch was not written, a moment ago.
        """
        if self._failed and time.monotonic() - self._failed[0] < _REFUSE_FOR_S:
            raise NotWrittenError(self._failed[1])

    def put(self, content: Mapping[str, Any]) -> "asyncio.Future[None]":
        """Hand an entry over; the future is done when it is on the disk."""
        loop = asyncio.get_running_loop()
        waiting = _Waiting(content, loop.create_future(), loop)
        # Whoever does not wait has no use for the error, which is in the log by then.
        waiting.done.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._queue.put(waiting)
        return waiting.done

    async def write(self, content: Mapping[str, Any]) -> None:
        """Write an entry, and return once it is on the disk.

        Raises:
            NotWrittenError: It cannot be written, or not in time.
        """
        try:
            async with asyncio.timeout(_LONGEST_WAIT_S):
                await self.put(content)
        except TimeoutError:
            raise NotWrittenError("the disk takes too long to write") from None

    def _run(self) -> None:
        while (first := self._queue.get()) is not None:
            batch, last = self._gathered(first)
            problem = self._written(batch)
            for loop in {one.loop for one in batch}:
                of_loop = [one.done for one in batch if one.loop is loop]
                # A loop that has ended has nobody who waits.
                with contextlib.suppress(RuntimeError):
                    loop.call_soon_threadsafe(_settle, of_loop, problem)
            if last:
                break
        self._close()

    def _gathered(self, first: _Waiting) -> tuple[list[_Waiting], bool]:
        batch = [first]
        while len(batch) < _LARGEST_BATCH and not self._queue.empty():
            further = self._queue.get()
            if further is None:
                return batch, True
            batch.append(further)
        return batch, False

    def _written(self, batch: list[_Waiting]) -> str:
        """Write a batch; return what went wrong, or nothing."""
        try:
            self._append([one.content for one in batch])
        except Exception as error:
            if self._failed is None:
                _log.exception("requests are refused until the request log can be written")
            self._failed = (time.monotonic(), str(error))
            return str(error)
        if self._failed is not None:
            _log.warning("the request log can be written again")
        self._failed = None
        return ""


def _settle(waiting: list["asyncio.Future[None]"], problem: str) -> None:
    for one in waiting:
        if not one.done():
            if problem:
                one.set_exception(NotWrittenError(problem))
            else:
                one.set_result(None)
