"""A chat completion as an endpoint gives it: the answer, why it ended, and the tokens it took."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Usage:
    """Tokens of one request, or of a request in the mean."""

    input_tokens: float
    output_tokens: float


@dataclass(frozen=True)
class Completion:
    """One answer.

    Attributes:
        cut_off: whether it ended because it may have no more tokens.
        usage: None where the endpoint names no tokens.
    """

    text: str
    cut_off: bool
    usage: Usage | None


def completion_of(content: Any) -> Completion:
    """Return what a response's JSON says.

    Raises:
        ValueError: if it is no chat completion.
    """
    try:
        choice = content["choices"][0]
        text, ended = choice["message"]["content"], choice.get("finish_reason")
    except (AttributeError, IndexError, KeyError, TypeError) as error:
        raise ValueError("no chat completion") from error
    return Completion("" if text is None else str(text), ended == "length", usage_of(content))


def usage_of(content: Mapping[str, Any]) -> Usage | None:
    """Return the tokens that a completion names, or None where it names none."""
    try:
        told = content["usage"]
        found = Usage(float(told["prompt_tokens"]), float(told["completion_tokens"]))
    except (KeyError, TypeError, ValueError):
        return None
    counts = (found.input_tokens, found.output_tokens)
    return found if all(math.isfinite(count) and count >= 0 for count in counts) else None


def mean_usage(found: Iterable[Usage | None]) -> Usage | None:
    """Return the tokens of a request in the mean; None unless every answer named its own."""
    told = list(found)
    known = [usage for usage in told if usage is not None]
    if not known or len(known) < len(told):
        return None
    return Usage(
        sum(usage.input_tokens for usage in known) / len(known),
        sum(usage.output_tokens for usage in known) / len(known),
    )
