"""Callers that keep one connection each and ask without a pause, and what each was answered.

On one connection answers have an order, so that it can be told whether an old version answered
after the new one.
"""

import re
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import httpx

PATH = "/v1/chat/completions"
_CACHE_HEADER = "x-ftdm-cache"
_MODEL = re.compile(r'"model": ?"([^"]*)"')
_CONTENT = re.compile(r'"content": ?"([^"]*)"')
# Else what is down for a moment is asked a thousand times.
_PAUSE_AFTER_FAILURE_S = 0.02


@dataclass(frozen=True)
class Answered:
    """One answer, on the monotonic clock.

    Attributes:
        began: When it was asked for.
        ended: When it was whole.
        version: The version that the gateway names; blank where it failed.
        link: The caller's port, which tells one connection from the next.
        failure: What went wrong; blank for nothing.
        text: The body, as far as it came, where texts are kept.
    """

    began: float
    ended: float
    version: str
    link: int
    failure: str = ""
    text: str = ""


@dataclass
class Callers:
    """Threads that ask the gateway until the context ends, each on a connection of its own.

    Attributes:
        url: The gateway's address.
        headers: What names the caller's key.
        model: What is asked for.
        questions: Asked in turn.
        count: How many threads ask.
        stream: Whether they ask for streams.
        fields: Further fields of each request.
        cache: What is asked of the result cache; `off`, as what is looked at is what computes.
        timeout_s: Longest silence within one answer.
        keeps_texts: Whether what was answered is kept; in a run of hours it would fill the memory.
        answers: All answers, in the order in which they were whole.
        connections: The same, a list for each thread.
    """

    url: str
    headers: Mapping[str, str]
    model: str
    questions: Sequence[str]
    count: int = 4
    stream: bool = False
    fields: Mapping[str, Any] = field(default_factory=dict)
    cache: Literal["on", "off", ""] = "off"
    timeout_s: float = 120.0
    keeps_texts: bool = False

    def __post_init__(self) -> None:
        self.answers: list[Answered] = []
        self.connections: list[list[Answered]] = [[] for _ in range(self.count)]
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

    def failures(self) -> list[Answered]:
        """Return what failed so far."""
        return [one for one in self.answers if one.failure]

    def versions(self) -> set[str]:
        """Return which versions have answered so far."""
        return {one.version for one in self.answers}

    def streamed_texts(self) -> set[str]:
        """Return what the events of streams say, put together; their texts must be kept."""
        return {"".join(_CONTENT.findall(one.text)) for one in self.answers}

    def _ask(self, number: int) -> None:
        limits = httpx.Limits(max_connections=1)
        with httpx.Client(
            base_url=self.url,
            headers={**self.headers, _CACHE_HEADER: self.cache},
            timeout=self.timeout_s,
            limits=limits,
            trust_env=False,
        ) as client:
            asked = number
            while not self._stop.is_set():
                answer = self._once(client, self.questions[asked % len(self.questions)])
                self.answers.append(answer)
                self.connections[number].append(answer)
                asked += self.count
                if answer.failure:
                    self._stop.wait(_PAUSE_AFTER_FAILURE_S)

    def _once(self, client: httpx.Client, question: str) -> Answered:
        messages = [{"role": "user", "content": question}]
        body = {"model": self.model, "messages": messages, "stream": self.stream, **self.fields}
        began, link, text, version = time.monotonic(), 0, "", ""
        try:
            with client.stream("POST", PATH, json=body) as answer:
                stream = answer.extensions["network_stream"]
                link = int(stream.get_extra_info("client_addr")[1])
                for piece in answer.iter_text():
                    text += piece
        except httpx.HTTPError as error:
            failure = repr(error)
        else:
            version = answer.headers.get("x-ftdm-version", "")
            failure = failure_of(answer.status_code, version, text, self.stream)
        kept = text if self.keeps_texts else ""
        return Answered(began, time.monotonic(), version, link, failure, kept)


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
