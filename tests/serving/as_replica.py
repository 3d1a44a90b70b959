"""Lets one fake in this process stand for the replicas of several versions, each by its own path.

`URL/NAME` is a replica that serves NAME and says so when it is asked; the rest is the fake's.
"""

from pathlib import Path
from urllib.parse import quote, unquote

from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from serving.versions import CacheTerms, Replica, State, Version
from tests.serving.serving_support import digest_of


def replica_at(url: str, served_name: str) -> Replica:
    """Return the replica that serves this name at a fake's address."""
    return Replica("replica", f"{url}/{quote(served_name, safe='')}", 0, None)


def version_at(
    url: str,
    model: str,
    version: str,
    served_name: str,
    *,
    folder: Path = Path("/models"),
    state: State = "ready",
    cache: CacheTerms | None = None,
) -> Version:
    """Return a version, in its full form, with one replica at a fake's address."""
    return Version(
        *(model, version, digest_of(version), folder, served_name, 2048, "bfloat16"),
        replicas=(replica_at(url, served_name),),
        state=state,
        cache=cache or CacheTerms(),
    )


class AsReplica:
    """The fake, as its callers reach it."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        _, name, path = scope["path"].split("/", 2)
        answer = identity(unquote(name), f"/{path}")
        if answer is not None and scope["method"] == "GET":
            await answer(scope, receive, send)
            return
        await self.app(
            {**scope, "path": f"/{path}", "raw_path": f"/{path}".encode()}, receive, send
        )


def identity(served_name: str, path: str) -> Response | None:
    """Return what a replica says of itself; None for other paths."""
    if path == "/health":
        return Response()
    if path == "/v1/models":
        return JSONResponse({"object": "list", "data": [{"id": served_name}]})
    return None
