"""Which requests are held to the form of their version's answers, and how an engine is told. Pure.

A version's form is `{"choice": [LABEL, ...]}`, `{"json": SCHEMA}`, or empty where answers are free.
`X-FTDM-Constrained: off` in a request asks for a free answer. In an answer the header says what the
request was held to: `choice`, `json`, `own` (it brought a form of its own) or `off`.

Invariants:
- the form is that of the very version that answers, and evaluation asks with the same `fields_of`;
- what the caller wrote wins: a request with a form of its own (`_OWN`) goes on as it came, also
  with the form `{"type": "text"}`, which is none. So does one that the engine would refuse with a
  form beside it (tools), and one whose answer is begun already (`continue_final_message`). A
  `logit_bias` is no form: it weighs what the form leaves to choose;
- chat completions only: a plain completion carries no template, so it is not asked for the task.
"""

from collections.abc import Mapping
from typing import Any

from serving.errors import ApiError

HEADER = "x-ftdm-constrained"
Form = Mapping[str, Any]

_CHAT = "/v1/chat/completions"
_FIELD = "structured_outputs"
_OWN = (_FIELD, "response_format", "tools", "continue_final_message")


def fields_of(form: Form) -> dict[str, Any]:
    """Return the fields of a request that hold its answer to a form; none for no form."""
    return {_FIELD: dict(form)} if form else {}


def is_free(headers: Mapping[str, str]) -> bool:
    """Say whether the caller asks for a free answer.

    Raises:
        ApiError: The header is another word than `on` or `off`.
    """
    word = headers.get(HEADER, "").strip().lower()
    if word not in ("on", "off", ""):
        message = f"The header X-FTDM-Constrained is {word!r}: write `on` or `off`."
        raise ApiError(400, message, "invalid_header")
    return word == "off"


def has_own(body: Mapping[str, Any]) -> bool:
    """Say whether a request brings what decides the form of its answer."""
    return any(not _is_nothing(body.get(key)) for key in _OWN)


def _is_nothing(value: Any) -> bool:
    # What says that there is nothing: the engine takes it so, too.
    return value is None or value is False or value == []


def form_for(path: str, own: bool, form: Form, free: bool) -> Form:
    """Return the form that a request is held to: its version's, or none.

    Args:
        path: The API's path.
        own: Whether the request brings its own (`has_own`).
        form: The version's.
        free: Whether the caller asks for a free answer.
    """
    return {} if free or own or path != _CHAT else form


def held_to(own: bool, form: Form) -> str:
    """Return the header's word for a request that is held to this form, or brings its `own`."""
    return "own" if own else next(iter(form), "off")
