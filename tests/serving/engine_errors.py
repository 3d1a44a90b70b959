"""Requests that vLLM itself refuses, and what it answers: the same through the gateway."""

from typing import Any

import httpx

_ASK = [{"role": "user", "content": "Name a sea."}]
# One of each kind: sampling, room, template, form, types, and what only one path refuses.
REFUSED: dict[str, tuple[str, dict[str, Any]]] = {
    "temperature": ("chat/completions", {"messages": _ASK, "temperature": -1}),
    "top_p": ("chat/completions", {"messages": _ASK, "top_p": 2}),
    "too many tokens": ("chat/completions", {"messages": _ASK, "max_tokens": 1_000_000}),
    "no room for the prompt": (
        "chat/completions",
        {"messages": [_ASK[0] | {"content": "x " * 9000}]},
    ),
    "messages of a wrong type": ("chat/completions", {"messages": "hello"}),
    "no messages": ("chat/completions", {}),
    "a role of a wrong type": ("chat/completions", {"messages": [{"role": 3, "content": "x"}]}),
    "a tool that is none": ("chat/completions", {"messages": _ASK, "tools": [{"type": "x"}]}),
    "logprobs without a number": ("chat/completions", {"messages": _ASK, "top_logprobs": 3}),
    "a form that is none": (
        "chat/completions",
        {"messages": _ASK, "response_format": {"type": "json_schema"}},
    ),
    "options without a stream": (
        "chat/completions",
        {"messages": _ASK, "stream_options": {"include_usage": True}},
    ),
    "no prompt": ("completions", {}),
    "a prompt of a wrong type": ("completions", {"prompt": {"a": 1}}),
    "token ids out of range": ("completions", {"prompt": [10_000_000]}),
}


def refused(base_url: str, model: str, headers: dict[str, str]) -> dict[str, tuple[int, Any]]:
    """Return status and error for each request, without the time's own parts."""
    with httpx.Client(base_url=base_url, headers=headers, timeout=60) as client:
        return {
            name: _told(client.post(f"/v1/{path}", json={"model": model, **body}))
            for name, (path, body) in REFUSED.items()
        }


def _told(answer: httpx.Response) -> tuple[int, Any]:
    return answer.status_code, answer.json().get("error")
