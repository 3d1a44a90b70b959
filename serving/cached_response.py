"""What one caller gets of a computation: the HTTP answer, and what the cache did for it.

Invariants:
- `hit`, `joined` and `off` are said as what they are; `miss` is said to the one caller whom the
  computation was begun for;
- what another's request began carries this caller's own request id;
- the usage at the end of a stream is told to those who asked for it, and to the request log.
"""

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from typing import Literal

from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from serving.call import Call
from serving.flight import Flight, Head
from serving.question import HEADER, wants_usage
from serving.replay import Event

Word = Literal["hit", "miss", "joined", "off"]


async def response_of(flight: Flight, head: Head, call: Call, leads: bool) -> Response:
    """Return one passenger's answer: a stream as it comes, anything else when it is whole."""
    headers = {key: value for key, value in head.headers.items() if key != "content-length"}
    word: Word = "hit" if head.source == "hit" else "miss" if leads else "joined"
    if word != "miss":
        headers["x-request-id"] = call.request_id
    if call.streams:
        return marked(_Passenger(flight, call, head.status, headers), word)
    content = b"".join([one.content async for events in flight.events() for one in events])
    return marked(Response(content, head.status, headers), word)


class _Passenger(StreamingResponse):
    """A stream that leaves its flight when it ends, also where its caller goes away before that."""

    def __init__(self, flight: Flight, call: Call, status: int, headers: Mapping[str, str]) -> None:
        super().__init__(_body(flight, call), status, headers)
        self._flight = flight

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Not in the body's own end: a body that is not read to it ends when it is collected.
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._flight.leave()


async def _body(flight: Flight, call: Call) -> AsyncIterator[bytes]:
    async for events in flight.events():
        if part := b"".join(_shown(events, call)):
            yield part


def _shown(events: Iterable[Event], call: Call) -> Iterator[bytes]:
    """Yield what the caller is shown; a usage that it did not ask for is for the request log."""
    for event in events:
        if event.usage is None or wants_usage(call.body):
            yield event.content
        else:
            call.note_usage(dict(event.usage))


def marked(response: Response, word: Word) -> Response:
    """Return the response with what the cache did for it."""
    response.headers[HEADER] = word
    return response


def was_computed(response: Response) -> bool:
    """Say whether an answer was computed for its own request."""
    return response.headers[HEADER] in ("miss", "off")
