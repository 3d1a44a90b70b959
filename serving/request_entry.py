"""What the request log says of one request.

Invariants:
- every field is a text, a whole number or a yes or no, so that the chain's form is that of any
  JSON writer; times are whole microseconds;
- no secret is in it, and no text of input or answer, but for the input where a setting keeps it;
- the input's digest is keyed with a secret of the home (HMAC-SHA256): inputs are short and alike,
  and whoever was given the log could find them from a plain digest by guessing. Within the house
  the same input still has the same digest.
"""

import hashlib
import hmac
import json
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from serving.home import Home
from serving.private_file import secret_at

# An answer in one piece has one entry; a stream has one when it begins and one when it ends.
ANSWERED, STREAM_BEGAN, STREAM_ENDED = "answered", "stream_began", "stream_ended"
# How an answer is given, not what is asked.
_NOT_INPUT = frozenset({"model", "stream", "stream_options"})
_USAGE = re.compile(rb'"usage": ?\{')
_LONGEST = 256


@dataclass
class RequestEntry:
    """One request, as much as is known of it so far."""

    path: str
    request_id: str
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    at: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="microseconds"))
    key_id: str = ""
    key_name: str = ""
    model: str = ""
    version: str = ""
    digest: str = ""
    # `choice`, `json`, `own` or `off` (`serving.answer_form`); blank where no version answered.
    constrained: str = ""
    cached: bool = False
    streamed: bool = False
    status: int = 0
    error: str = ""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    input_digest: str = ""
    input: str | None = None
    # By the guard: no key, or one that does not count.
    refused: bool = False

    def content(self, event: str, latency_us: int) -> dict[str, Any]:
        """Return the entry's content; `latency_us` since the request came."""
        texts = ("id", "at", "request_id", "key_id", "key_name", "path", "model", "version")
        content: dict[str, Any] = {name: _text(getattr(self, name)) for name in texts}
        kept = {} if self.input is None else {"input": self.input}
        return {
            "event": event,
            **content,
            "digest": self.digest,
            "constrained": self.constrained,
            "status": self.status,
            "error": _text(self.error),
            "streamed": self.streamed,
            "cached": self.cached,
            "latency_us": latency_us,
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "input_digest": self.input_digest,
            **kept,
        }

    def note_answer(self, body: bytes) -> None:
        """Take tokens and error from an answer in one piece."""
        try:
            answer = json.loads(body)
        except (ValueError, RecursionError):
            return
        if isinstance(answer, dict):
            self._note(answer)

    def note_events(self, events: bytes) -> None:
        """Take tokens and error from a piece of a stream."""
        if _USAGE.search(events) or b'data: {"error"' in events:
            for event in events.split(b"\n\n"):
                self.note_answer(event.removeprefix(b"data:"))

    def note_usage(self, usage: Mapping[str, Any]) -> None:
        """Take the tokens that a replica has counted."""
        self.prompt_tokens = _count(usage.get("prompt_tokens"))
        self.completion_tokens = _count(usage.get("completion_tokens"))

    def _note(self, answer: dict[str, Any]) -> None:
        usage, error = answer.get("usage"), answer.get("error")
        if isinstance(usage, dict):
            self.note_usage(usage)
        if isinstance(error, dict):
            self.error = str(error.get("code") or error.get("type") or "error")[:64]


def input_secret(home: Path) -> bytes:
    """Return the secret of a home's input digests, which is made on first use.

    Where it is lost, digests from then on are others than those before.

    Raises:
        SecretError: Others may read the file, or it holds no secret.
        OSError: It can be neither read nor written.
        HomeError: Another process holds its lock.
    """
    place = Home.at(home)
    return secret_at(place.input_secret, place).encode()


def input_digest(secret: bytes, body: Mapping[str, Any]) -> str:
    """Return the keyed digest of what is asked; order of keys and white space make no difference.

    Args:
        secret: The home's; who has it can tell whether an input is a guessed one.
        body: The request. `model` and how the answer is sent are left out.
    """
    return hmac.new(secret, input_text(body).encode(), hashlib.sha256).hexdigest()


def input_text(body: Mapping[str, Any]) -> str:
    """Return what is asked, as JSON with sorted keys and no white space, in ASCII."""
    asked = {key: value for key, value in body.items() if key not in _NOT_INPUT}
    return json.dumps(asked, sort_keys=True, separators=(",", ":"))


def _text(value: str) -> str:
    """Return a caller's text as one that has a form in UTF-8, and no more than its beginning."""
    return value[:_LONGEST].encode(errors="replace").decode()


def _count(value: Any) -> int | None:
    return value if type(value) is int and 0 <= value < 2**53 else None
