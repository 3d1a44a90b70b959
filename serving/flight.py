"""One computation for all who ask the same at the same time: single flight, in this process.

Invariants:
- a computation runs by itself: it ends when it is done, or when nobody waits for it any more, not
  when the one who asked first goes away;
- every passenger gets all of the answer from its beginning, whenever it boards, as it comes;
- once a flight has ended, or all have left it, nobody boards it any more.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from serving.errors import unreachable
from serving.replay import Event

Name = tuple[str, bool]


@dataclass(frozen=True)
class Head:
    """Status and headers of an answer, and whether the cache gave it."""

    status: int
    headers: Mapping[str, str]
    source: Literal["hit", "miss"]

    @property
    def failed(self) -> bool:
        """Whether another try may fare better: a fault of the server, or of its load."""
        return self.status >= 500 or self.status in (408, 429)


class Flight:
    """An answer while it is made, and how many wait for it."""

    def __init__(self) -> None:
        self._head: Head | None = None
        self._events: list[Event] = []
        self._error: Exception | None = None
        self._ended = False
        self._grown = asyncio.Event()
        self._passengers = 0
        self._task: asyncio.Task[None] | None = None

    def take_off(self, work: Callable[["Flight"], Awaitable[None]]) -> asyncio.Task[None]:
        """Begin the computation."""
        self._task = asyncio.create_task(self._run(work))
        return self._task

    def begin(self, head: Head) -> None:
        """Tell status and headers."""
        self._head = head
        self._grow()

    def add(self, events: Iterable[Event]) -> None:
        """Tell what comes next; the body of an answer that is no stream is one event."""
        self._events.extend(events)
        self._grow()

    def board(self) -> None:
        """Count one more who waits."""
        self._passengers += 1

    def leave(self) -> None:
        """Count one less; the last one ends a computation that still runs."""
        self._passengers -= 1
        if self._passengers == 0 and self._task and not self._ended:
            self._task.cancel()

    async def end(self) -> None:
        """End the computation if it still runs."""
        if self._task:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    @property
    def over(self) -> bool:
        """Whether it has ended, or all have left it."""
        return self._ended or self._passengers == 0

    async def head(self) -> Head:
        """Wait for status and headers; raises what the computation raised."""
        while self._head is None:
            if self._ended:
                raise self._error or unreachable("The gateway is stopping: ask again.")
            await self._grown.wait()
        return self._head

    async def events(self) -> AsyncIterator[list[Event]]:
        """Yield what there is and what comes, to the end."""
        told = 0
        while told < len(self._events) or not self._ended:
            new = self._events[told:]
            told += len(new)
            if new:
                yield new
            else:
                await self._grown.wait()
        if self._error:
            raise self._error

    async def _run(self, work: Callable[["Flight"], Awaitable[None]]) -> None:
        try:
            await work(self)
        except Exception as error:  # It is the passengers': each of them raises it.
            self._error = error
        finally:
            self._ended = True
            self._grow()

    def _grow(self) -> None:
        self._grown.set()
        self._grown = asyncio.Event()


class Flights:
    """The computations in flight, by what they answer."""

    def __init__(self) -> None:
        self._flights: dict[Name, Flight] = {}

    def board(self, name: Name, work: Callable[[Flight], Awaitable[None]]) -> tuple[Flight, bool]:
        """Return the flight of this name, boarded, and whether it began with this call."""
        flight = self._flights.get(name)
        leads = flight is None or flight.over
        if flight is None or leads:
            flight = self._flights[name] = Flight()
            task = flight.take_off(work)
            task.add_done_callback(lambda _: self._landed(name, flight))
        flight.board()
        return flight, leads

    async def close(self) -> None:
        """End what still runs."""
        for flight in list(self._flights.values()):
            await flight.end()

    def _landed(self, name: Name, flight: Flight) -> None:
        if self._flights.get(name) is flight:
            del self._flights[name]
