"""How often a request is sent again: within a budget, and once more when a replica hangs."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import aiohttp
import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from serving.hedge import hedged
from serving.retry_budget import RetryBudget
from tests.serving.as_replica import AsReplica
from tests.serving.cache_support import CHAT, FakeReplica, chat, gateway, put, served
from tests.serving.serving_support import bearer


def test_a_share_a_floor_and_a_most() -> None:
    now = [0.0]
    budget = RetryBudget(share=0.25, floor_per_s=2.0, most=3.0, clock=lambda: now[0])
    assert [budget.take("v1") for _ in range(4)] == [True, True, True, False]
    assert budget.take("v2")  # Each version has its own.
    for _ in range(4):
        budget.note_request("v1")
    assert [budget.take("v1"), budget.take("v1")] == [True, False]
    now[0] = 1.0
    assert [budget.take("v1") for _ in range(3)] == [True, True, False]
    now[0] = 100.0
    for _ in range(100):
        budget.note_request("v1")
    assert [budget.take("v1") for _ in range(4)] == [True, True, True, False]


@dataclass
class Storm:
    """Has no room for any request."""

    asked: int = 0

    async def complete(self, _: Request) -> Response:
        self.asked += 1
        return JSONResponse({}, 503)


@pytest.fixture
def storm() -> Iterator[tuple[Storm, str]]:
    one = Storm()
    with served(AsReplica(Starlette(routes=[Route(CHAT, one.complete, methods=["POST"])]))) as url:
        yield one, url


def test_a_version_that_answers_nothing_rightly_is_not_asked_without_end(
    tmp_path: Path, storm: tuple[Storm, str]
) -> None:
    one, url = storm
    put(tmp_path, url)
    number = 200
    with (
        gateway(tmp_path, None) as gate,
        httpx.Client(headers=bearer(gate.key), timeout=60, verify=False) as client,
        ThreadPoolExecutor(16) as pool,
    ):

        def ask(index: int) -> httpx.Response:
            headers = {"x-ftdm-cache": "off"}
            return client.post(f"{gate.url}{CHAT}", json=chat(f"q {index}"), headers=headers)

        answers = list(pool.map(ask, range(number)))
    assert {one.status_code for one in answers} == {503}
    refused = [one for one in answers if "are sent twice" in one.text]
    assert refused
    assert all(one.headers["retry-after"] == "1" for one in refused)
    # Without the budget each would be sent four times in its 0.4 s.
    assert number < one.asked < 2.5 * number


@dataclass
class Loses:
    """Has a request for a while, and then loses it."""

    for_s: float
    asked: int = 0

    async def complete(self, _: Request) -> Response:
        self.asked += 1
        return StreamingResponse(
            self._lose(), media_type="application/json", headers={"content-length": "100"}
        )

    async def _lose(self) -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.sleep(self.for_s)
        raise OSError("the replica is gone")


def test_what_was_long_at_work_when_it_was_lost_is_sent_again(tmp_path: Path) -> None:
    one, other = Loses(for_s=1.0), FakeReplica("well")
    app = AsReplica(Starlette(routes=[Route(CHAT, one.complete, methods=["POST"])]))
    with served(app) as losing, served(other.app()) as well:
        put(tmp_path, losing, beside=[well])
        # It searches for 0.4 s only, which the loss alone takes longer than.
        with (
            gateway(tmp_path, None) as gate,
            httpx.Client(headers=bearer(gate.key), timeout=60) as client,
        ):
            for number in range(2):
                answer = client.post(f"{gate.url}{CHAT}", json=chat(f"q {number}"))
                assert answer.status_code == 200, answer.text
    assert one.asked == 1


@pytest.mark.parametrize("both", [False, True])
def test_a_first_failure_of_a_replica_is_not_the_answer(tmp_path: Path, both: bool) -> None:
    one, other = FakeReplica("ending", failures=1_000), FakeReplica("well", failures=1_000 * both)
    with served(one.app()) as ending, served(other.app()) as well:
        put(tmp_path, ending, beside=[well])
        with (
            gateway(tmp_path, None) as gate,
            httpx.Client(headers=bearer(gate.key), timeout=60) as client,
        ):
            answers = [client.post(f"{gate.url}{CHAT}", json=chat(f"q {n}")) for n in range(4)]
    # Where both fail it is the request's own: it is asked twice, no more, and told.
    assert {answer.status_code for answer in answers} == ({500} if both else {200})
    if both:
        asked = [body for body in (*one.bodies, *other.bodies) if "messages" in body]
        assert len(asked) == 2 * len(answers)


@dataclass
class Answer:
    """Stands for the head of an answer; the real ones are in `test_faults.py`."""

    name: str
    closed: bool = False

    def close(self) -> None:
        self.closed = True


class Replicas:
    """What each attempt meets, in order: seconds to wait, and an answer or an error."""

    def __init__(self, *met: tuple[float, Answer | Exception]) -> None:
        self.met, self.sent = list(met), 0
        self.signal: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def attempt(self) -> Any:
        seconds, found = self.met[self.sent]
        self.sent += 1
        await asyncio.sleep(seconds)
        if isinstance(found, Exception):
            raise found
        return found

    def hang(self) -> None:
        self.signal.set_result("hung")
        self.signal = asyncio.get_running_loop().create_future()

    async def ask(self, may: bool = True) -> Answer:
        attempt = cast(Callable[[], Awaitable[aiohttp.ClientResponse]], self.attempt)
        found = await hedged(attempt, lambda: self.signal, lambda _: may)
        return cast(Answer, found)


def test_what_waits_when_a_replica_hangs_is_sent_once_more() -> None:
    async def run() -> None:
        replicas = Replicas((60, Answer("hung")), (0.01, Answer("well")))
        asyncio.get_running_loop().call_later(0.05, replicas.hang)
        assert (await replicas.ask()).name == "well"
        assert replicas.sent == 2

    asyncio.run(run())


def test_the_first_answer_counts_and_a_failure_is_not_the_last_word() -> None:
    async def run() -> None:
        replicas = Replicas((0.1, Answer("was only slow")), (0.01, OSError("refused")))
        asyncio.get_running_loop().call_later(0.03, replicas.hang)
        assert (await replicas.ask()).name == "was only slow"
        replicas = Replicas((0.05, OSError("first")), (0.1, OSError("last")))
        asyncio.get_running_loop().call_later(0.01, replicas.hang)
        with pytest.raises(OSError, match="last"):
            await replicas.ask()

    asyncio.run(run())


def test_without_budget_it_waits_on() -> None:
    async def run() -> None:
        replicas = Replicas((0.1, Answer("late")))
        asyncio.get_running_loop().call_later(0.03, replicas.hang)
        assert (await replicas.ask(may=False)).name == "late"
        assert replicas.sent == 1

    asyncio.run(run())


def test_a_caller_that_leaves_ends_every_attempt() -> None:
    async def run() -> None:
        replicas = Replicas((60, Answer("hung")), (60, Answer("hung too")))
        asking = asyncio.create_task(replicas.ask())
        await asyncio.sleep(0.01)
        replicas.hang()
        await asyncio.sleep(0.01)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await asyncio.sleep(0.01)
        assert replicas.sent == 2
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(run())
