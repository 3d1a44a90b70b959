"""Many ask the same at once: it is computed once, with and without a store of answers."""

import asyncio
import time
from typing import Any

import httpx
import pytest

from serving.health import free_port
from tests.serving.cache_support import CHAT, Bench, chat, events, put, text, word
from tests.serving.serving_support import MODEL, bearer


def with_and_without_a_cache(test: Any) -> Any:
    return pytest.mark.parametrize("bench", ["valkey", "no cache"], indirect=True)(test)


def a_client(bench: Bench) -> httpx.AsyncClient:
    limits, headers = httpx.Limits(max_connections=None), bearer(bench.gateway.key)
    # Without certificates, which take long to read and are not used.
    return httpx.AsyncClient(timeout=30, limits=limits, headers=headers, verify=False)


async def ask_all(bench: Bench, bodies: list[dict[str, Any]]) -> list[httpx.Response]:
    async with a_client(bench) as client:
        url = f"{bench.url}{CHAT}"
        return await asyncio.gather(*(client.post(url, json=body) for body in bodies))


async def waits(bench: Bench, number: int) -> None:
    async with asyncio.timeout(30):
        while bench.gateway.waiting() != number:
            await asyncio.sleep(0.005)


def ask_at_once(bench: Bench, bodies: list[dict[str, Any]]) -> list[httpx.Response]:
    """Ask so that all are in flight before the first is computed."""

    async def asked() -> list[httpx.Response]:
        bench.one.gate.clear()
        waiting = asyncio.create_task(ask_all(bench, bodies))
        await waits(bench, len(bodies))
        bench.one.gate.set()
        return await waiting

    return asyncio.run(asked())


def test_a_pointer_that_moves_meanwhile(bench: Bench) -> None:
    """Those who joined for version 1 never get version 2's answer once the pointer is back."""
    dead = f"http://127.0.0.1:{free_port()}"
    put(bench.home, dead)

    async def asked() -> list[httpx.Response]:
        waiting = asyncio.create_task(ask_all(bench, [chat()] * 5))
        await waits(bench, 5)
        put(bench.home, bench.two_url, 2)
        return await waiting

    answers = asyncio.run(asked())
    assert {one.headers["x-ftdm-version"] for one in answers} == {f"{MODEL}-v0002"}
    assert sorted(word(one) for one in answers) == ["joined"] * 4 + ["miss"]
    assert bench.two.count == 1


@with_and_without_a_cache
@pytest.mark.parametrize("stream", [False, True])
def test_a_hundred_at_once_are_computed_once(bench: Bench, stream: bool) -> None:
    answers = ask_at_once(bench, [chat(stream=stream)] * 100)
    assert sorted(word(one) for one in answers) == ["joined"] * 99 + ["miss"]
    assert bench.one.count == 1
    assert len({one.content for one in answers}) == 1
    said = text(events(answers[0])) if stream else answers[0].json()["choices"][0]["message"]
    assert "one says hello" in str(said)


def test_different_questions_are_not_joined(bench: Bench) -> None:
    bodies = [chat("a"), chat("b"), chat("a", max_tokens=3), chat("a", seed=1)]
    answers = ask_at_once(bench, bodies)
    assert {word(one) for one in answers} == {"miss"}
    assert bench.one.count == 4


@with_and_without_a_cache
@pytest.mark.parametrize("stream", [False, True])
def test_the_first_caller_goes_away_and_the_others_are_answered(bench: Bench, stream: bool) -> None:

    async def asked() -> list[httpx.Response]:
        bench.one.gate.clear()
        first = asyncio.create_task(ask_all(bench, [chat(stream=stream)]))
        await waits(bench, 1)
        others = asyncio.create_task(ask_all(bench, [chat(stream=stream)] * 5))
        await waits(bench, 6)
        first.cancel()
        if stream:  # Of a plain request the server learns only when it answers.
            await waits(bench, 5)
        bench.one.gate.set()
        return await others

    answers = asyncio.run(asked())
    assert {word(one) for one in answers} == {"joined"}
    assert all("says" in one.text for one in answers)
    assert (bench.one.count, bench.one.ended) == (1, 1)


def test_a_stream_that_nobody_reads_is_not_computed_to_its_end(bench: Bench) -> None:
    bench.one.gate.clear()
    with bench.client.stream("POST", f"{bench.url}{CHAT}", json=chat(stream=True)) as answer:
        next(answer.iter_lines())
    asyncio.run(waits(bench, 0))
    end = time.monotonic() + 10
    while not bench.one.closed:  # The replica hears of it a moment later.
        assert time.monotonic() < end
        time.sleep(0.005)
    bench.one.gate.set()
    assert word(bench.ask(chat(stream=True))) == "miss"
    assert (bench.one.count, bench.one.ended) == (2, 1)


@with_and_without_a_cache
def test_the_others_do_not_fail_with_the_first(bench: Bench) -> None:
    bench.one.failures = 2
    answers = ask_at_once(bench, [chat()] * 20)
    codes = sorted(one.status_code for one in answers)
    # Two computations failed, each for the one who began it.
    assert codes == [200] * 18 + [500] * 2
    assert bench.one.count == 3


def test_where_nobody_answers_all_are_told(bench: Bench) -> None:
    put(bench.home, f"http://127.0.0.1:{free_port()}")
    answers = asyncio.run(ask_all(bench, [chat(), chat(), chat(stream=True)]))
    assert [one.json()["error"]["code"] for one in answers] == ["unavailable"] * 3
