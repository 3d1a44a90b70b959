"""Asks an OpenAI-compatible endpoint for the answers to golden examples.

Invariants:
* Only the user message is sent, as production callers send it: the served chat template carries
  the instruction. A ``system`` message is for prompted baselines only.
* An example without an answer is an error, never a wrong answer: retries are bounded, then the
  whole call fails with one sentence. The key is never part of a message.
* ``timeout_s`` is for a whole answer, however slowly its bytes come.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

import httpx

from golden.completion import Completion, Usage, completion_of
from golden.examples import Example

# What is measured is the model, and how long it takes; other endpoints pass the header over.
_NOT_FROM_A_CACHE = {"X-FTDM-Cache": "off"}
_RETRIED = {408, 409, 425, 429, 500, 502, 503, 504}
_LONGEST_PAUSE_S = 60.0
_REMEDIES = {
    401: "check the key, it is not accepted",
    403: "check the key, it may not use this model",
    429: "it is asked too much: ask fewer at a time, or with more retries",
}


class EndpointError(RuntimeError):
    """The endpoint did not answer; the message says which example, why, and what to do.

    Attributes:
        status: the HTTP status of its last answer; None if there was none.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class AskSettings:
    """How to ask.

    Attributes:
        systems: the system message of an example, by its id, in place of ``system``.
        body: merged into each request (structured outputs, say); None takes a field of ours out.
    """

    model: str
    base_url: str
    api_key: str | None = field(default=None, repr=False)
    system: str | None = None
    systems: Mapping[str, str] = field(default_factory=dict, repr=False)
    concurrency: int = 8
    timeout_s: float = 60.0
    retries: int = 3
    backoff_s: float = 0.5
    max_tokens: int = 32
    body: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse a key that no header can carry: the error of the HTTP library would show it."""
        if self.api_key and not (self.api_key.isascii() and self.api_key.isprintable()):
            raise EndpointError(
                "the key holds a line break or a character that no key has; set it once more"
            )


@dataclass(frozen=True)
class Answers:
    """Predictions and seconds by example id.

    Attributes:
        versions: the values of x-ftdm-version seen.
        usages: the tokens of each answer, by example id; None where the endpoint did not say.
        cut_off: ids of the examples whose answer ended at ``max_tokens``.
    """

    predictions: dict[str, str | None]
    latencies: dict[str, float]
    versions: tuple[str, ...] = ()
    usages: Mapping[str, Usage | None] = field(default_factory=dict)
    cut_off: tuple[str, ...] = ()


def chat_body(text: str, settings: AskSettings) -> dict[str, Any]:
    """Return the body of one greedy chat completion request."""
    system = [{"role": "system", "content": settings.system}] if settings.system else []
    body = {
        "model": settings.model,
        "messages": [*system, {"role": "user", "content": text}],
        "temperature": 0,
        "max_tokens": settings.max_tokens,
        **settings.body,
    }
    return {name: value for name, value in body.items() if value is not None}


def example_body(example: Example, settings: AskSettings) -> dict[str, Any]:
    """Return the body of the request for an example, with its own system message if it has one."""
    system = settings.systems.get(example.example_id, settings.system)
    return chat_body(example.input, replace(settings, system=system))


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
    told: dict[str, Completion] = {}
    latencies: dict[str, float] = {}
    versions: set[str] = set()

    async def one(client: httpx.AsyncClient, example: Example) -> None:
        async with gate:
            start = time.perf_counter()
            response = await _post(client, example, settings)
            latencies[example.example_id] = time.perf_counter() - start
        told[example.example_id] = _completion(response, example)
        versions.update(filter(None, [response.headers.get("x-ftdm-version")]))
        if progress:
            progress(len(told), len(examples))

    async with _client(settings, transport) as client:
        try:
            async with asyncio.TaskGroup() as group:
                for example in examples:
                    group.create_task(one(client, example))
        except* EndpointError as errors:
            raise errors.exceptions[0] from None
    in_order = {example.example_id: told[example.example_id] for example in examples}
    return Answers(
        {key: one.text for key, one in in_order.items()},
        latencies,
        tuple(sorted(versions)),
        {key: one.usage for key, one in in_order.items()},
        tuple(key for key, one in in_order.items() if one.cut_off),
    )


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
        headers=_NOT_FROM_A_CACHE
        | ({"Authorization": f"Bearer {settings.api_key}"} if settings.api_key else {}),
        timeout=settings.timeout_s,
        transport=transport,
        trust_env=not own_machine,
    )


@dataclass(frozen=True)
class _Failure:
    """Why an attempt failed: the sentence, the status if there was one, the pause asked for."""

    reason: str
    status: int | None = None
    pause_s: float = 0.0

    @property
    def passing(self) -> bool:
        return self.status is None or self.status in _RETRIED


async def _post(
    client: httpx.AsyncClient, example: Example, settings: AskSettings
) -> httpx.Response:
    url = settings.base_url.rstrip("/") + "/chat/completions"
    body, failure = example_body(example, settings), _Failure("")
    for attempt in range(settings.retries + 1):
        if attempt:
            await asyncio.sleep(max(failure.pause_s, settings.backoff_s * 2 ** (attempt - 1)))
        answer = await _attempt(client, url, body, settings)
        if isinstance(answer, httpx.Response):
            return answer
        failure = answer
        if not failure.passing:
            break
    remedy = _REMEDIES.get(
        failure.status or 0, "check that the endpoint is up and serves this model"
    )
    raise EndpointError(
        f"{url} gave no answer to example {example.example_id} for model {settings.model} "
        f"({failure.reason}); {remedy}",
        failure.status,
    )


async def _attempt(
    client: httpx.AsyncClient, url: str, body: Mapping[str, Any], settings: AskSettings
) -> httpx.Response | _Failure:
    try:
        async with asyncio.timeout(settings.timeout_s):
            response = await client.post(url, json=body)
    except (TimeoutError, httpx.TimeoutException):
        return _Failure(f"no answer within {settings.timeout_s:g} s")
    except httpx.TransportError as error:
        return _Failure(f"{type(error).__name__}: {error}".rstrip(": "))
    if response.status_code == httpx.codes.OK:
        return response
    status = response.status_code
    reason = f"HTTP {status}: {_message(response, settings)}"
    return _Failure(reason, status, _asked_pause(response))


def _asked_pause(response: httpx.Response) -> float:
    """Return the seconds that the endpoint asks to wait, within reason."""
    asked = response.headers.get("retry-after", "")
    return min(float(asked), _LONGEST_PAUSE_S) if asked.isdecimal() else 0.0


def _message(response: httpx.Response, settings: AskSettings) -> str:
    try:
        text = str(response.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        text = response.text
    # Some endpoints repeat the key that they refuse.
    return (text.replace(settings.api_key, "(the key)") if settings.api_key else text)[:300]


def _completion(response: httpx.Response, example: Example) -> Completion:
    try:
        return completion_of(response.json())
    except ValueError as error:
        raise EndpointError(
            f"{response.url} answered example {example.example_id} with something that is no chat "
            "completion; check that it is an OpenAI-compatible endpoint"
        ) from error
