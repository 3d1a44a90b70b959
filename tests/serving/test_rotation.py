"""Which routers the watch changes, and which it leaves alone."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from serving.rotation import Rotation
from serving.rotation_metrics import RotationCollector
from serving.versions import Replica, Version
from tests.serving.cache_support import served
from tests.serving.serving_support import MODEL, digest_of

NAME = f"{MODEL}@v0001"


@dataclass
class Place:
    """A replica that names what it is told to, and a router that lists what it is told to."""

    names: str = "other"
    workers: list[dict[str, str]] | None = None
    changes: list[str] = field(default_factory=list)

    async def models(self, _: Request) -> Response:
        return JSONResponse({"data": [{"id": self.names}]})

    async def complete(self, _: Request) -> Response:
        return JSONResponse({"model": self.names, "choices": [{"text": "a"}]})

    async def listed(self, _: Request) -> Response:
        return JSONResponse({"workers": self.workers} if self.workers is not None else {})

    async def change(self, request: Request) -> Response:
        self.changes.append(request.method)
        if request.method == "DELETE" and self.workers:
            gone = request.path_params["worker"]
            self.workers = [one for one in self.workers if one["id"] != gone]
        if request.method == "POST" and self.workers is not None:
            self.workers.append(
                {"url": (await request.json())["url"], "id": "b", "status": "ready"}
            )
        return JSONResponse({}, 202)

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/v1/models", self.models),
                Route("/v1/completions", self.complete, methods=["POST"]),
                Route("/workers", self.listed),
                Route("/workers", self.change, methods=["POST"]),
                Route("/workers/{worker}", self.change, methods=["DELETE", "PATCH"]),
            ]
        )


@pytest.fixture
def place() -> Iterator[tuple[Place, Version]]:
    one = Place()
    with served(one.app()) as url:
        yield (
            one,
            Version(
                *(MODEL, f"{MODEL}-v0001", digest_of("v"), Path("/"), NAME, 2048, "bfloat16"),
                router_url=url,
                replicas=(Replica("replica", url, 0, None),),
                state="ready",
            ),
        )


@contextlib.asynccontextmanager
async def watch(*versions: Version) -> AsyncIterator[Rotation]:
    rotation = Rotation(lambda: versions)
    rotation.start()
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


def test_a_wrong_one_is_taken_out_and_put_back_when_it_is_right(
    place: tuple[Place, Version],
) -> None:
    one, version = place
    one.workers = [{"url": version.router_url, "id": "a", "status": "ready"}]

    async def run() -> None:
        async with watch(version) as rotation:
            await until(lambda: "DELETE" in one.changes)
            await until(lambda: rotation.rotated() == {(MODEL, version.version): 0})
            assert 'taken_out_total{model="support_tickets",reason="wrong",' in metrics(rotation)
            assert "POST" not in one.changes
            one.names = NAME
            await until(lambda: rotation.rotated() == {(MODEL, version.version): 1})
            assert 'in_rotation{model="support_tickets",version="support_tickets-v0001"} 1' in (
                metrics(rotation)
            )
            assert one.changes[-1] == "POST"

    asyncio.run(run())


@pytest.mark.parametrize("listed", ["nothing", "others"])
def test_a_router_that_is_not_ours_to_change_is_left_alone(
    place: tuple[Place, Version], listed: str
) -> None:
    """A service before several routers lists none; one that finds pods knows other addresses."""
    one, version = place
    other = {"url": "http://10.0.0.7:8000", "id": "x", "status": "ready"}
    one.workers = None if listed == "nothing" else [other]

    async def run() -> None:
        async with watch(version) as rotation:
            await until(lambda: rotation.rotated() == {(MODEL, version.version): 0})
            one.names = NAME
            await until(lambda: rotation.rotated() == {(MODEL, version.version): 1})
            assert one.changes == []

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
        rotation = Rotation(versions)
        rotation.start()
        await until(lambda: rotation.rotated() == {(MODEL, version.version): 1})
        fails = True
        await asyncio.sleep(1.2)
        one.names = "other"
        await until(lambda: rotation.rotated() == {(MODEL, version.version): 0})
        await rotation.close()

    asyncio.run(run())
