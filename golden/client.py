"""Asks an OpenAI-compatible endpoint for the answers to golden examples.

Invariants:
* Only the user message is sent, as production callers send it: the served chat template carries
  the instruction. A ``system`` message is for prompted baselines only.
* An example without an answer is an error, never a wrong answer: retries are bounded, then the
  whole call fails with one sentence. The key is never part of a message.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httpx

from golden.examples import Example

_RETRIED = {408, 409, 425, 429, 500, 502, 503, 504}


class EndpointError(RuntimeError):
    """The endpoint did not answer; the message says which example, why, and what to do."""


@dataclass(frozen=True)
class AskSettings:
    """How to ask. ``body`` is merged into each request (structured outputs, say)."""

    model: str
    base_url: str
    api_key: str | None = field(default=None, repr=False)
    system: str | None = None
    concurrency: int = 8
    timeout_s: float = 60.0
    retries: int = 3
    backoff_s: float = 0.5
    max_tokens: int = 32
    body: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Answers:
    """Predictions and seconds by example id; ``versions`` are the values of x-ftdm-version seen."""

    predictions: dict[str, str | None]
    latencies: dict[str, float]
    versions: tuple[str, ...] = ()


def chat_body(text: str, settings: AskSettings) -> dict[str, Any]:
    """Return the body of one greedy chat completion request."""
    system = [{"role": "system", "content": settings.system}] if settings.system else []
    return {
        "model": settings.model,
        "messages": [*system, {"role": "user", "content": text}],
        "temperature": 0,
        "max_tokens": settings.max_tokens,
        **settings.body,
    }


async def ask(
    examples: Sequence[Example],
    settings: AskSettings,
    *,
    progress: Callable[[int, int], None] | None = None,
    transport: httpx.AsyncBaseTransport | None = None,
) -> Answers:
    """Ask for all examples, a bounded number at a time; ``progress`` gets (done, total).

    Raises:
        EndpointError: when an example stays without an answer; the other requests are cancelled.
    """
    gate = asyncio.Semaphore(settings.concurrency)
    predictions: dict[str, str | None] = {}
    latencies: dict[str, float] = {}
    versions: set[str] = set()

    async def one(client: httpx.AsyncClient, example: Example) -> None:
        async with gate:
            start = time.perf_counter()
            response = await _post(client, example, settings)
            latencies[example.example_id] = time.perf_counter() - start
        predictions[example.example_id] = _answer(response, example)
        versions.update(filter(None, [response.headers.get("x-ftdm-version")]))
        if progress:
            progress(len(predictions), len(examples))

    async with _client(settings, transport) as client:
        try:
            async with asyncio.TaskGroup() as group:
                for example in examples:
                    group.create_task(one(client, example))
        except* EndpointError as errors:
            raise errors.exceptions[0] from None
    in_order = {example.example_id: predictions[example.example_id] for example in examples}
    return Answers(in_order, latencies, tuple(sorted(versions)))


def ask_blocking(
    examples: Sequence[Example],
    settings: AskSettings,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Answers:
    """Ask from code that has no event loop of its own."""
    return asyncio.run(ask(examples, settings, progress=progress))


def _client(settings: AskSettings, transport: httpx.AsyncBaseTransport | None) -> httpx.AsyncClient:
    # A proxy from the environment must not stand between this machine and itself.
    own_machine = urlsplit(settings.base_url).hostname in {"127.0.0.1", "localhost", "::1"}
    return httpx.AsyncClient(
        headers={"Authorization": f"Bearer {settings.api_key}"} if settings.api_key else {},
        timeout=settings.timeout_s,
        transport=transport,
        trust_env=not own_machine,
    )


async def _post(
    client: httpx.AsyncClient, example: Example, settings: AskSettings
) -> httpx.Response:
    url = settings.base_url.rstrip("/") + "/chat/completions"
    reason = ""
    for attempt in range(settings.retries + 1):
        if attempt:
            await asyncio.sleep(settings.backoff_s * 2 ** (attempt - 1))
        try:
            response = await client.post(url, json=chat_body(example.input, settings))
        except httpx.TransportError as error:
            reason = f"{type(error).__name__}: {error}".rstrip(": ")
            continue
        if response.status_code == httpx.codes.OK:
            return response
        reason = f"HTTP {response.status_code}: {_message(response)}"
        if response.status_code not in _RETRIED:
            break
    raise EndpointError(
        f"{url} gave no answer to example {example.example_id} for model {settings.model} "
        f"({reason}); check that the endpoint is up and serves this model"
    )


def _message(response: httpx.Response) -> str:
    try:
        content = response.json()
        return str(content["error"]["message"])[:300]
    except (ValueError, KeyError, TypeError):
        return response.text[:300]


def _answer(response: httpx.Response, example: Example) -> str:
    try:
        content = response.json()["choices"][0]["message"]["content"]
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise EndpointError(
            f"{response.url} answered example {example.example_id} with something that is no chat "
            "completion; check that it is an OpenAI-compatible endpoint"
        ) from error
    return "" if content is None else str(content)
