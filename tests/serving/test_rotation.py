"""Who is in rotation: what the watch and the calls find, and when one comes back."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, replace

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from serving.health import free_port
from serving.rotation import Rotation
from serving.rotation_metrics import RotationCollector
from serving.versions import Replica, Version
from tests.serving.as_replica import version_at
from tests.serving.cache_support import served
from tests.serving.serving_support import MODEL

NAME = f"{MODEL}@v0001"
WHO = (MODEL, f"{MODEL}-v0001", "replica")


@dataclass
class Place:
    """A replica that names what it is told to."""

    names: str = "other"
    babbles: bool = False

    async def models(self, _: Request) -> Response:
        return JSONResponse({"data": [{"id": self.names}]})

    async def complete(self, _: Request) -> Response:
        model = "other" if self.babbles else self.names
        return JSONResponse({"model": model, "choices": [{"text": "a"}]})

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/v1/models", self.models),
                Route("/v1/completions", self.complete, methods=["POST"]),
            ]
        )


@pytest.fixture
def place() -> Iterator[tuple[Place, Version]]:
    one = Place()
    with served(one.app()) as url:
        version = version_at(url, MODEL, f"{MODEL}-v0001", NAME)
        yield one, replace(version, replicas=(Replica("replica", url, 0, None),))


@contextlib.asynccontextmanager
async def watch(*versions: Version) -> AsyncIterator[Rotation]:
    rotation = Rotation()
    rotation.start(lambda: versions)
    try:
        yield rotation
    finally:
        await rotation.close()


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():
            await asyncio.sleep(0.01)


def metrics(rotation: Rotation) -> str:
    registry = CollectorRegistry()
    registry.register(RotationCollector(rotation))
    return generate_latest(registry).decode()


def counted(rotation: Rotation) -> dict[str, float]:
    """Return how often a replica was taken out, by reason."""
    found = re.findall(r'taken_out_total\{.*reason="(\w+)".*\} (\S+)', metrics(rotation))
    return {reason: float(number) for reason, number in found}


def test_a_wrong_one_is_taken_out_and_put_back_when_it_is_right(
    place: tuple[Place, Version],
) -> None:
    one, version = place

    async def run() -> None:
        async with watch(version) as rotation:
            # Nothing is known yet: all of them may be asked.
            assert rotation.fit(version) == [version.replicas[0].url]
            await until(lambda: rotation.rotated() == {WHO: False})
            assert rotation.fit(version) == []
            assert counted(rotation) == {"dead": 0, "slow": 0, "wrong": 1, "garbage": 0}
            one.names = NAME
            await until(lambda: rotation.rotated() == {WHO: True})
            assert 'in_rotation{model="support_tickets",replica="replica",' in metrics(rotation)

    asyncio.run(run())


def test_one_that_a_call_found_to_answer_garbage_has_to_prove_itself(
    place: tuple[Place, Version],
) -> None:
    one, version = place
    one.names, one.babbles = NAME, True

    async def run() -> None:
        async with watch(version) as rotation:
            await until(lambda: rotation.rotated() == {WHO: True})
            rotation.suspect(version, version.replicas[0].url, "garbage")
            assert rotation.fit(version) == []
            await asyncio.sleep(1.0)
            assert rotation.fit(version) == []
            one.babbles = False
            await until(lambda: rotation.fit(version) != [])

    asyncio.run(run())


def test_the_last_one_stays_though_it_is_dead(place: tuple[Place, Version]) -> None:
    one, version = place
    one.names = NAME
    nobody = Replica("nobody", f"http://127.0.0.1:{free_port()}", 0, None)
    pair = replace(version, replicas=(*version.replicas, nobody))

    async def run() -> None:
        async with watch(pair) as rotation:
            await until(lambda: rotation.fit(pair) == [version.replicas[0].url])
            # A call that finds nobody there says so at once.
            rotation.suspect(pair, version.replicas[0].url, "dead")
            assert rotation.fit(pair) == [version.replicas[0].url]

    asyncio.run(run())


def test_a_list_that_cannot_be_read_ends_no_watch(place: tuple[Place, Version]) -> None:
    one, version = place
    one.names = NAME
    fails = False

    def versions() -> list[Version]:
        if fails:
            raise OSError("the database is away")
        return [version]

    async def run() -> None:
        nonlocal fails
        rotation = Rotation()
        rotation.start(versions)
        await until(lambda: rotation.rotated() == {WHO: True})
        fails = True
        await asyncio.sleep(1.2)
        one.names = "other"
        await until(lambda: rotation.rotated() == {WHO: False})
        await rotation.close()

    asyncio.run(run())
