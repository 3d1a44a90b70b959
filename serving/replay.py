"""A streamed answer as the whole one, and a whole one as a stream, in the OpenAI API's form. Pure.

Invariants:
- the one tells what the other does: text, reasoning, tool calls, reason of the end, usage;
- what could not be told in both forms (several choices, log-probabilities, token ids, fields of a
  choice that are not known here) is in neither: `can_be_replayed` is False, `Joined.whole` is None;
- an answer that broke off, or ended for another reason than its own (an engine that was stopped),
  is no answer. One that reached `max_tokens` is: the next would end there too.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

_ENDS = {"stop", "length", "tool_calls"}
_TEXTS = ("reasoning", "reasoning_content", "refusal", "content")
_SAID = {*_TEXTS, "role", "tool_calls"}
_CHOICE = {"index", "message", "text", "delta", "finish_reason", "stop_reason"}
_HEAD = ("id", "object", "created", "model", "system_fingerprint")
_DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True)
class Event:
    """One event of a stream; `usage` where it tells that and nothing else."""

    content: bytes
    usage: Mapping[str, Any] | None = None


def can_be_replayed(whole: Any) -> bool:
    """Say whether this is a whole answer that both forms can tell."""
    try:
        (choice,) = whole["choices"]
        said = choice["message"] if "message" in choice else {"content": choice["text"]}
        ended = choice["finish_reason"] in _ENDS and isinstance(whole["usage"], dict)
        known = _fields(said) <= _SAID and _fields(choice) <= _CHOICE
        return ended and known and isinstance(whole["object"], str) and "error" not in whole
    except (LookupError, TypeError, ValueError, AttributeError):
        return False


def as_stream(whole: Mapping[str, Any]) -> list[Event]:
    """Return the events of an answer that `can_be_replayed`; its usage is the last but one."""
    (choice,) = whole["choices"]
    head = {key: whole[key] for key in _HEAD if key in whole}
    if "message" in choice:
        head["object"] = "chat.completion.chunk"
        steps = [{"delta": delta} for delta in _deltas(choice["message"])]
    else:
        steps = [{"text": choice["text"]}]
    end = {key: choice[key] for key in ("finish_reason", "stop_reason") if key in choice}
    nothing = {"index": 0, "logprobs": None, "finish_reason": None}
    choices = [{**nothing, **step} for step in steps]
    choices[-1] |= end
    told = [_event({**head, "choices": [one]}) for one in choices]
    return [*told, _event({**head, "choices": [], "usage": whole["usage"]}), Event(_DONE)]


def _deltas(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    steps: list[dict[str, Any]] = [{"role": message.get("role", "assistant"), "content": ""}]
    steps += [{key: message[key]} for key in _TEXTS if message.get(key)]
    steps += [
        {"tool_calls": [{"index": index, **one}]}
        for index, one in enumerate(message.get("tool_calls") or [])
    ]
    return [*steps, {}]


def _event(content: Mapping[str, Any]) -> Event:
    line = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    return Event(b"data: " + line.encode() + b"\n\n", content.get("usage"))


def _fields(holder: Mapping[str, Any]) -> set[str]:
    return {key for key, value in holder.items() if value not in (None, [], {})}


@dataclass
class Joined:
    """The whole answer that the events of a stream make up; `ended` with its last event."""

    ended: bool = False
    _head: dict[str, Any] = field(default_factory=dict)
    _said: dict[str, Any] = field(default_factory=dict)
    _end: dict[str, Any] = field(default_factory=dict)
    _usage: Any = None
    _chat: bool = False
    _odd: bool = False

    def take(self, event: bytes) -> Event:
        """Add an event; return it with what kind it is."""
        if event.startswith(_DONE.rstrip()):
            self.ended = True
            return Event(event)
        try:
            return Event(event, self._take(json.loads(event.removeprefix(b"data:"))))
        except (LookupError, TypeError, ValueError, AttributeError, RecursionError):
            self._odd = True
            return Event(event)

    def whole(self) -> dict[str, Any] | None:
        """Return the whole answer, or None if there is none that can be replayed."""
        if self._odd or not self.ended or not self._head:
            return None
        choice = {"index": 0, "logprobs": None, **self._end}
        if self._chat:
            nothing = None if "tool_calls" in self._said else ""
            choice["message"] = {"role": "assistant", "content": nothing, **self._said}
            self._head["object"] = "chat.completion"
        else:
            choice["text"] = self._said.get("content", "")
        whole = {**self._head, "choices": [choice], "usage": self._usage}
        return whole if can_be_replayed(whole) else None

    def _take(self, content: dict[str, Any]) -> Mapping[str, Any] | None:
        self._head = self._head or {key: content[key] for key in _HEAD if key in content}
        self._usage = content.get("usage") or self._usage
        if not content["choices"]:
            return self._usage or {}
        (choice,) = content["choices"]
        if choice.get("index", 0) != 0 or not _fields(choice) <= _CHOICE:
            raise ValueError("another choice, or one with more than a replay could tell")
        self._chat = "delta" in choice
        self._say(choice["delta"] if self._chat else {"content": choice["text"]})
        if choice.get("finish_reason"):
            ends = ("finish_reason", "stop_reason")
            self._end = {key: choice[key] for key in ends if key in choice}
        return None

    def _say(self, delta: Mapping[str, Any]) -> None:
        for key in _fields(delta):
            if key in _TEXTS and delta[key] != "":
                self._said[key] = self._said.get(key, "") + delta[key]
            elif key == "tool_calls":
                self._call(delta[key])
            elif key not in _SAID:
                self._odd = True

    def _call(self, pieces: list[dict[str, Any]]) -> None:
        calls = self._said.setdefault("tool_calls", [])
        for piece in pieces:
            if piece["index"] == len(calls):
                calls.append({"id": None, "type": "function", "function": {"arguments": ""}})
            call, function = calls[piece["index"]], piece.get("function") or {}
            call |= {key: piece[key] for key in ("id", "type") if piece.get(key)}
            if function.get("name"):
                call["function"]["name"] = function["name"]
            call["function"]["arguments"] += function.get("arguments") or ""
