"""What a caller has been told of one streamed answer, so that another replica can go on with it.

Pure. Invariants:
- a caller sees one stream: one id, every character once and in order, one end;
- an answer goes on only where the other replica writes the same beginning; where it writes another
  one, or the answer is of a kind that cannot be compared (several choices, tool calls, reasoning,
  log-probabilities), it does not go on.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

_END = b"data: [DONE]"
_COMPARED = {"role", "content"}
# Far above what an engine writes at once: whoever goes on without an end of an event is broken.
_LONGEST_EVENT = 1024 * 1024


class BrokenOffError(Exception):
    """The stream ended, or told of an error, before the answer was whole."""


class CannotGoOnError(Exception):
    """Another replica's answer is no continuation of what the caller has been told."""


@dataclass
class Events:
    """Cuts a stream of server-sent events where they end."""

    _rest: bytes = b""

    def cut(self, chunk: bytes) -> list[bytes]:
        """Return the events that are whole now, each with the blank line that ends it.

        Raises:
            BrokenOffError: An event has no end.
        """
        *whole, self._rest = (self._rest + chunk).split(b"\n\n")
        if len(self._rest) > _LONGEST_EVENT:
            raise BrokenOffError(f"an event is longer than {_LONGEST_EVENT} bytes")
        return [event + b"\n\n" for event in whole]


@dataclass
class Transcript:
    """One answer, from however many streams; `ended` once its last event has been passed on.

    With `hides_usage` the event that counts the tokens is kept in `usage` and not passed on: the
    caller has not asked for it.
    """

    hides_usage: bool = False
    usage: dict[str, Any] | None = None
    ended: bool = False
    _told: str = ""
    _heard: str = ""
    _head: dict[str, Any] = field(default_factory=dict)
    _finished: bool = False
    _counted: bool = False
    _comparable: bool = True
    _again: bool = False

    def start_again(self) -> None:
        """Expect the same answer from its beginning.

        Raises:
            CannotGoOnError: It is of a kind that cannot be compared.
        """
        if not self._comparable:
            raise CannotGoOnError
        self._heard, self._again = "", True

    def take_all(
        self, events: Iterable[bytes]
    ) -> tuple[bytes, BrokenOffError | CannotGoOnError | None]:
        """Return what is new of some events up to the first that breaks the stream, and its error.

        Both, because what came whole before a break has been told and belongs to the caller.
        """
        new = b""
        for event in events:
            try:
                new += self.take(event)
            except (BrokenOffError, CannotGoOnError) as error:
                return new, error
        return new, None

    def take(self, event: bytes) -> bytes:
        """Return what of an event the caller has not been told yet; empty if it knows all of it.

        Raises:
            BrokenOffError: The event tells of an error.
            CannotGoOnError: The answer is another one than before.
        """
        if event.startswith(_END):
            self.ended = True
            return event
        content = _content(event)
        if content is None:  # A comment or something else that says nothing.
            return b"" if self._again else event
        if "error" in content:
            raise BrokenOffError(str(content["error"])[:200])
        return self._passed_on(event, content)

    def _passed_on(self, event: bytes, content: dict[str, Any]) -> bytes:
        choices = content.get("choices") or []
        if self.hides_usage and not choices and isinstance(content.get("usage"), dict):
            self.usage = content["usage"]
            return b""
        news = self._usage_is_news(content) if not choices else self._is_news(choices)
        self._head = self._head or {key: content.get(key) for key in ("id", "created")}
        if not self._again:
            return event
        if not news:
            return b""
        return b"data: " + json.dumps({**content, **self._head}).encode() + b"\n\n"

    def _usage_is_news(self, content: dict[str, Any]) -> bool:
        news = bool(content.get("usage")) and not self._counted
        self._counted = self._counted or news
        return news

    def _is_news(self, choices: list[dict[str, Any]]) -> bool:
        """Say whether these choices hold anything new, and leave only that in them."""
        if not _can_be_compared(choices):
            self._comparable = False
            if self._again:
                raise CannotGoOnError
            return True
        (choice,) = choices
        holder, key = (choice["delta"], "content") if "delta" in choice else (choice, "text")
        self._heard += holder.get(key) or ""
        shorter = min(len(self._heard), len(self._told))
        if self._heard[:shorter] != self._told[:shorter]:
            raise CannotGoOnError
        new = self._heard[len(self._told) :]
        self._told += new
        at_its_end = bool(choice.get("finish_reason"))
        # It ends before, or writes on after, the place where the caller has been told the end.
        if (at_its_end and len(self._heard) < len(self._told)) or (
            self._again and self._finished and new
        ):
            raise CannotGoOnError
        finishes = at_its_end and not self._finished
        self._finished = self._finished or finishes
        if self._again:
            holder[key] = new
        return bool(new) or finishes


def _content(event: bytes) -> dict[str, Any] | None:
    try:
        content = json.loads(event.removeprefix(b"data:"))
    except (ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def _can_be_compared(choices: list[dict[str, Any]]) -> bool:
    if len(choices) != 1 or choices[0].get("index", 0) != 0 or choices[0].get("logprobs"):
        return False
    delta = choices[0].get("delta") or {}
    return not any(value for key, value in delta.items() if key not in _COMPARED)
