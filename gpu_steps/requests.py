"""Sends HTTP requests concurrently, with bounded retries, while an engine lives.

Invariants: at most `concurrency` requests are open; a request is tried again only for reasons that
may pass (no connection, time-out, 429, 5xx); a dead engine, or one that has only failed so far,
ends the whole at once.
"""

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx

from gpu_steps.config import StepError

_BACKOFF_SECONDS = 0.25
_LONGEST_PAUSE = 5.0
_ERROR_TEXT = 300
_HOPELESS = 20


@dataclass(frozen=True)
class Settings:
    """Where to send, how many at once, how long to wait, how often to try again."""

    base_url: str
    concurrency: int
    timeout_s: float
    retries: int


@dataclass(frozen=True)
class Answer:
    """What came of one request; `latency_s` is that of the last attempt."""

    id: str
    response: Any
    error: str | None
    latency_s: float

    def as_row(self) -> dict[str, object]:
        """The answer as the output file has it."""
        outcome = {"response": self.response} if self.error is None else {"error": self.error}
        return {"id": self.id, **outcome, "latency_s": round(self.latency_s, 4)}


async def send_all(
    requests: list[dict[str, Any]],
    settings: Settings,
    require_alive: Callable[[], None],
    settled: Callable[[int], None],
) -> list[Answer]:
    """Send all requests; `settled` hears how many are done.

    Raises:
        StepError: from `require_alive`, when the engine has died.
    """
    answers: dict[int, Answer] = {}
    queue = iter(enumerate(requests))
    base = settings.base_url.rstrip("/")
    # No environment proxies: the engine is on this machine or named on purpose.
    async with httpx.AsyncClient(timeout=settings.timeout_s, trust_env=False) as client:

        async def work(queue: Iterator[tuple[int, dict[str, Any]]]) -> None:
            for at, request in queue:
                answers[at] = await _send_one(client, base, request, settings, require_alive)
                _require_hope(answers)
                settled(len(answers))

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(settings.concurrency, len(requests))):
                    group.create_task(work(queue))
        except BaseExceptionGroup as group_error:
            raise group_error.exceptions[0] from None
    return [answers[at] for at in range(len(requests))]


def _require_hope(answers: dict[int, Answer]) -> None:
    failed = [answer.error for answer in answers.values() if answer.error is not None]
    if len(failed) == len(answers) >= _HOPELESS:
        raise StepError(f"the first {len(failed)} requests failed; the first: {failed[0]}")


async def _send_one(
    client: httpx.AsyncClient,
    base: str,
    request: dict[str, Any],
    settings: Settings,
    require_alive: Callable[[], None],
) -> Answer:
    url = base + request["path"]
    error, latency = "", 0.0
    for attempt in range(settings.retries + 1):
        if attempt:
            require_alive()
            await asyncio.sleep(min(_LONGEST_PAUSE, _BACKOFF_SECONDS * 2 ** (attempt - 1)))
        started = time.monotonic()
        try:
            async with asyncio.timeout(settings.timeout_s):
                response = await client.post(url, json=request["body"])
            latency = time.monotonic() - started
            if response.is_success:
                return Answer(request["id"], response.json(), None, latency)
        except (httpx.HTTPError, TimeoutError) as failure:
            latency = time.monotonic() - started
            error = f"{type(failure).__name__} after {latency:.1f} s: {failure}"
            continue
        except json.JSONDecodeError:
            return Answer(request["id"], None, "the answer is not valid JSON", latency)
        error = f"HTTP {response.status_code}: {response.text[:_ERROR_TEXT]}"
        if response.status_code < 500 and response.status_code != 429:
            break
    require_alive()
    return Answer(request["id"], None, error, latency)
