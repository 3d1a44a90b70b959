"""Callers that keep one connection each and ask without a pause, and what each was answered.

On one connection answers have an order, so that it can be told whether an old version answered
after the new one.
"""

import re
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

PATH = "/v1/chat/completions"
# What is measured is what computes, not the result cache before it.
_UNCACHED = {"x-ftdm-cache": "off"}
_MODEL = re.compile(r'"model": ?"([^"]*)"')
_PAUSE_AFTER_FAILURE_S = 0.2


@dataclass(frozen=True)
class Answered:
    """One answer, on the monotonic clock.

    Attributes:
        began: When it was asked for.
        ended: When it was whole.
        version: The version that the gateway names; blank where it failed.
        link: The caller's port, which tells one connection from the next.
        failure: What went wrong; blank for nothing.
    """

    began: float
    ended: float
    version: str
    link: int
    failure: str = ""


@dataclass
class Callers:
    """Threads that ask the gateway until the context ends; one list of answers for each."""

    url: str
    headers: Mapping[str, str]
    model: str
    questions: Sequence[str]
    count: int = 4
    stream: bool = False
    fields: Mapping[str, Any] = field(default_factory=dict)
    timeout_s: float = 120.0

    def __post_init__(self) -> None:
        self.answers: list[list[Answered]] = [[] for _ in range(self.count)]
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._ask, args=(number,)) for number in range(self.count)
        ]

    def __enter__(self) -> "Callers":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(self.timeout_s)

    def _ask(self, number: int) -> None:
        limits = httpx.Limits(max_connections=1)
        with httpx.Client(
            base_url=self.url,
            headers={**self.headers, **_UNCACHED},
            timeout=self.timeout_s,
            limits=limits,
            trust_env=False,
        ) as client:
            asked = number
            while not self._stop.is_set():
                answer = self._once(client, self.questions[asked % len(self.questions)])
                self.answers[number].append(answer)
                asked += self.count
                if answer.failure:
                    self._stop.wait(_PAUSE_AFTER_FAILURE_S)

    def _once(self, client: httpx.Client, question: str) -> Answered:
        messages = [{"role": "user", "content": question}]
        body = {"model": self.model, "messages": messages, "stream": self.stream, **self.fields}
        began, link = time.monotonic(), 0
        try:
            with client.stream("POST", PATH, json=body) as answer:
                stream = answer.extensions["network_stream"]
                link = int(stream.get_extra_info("client_addr")[1])
                text = "".join(answer.iter_text())
        except httpx.HTTPError as error:
            return Answered(began, time.monotonic(), "", link, repr(error))
        version = answer.headers.get("x-ftdm-version", "")
        failure = failure_of(answer.status_code, version, text, self.stream)
        return Answered(began, time.monotonic(), version, link, failure)


def failure_of(status: int, version: str, text: str, stream: bool) -> str:
    """Say what is wrong with an answer; blank if it is whole and one version's."""
    if status != httpx.codes.OK:
        return f"{status}: {text[:200]}"
    if stream and ('"error"' in text or "[DONE]" not in text):
        return f"broken stream: {text[-200:]}"
    # An engine serves NAME@vNNNN-DIGEST; one answer is one version's from beginning to end.
    short = version.rpartition("-")[2]
    named = set(_MODEL.findall(text))
    if len(named) != 1 or f"@{short}-" not in named.pop():
        return f"{version} answered with what {sorted(set(_MODEL.findall(text)))} made"
    return ""


def since(answers: Sequence[Answered], moment: float) -> list[Answered]:
    """Return those of one connection that were whole after a moment."""
    return [one for one in answers if one.ended >= moment]


def turned_back(answers: Sequence[Answered], to: str) -> list[Answered]:
    """Return a connection's answers of other versions after its first one of `to`."""
    served = [one for one in answers if not one.failure]
    first = next((at for at, one in enumerate(served) if one.version == to), len(served))
    return [one for one in served[first:] if one.version != to]
