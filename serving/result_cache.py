"""The result cache: an answer that was computed is given again, and computed once at a time.

It stands between `Gateway.read` and `Upstream.send`. `X-FTDM-Cache: off` in a request passes it
over, `on` asks for it at any temperature; in the answer it says `hit`, `miss` (computed for this
request), `joined` (computed for another one at the same time) or `off`.

Invariants:
- an answer is given again for the version that gave it only: the pointer is read for every request,
  and a computation that it has moved away from meanwhile is begun anew for the version it names;
- where a version's terms say so (`shared`), an answer is given again to the key that asked only;
- whole answers of status 200 are kept, nothing else; one that does not open or parse is none;
- losing the store, or its being slow, costs time and no request (`CacheStore`), and a request does
  not fail because another did: it is computed anew, in the end by itself;
- a stream asks the replica for its usage, so that what is kept has one; a caller that did not ask
  is not told.
"""

import json
import logging
import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from starlette.responses import Response, StreamingResponse

from serving import replay
from serving.cache_store import CacheStore
from serving.cached_response import marked, response_of
from serving.call import Call
from serving.errors import ApiError
from serving.flight import Flight, Flights, Head
from serving.home import HomeError
from serving.private_file import SecretError
from serving.question import Wish, may_be_kept, told_apart, wish_of
from serving.replay import Event, Joined
from serving.seal import Seal, home_secret
from serving.transcript import Events
from serving.versions import Version

_log = logging.getLogger("serving.cache")
# Computations of others that a request waits for before it is computed by itself.
_FLIGHTS = 3


class _MovedError(Exception):
    """The pointer has moved: the request means another version now, or another form of it."""


@dataclass(frozen=True)
class _Question:
    """A call whose answer may be kept: by which name, and the version that is to give it."""

    call: Call
    version: Version
    name: str


class ResultCache:
    """What one gateway process keeps and computes; `send` is how a call is computed."""

    def __init__(
        self, send: Callable[[Call], Awaitable[Response]], seal: Seal, store: CacheStore | None
    ) -> None:
        self._send, self._seal, self._store = send, seal, store
        self._flights = Flights()

    @classmethod
    def of(
        cls, home: Path, store: CacheStore | None, send: Callable[[Call], Awaitable[Response]]
    ) -> "ResultCache":
        """Return the cache of a home; without a store it keeps nothing, and computes once."""
        try:
            secret = home_secret(home) if store else os.urandom(32)
        except (SecretError, HomeError, OSError) as error:
            _log.warning("Answers are kept for this process only: %s", error)
            secret = os.urandom(32)
        return cls(send, Seal(secret), store)

    async def close(self) -> None:
        """End computations and connections."""
        await self._flights.close()
        if self._store:
            await self._store.close()

    async def answer(self, call: Call, headers: Mapping[str, str]) -> Response:
        """Return the answer to a call, kept or computed.

        Raises:
            ApiError: It was computed and failed, or a header is wrong.
        """
        wish = wish_of(headers)
        for _ in range(_FLIGHTS):
            question = self._question(call, call.resolve(), wish)
            if question is None:
                return marked(await self._send(call), "off")
            response = await self._flown(question)
            if response is not None:
                return response
        return marked(await self._send(call), "miss")

    def _question(self, call: Call, version: Version, wish: Wish) -> _Question | None:
        if not may_be_kept(call.body, version, wish):
            return None
        content = told_apart(call.path, call.body, version, call.form(version))
        if content is not None and not version.cache.shared:
            # No question of all keys begins like this: they are JSON arrays.
            content = f"{call.key_id}\n".encode() + content
        return None if content is None else _Question(call, version, self._seal.name(content))

    async def _flown(self, question: _Question) -> Response | None:
        """Return what a computation answers; None where the caller is to try once more."""
        call = question.call
        flight, leads = self._flights.board(
            (question.name, call.streams), partial(self._find_or_compute, question)
        )
        response = None
        try:
            head = await flight.head()
            if leads or not head.failed:
                response = await response_of(flight, head, call, leads)
        except _MovedError:
            return None
        except ApiError as error:
            # What is wrong with a request is wrong with its likes.
            if leads or not Head(error.status, {}, "miss").failed:
                raise
        finally:
            if not isinstance(response, StreamingResponse):  # That one leaves when it ends.
                flight.leave()
        return response

    async def _find_or_compute(self, question: _Question, flight: Flight) -> None:
        found = await self._found(question)
        if found is not None:
            flight.begin(Head(200, _headers_of(question), "hit"))
            flight.add(found)
            return
        response = await self._send(_pinned(question))
        head = Head(response.status_code, dict(response.headers), "miss")
        if isinstance(response, StreamingResponse):
            flight.begin(head)
            await self._relay(question, response, flight)
            return
        content = bytes(response.body)
        if head.status == 200:
            await self._keep(question, content)
        flight.begin(head)
        flight.add([Event(content)])

    async def _relay(
        self, question: _Question, response: StreamingResponse, flight: Flight
    ) -> None:
        events, joined = Events(), Joined()
        async for chunk in response.body_iterator:
            told = [joined.take(event) for event in events.cut(_bytes(chunk))]
            whole = joined.whole() if joined.ended else None
            # Before its end is told: whoever then asks again finds it.
            if whole is not None:
                await self._keep(question, json.dumps(whole, ensure_ascii=False).encode())
            flight.add(told)

    async def _keep(self, question: _Question, content: bytes) -> None:
        if self._store and not self._store.passed_over and _replayable(content) is not None:
            closed = self._seal.close(question.name, content)
            await self._store.put(question.name, closed, question.version.cache.ttl_s)

    async def _found(self, question: _Question) -> list[Event] | None:
        closed = await self._store.get(question.name) if self._store else None
        content = None if closed is None else self._seal.open(question.name, closed)
        if content is None:
            return None
        whole = _replayable(content)
        if whole is None or not question.call.streams:
            return None if whole is None else [Event(content)]
        return replay.as_stream(whole)


def _replayable(content: bytes) -> dict[str, Any] | None:
    try:
        whole = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return whole if replay.can_be_replayed(whole) else None


def _pinned(question: _Question) -> Call:
    """Return the call for exactly the version that the question is about."""
    call, version = question.call, question.version

    def resolve() -> Version:
        now = call.resolve()
        if (now.version, now.digest, now.form) != (version.version, version.digest, version.form):
            raise _MovedError
        return now

    options = {"stream_options": {"include_usage": True}} if call.streams else {}
    return replace(call, body={**call.body, **options}, resolve=resolve)


def _headers_of(question: _Question) -> dict[str, str]:
    return {
        "content-type": "text/event-stream" if question.call.streams else "application/json",
        **question.call.told_by(question.version),
    }


def _bytes(chunk: Any) -> bytes:
    return chunk.encode() if isinstance(chunk, str) else bytes(chunk)
