"""A caller's own deadline: what it costs others (nothing), and what is done when it passes."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from serving.deadline import deadline_of
from serving.errors import ApiError
from tests.serving.cache_support import Bench, chat

SHORT = {"x-ftdm-timeout-ms": "200"}
LONG = {"x-ftdm-timeout-ms": "20000"}
OFF = {"x-ftdm-cache": "off"}


@pytest.fixture(params=["no cache"])
def bench(bench: Bench) -> Bench:
    return bench


def within(seconds: float, holds: Callable[[], bool]) -> bool:
    end = time.monotonic() + seconds
    while not holds() and time.monotonic() < end:
        time.sleep(0.01)
    return holds()


def code(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


def test_it_is_never_longer_than_the_gateways_own() -> None:
    assert deadline_of({}, 10.0, 5.0) is None
    assert deadline_of({"x-ftdm-timeout-ms": "1500"}, 10.0, 5.0) == 11.5
    assert deadline_of({"x-ftdm-timeout-ms": "999999999"}, 10.0, 5.0) == 15.0
    for text in ("", "-1", "1.5", "soon", "٣", "9" * 16):
        with pytest.raises(ApiError) as error:
            deadline_of({"x-ftdm-timeout-ms": text}, 10.0, 5.0)
        assert (error.value.status, error.value.code) == (400, "invalid_header")


def test_an_answer_in_time_is_as_ever(bench: Bench) -> None:
    assert bench.ask(chat(), **LONG).json()["choices"][0]["message"]["content"] == "one says hello"
    assert "[DONE]" in bench.ask(chat("stream", stream=True), **LONG).text


@pytest.mark.parametrize("cache", [{}, OFF])
def test_a_late_answer_is_not_waited_for(bench: Bench, cache: dict[str, str]) -> None:
    bench.one.gate.clear()
    answer = bench.ask(chat(), **SHORT, **cache)
    bench.one.gate.set()
    assert code(answer) == (504, "deadline_exceeded")
    assert bench.one.count == 1


def test_without_time_left_nothing_is_sent(bench: Bench) -> None:
    assert code(bench.ask(chat(), **{"x-ftdm-timeout-ms": "0"})) == (504, "deadline_exceeded")
    assert bench.one.count == 0


@pytest.mark.parametrize("cache", [{}, OFF])
def test_a_stream_ends_at_its_deadline_and_the_replica_hears_of_it(
    bench: Bench, cache: dict[str, str]
) -> None:
    bench.one.gate.clear()
    # Past its first event, which nothing waits for.
    answer = bench.ask(chat(stream=True), **{"x-ftdm-timeout-ms": "1000"}, **cache)
    assert answer.status_code == 200
    assert '"content": "one"' in answer.text
    assert answer.text.rstrip().endswith('"code": "deadline_exceeded"}}')
    assert "[DONE]" not in answer.text
    assert within(10, lambda: bench.one.closed == 1)
    bench.one.gate.set()
    assert bench.one.ended == 0


@pytest.mark.parametrize("first", [SHORT, {}])
def test_the_deadline_of_one_is_not_that_of_who_waits_with_it(
    bench: Bench, first: dict[str, str]
) -> None:
    """Whoever began the computation: it goes on for the one who still waits."""
    second = {} if first else SHORT
    bench.one.gate.clear()
    with ThreadPoolExecutor(2) as pool:
        one = pool.submit(bench.ask, chat(), **first)
        assert within(10, lambda: bench.gateway.waiting() == 1)
        two = pool.submit(bench.ask, chat(), **second)
        hurried, patient = (one, two) if first else (two, one)
        assert code(hurried.result(30)) == (504, "deadline_exceeded")
        bench.one.gate.set()
        assert patient.result(30).status_code == 200
    assert bench.one.count == 1
