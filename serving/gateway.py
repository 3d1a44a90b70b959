"""The gateway: the one address that callers use, in the OpenAI API's form, on loopback.

`python -m serving.gateway --home HOME --port PORT`. Paths: `/v1/chat/completions`,
`/v1/completions`, `/v1/models`, `/openapi.json` (which describes them all), `/health`, and those of
`serving.admin`. The `model` field names a domain model (production), `NAME@v0007` or
`NAME@previous`; every answer says in `x-ftdm-version` and `x-ftdm-digest` which weights gave it.

Invariants:
- the pointer is read for every call (in one turn of the loop once), so a promotion or rollback
  needs no restart and no signal. In a database that several gateways share it counts on each within
  a second (`serving.mirror`);
- what is sent on is the caller's own request with nothing changed but `model`: decoding settings
  that the caller leaves out come from the model's generation_config.json, the form of its answer
  from the version (`serving.answer_form`; the answer's header `x-ftdm-constrained` tells it). A
  stream is asked to tell its tokens at its end, for request log and cache; the caller sees that
  only if it asked for it;
- a request passes the guard (its API key), `read` (limits, JSON, name, what the key may ask for),
  then `ResultCache.answer`, which has `Upstream.send` compute what is not kept;
- the answer passes the request log, which holds its last byte until its entry is on the disk.
"""

import argparse
import asyncio
import gc
import logging
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from serving import model_list, names, openapi, tls
from serving.admin import admin_routes
from serving.admission import StoreAdmission
from serving.answer_form import is_free
from serving.body import json_object
from serving.cache_store import CacheStore
from serving.cached_response import was_computed
from serving.call import Call
from serving.connection import ConnectionLimits, bounded
from serving.deadline import answered_by, deadline_of
from serving.engine import ANSWER_TIMEOUT_S, HOST
from serving.error_handlers import HANDLERS
from serving.errors import ApiError, model_not_found
from serving.guard import Guard, GuardMiddleware, check_model
from serving.home import CACHE_VARIABLE
from serving.observed import observed
from serving.otlp import trace_headers
from serving.pointer import PointerStore
from serving.refusals import Refusals
from serving.request_entry import RequestEntry, input_digest, input_secret, input_text
from serving.request_recorder import RecorderMiddleware, recorder
from serving.result_cache import ResultCache
from serving.room import RoomMiddleware
from serving.rotation import Rotation
from serving.upstream import Upstream
from serving.versions import UnknownModelError, Version


@dataclass(frozen=True)
class GatewaySettings:
    """What one gateway process needs to know.

    Attributes:
        home: The home folder whose pointer it serves.
        max_body_bytes: A larger request is refused with 413.
        body_timeout_s: A request that takes longer to come is refused with 408.
        max_at_work: Requests at work at a time; further ones are refused with 429.
        retry_for_s: How long a call that reaches nobody is tried again.
        answer_timeout_s: Longest silence of a replica within one answer.
        keep_inputs: Whether the request log keeps the inputs themselves, beside their digests.
        cache_url: Where answers are kept (Redis or Valkey); None keeps none.
        cache_timeout_s: Longest that one request waits for that store.
    """

    home: Path
    max_body_bytes: int = 4 * 1024 * 1024
    body_timeout_s: float = 30.0
    max_at_work: int = 512
    retry_for_s: float = 5.0
    answer_timeout_s: float = ANSWER_TIMEOUT_S
    keep_inputs: bool = False
    cache_url: str | None = None
    cache_timeout_s: float = 0.05


class Gateway:
    """The handlers, and what they share: the pointer's database and the connections."""

    def __init__(self, settings: GatewaySettings, rotation: Rotation) -> None:
        self._settings = settings
        self._store = PointerStore(settings.home, watching=True)
        self._rotation = rotation
        self._upstream = Upstream(settings.retry_for_s, settings.answer_timeout_s, rotation)
        rotation.start(self._store.versions)
        self._secret = input_secret(settings.home)
        store = settings.cache_url and CacheStore(settings.cache_url, settings.cache_timeout_s)
        self._cache = ResultCache.of(settings.home, store or None, self._upstream.send)

    async def close(self) -> None:
        """Close the database and every connection."""
        await self._cache.close()
        await self._rotation.close()
        await self._upstream.close()
        self._store.close()

    async def complete(self, request: Request) -> Response:
        """Answer a chat completion or a completion."""
        arrived = asyncio.get_running_loop().time()
        deadline = deadline_of(request.headers, arrived, self._settings.answer_timeout_s)
        call = await self.read(request)
        answer = await answered_by(deadline, lambda: self._cache.answer(call, request.headers))
        request.state.entry.cached = not was_computed(answer)
        return answer

    async def models(self, request: Request) -> Response:
        """List what the key may ask for: production, previous, every exact version that is up."""
        key = request.state.key
        listed = [one for one in model_list.entries(self._store) if key.allows(one["id"])]
        return JSONResponse({"object": "list", "data": listed})

    async def model(self, request: Request) -> Response:
        """Describe one name."""
        asked = request.path_params["name"]
        check_model(request.state.key, asked)
        return JSONResponse(model_list.entry(asked, self._resolve(asked)))

    async def health(self, _: Request) -> Response:
        """Say that the gateway is up, and nothing else: whoever asks has shown no key."""
        return JSONResponse({"status": "ok"})

    async def read(self, request: Request) -> Call:
        """Read and check a request.

        Raises:
            ApiError: Too large, too slow, no JSON object, no model that is known here and to this
                key, or a header that is no word of ours.
        """
        limits = self._settings
        body = await json_object(request, limits.max_body_bytes, limits.body_timeout_s)
        asked, entry = body.get("model"), request.state.entry
        self._note_input(entry, body)
        if not isinstance(asked, str):
            raise ApiError(400, "`model` must be a string.", "invalid_value", param="model")
        entry.model = asked if names.is_asked(asked) else ""
        check_model(request.state.key, asked)
        request.state.version = self._awake(asked)
        return Call(
            request.scope["path"],
            body,
            lambda: self._awake(asked),
            entry.request_id,
            entry.note_usage,
            trace_headers(request.headers),
            is_free(request.headers),
            entry.key_id,
        )

    def _note_input(self, entry: RequestEntry, body: dict[str, Any]) -> None:
        try:
            entry.input_digest = input_digest(self._secret, body)
            entry.input = input_text(body) if self._settings.keep_inputs else None
        except RecursionError as error:
            raise ApiError(400, "The body is nested too deeply.", "invalid_json") from error

    def _resolve(self, asked: str) -> Version:
        try:
            return self._store.resolve(asked)
        except UnknownModelError as error:
            raise model_not_found(str(error)) from error

    def _awake(self, asked: str) -> Version:
        if (version := self._resolve(asked)).state == "asleep":
            message = f"{version.version} is kept asleep until production moves to it: ask for "
            message += f"{version.model}."
            raise ApiError(503, message, "asleep", param="model", kind="server_error")
        return version


def create_app(
    settings: GatewaySettings, around: Sequence[Middleware] = (), rotation: Rotation | None = None
) -> Starlette:
    """Return the gateway as an ASGI application, with what watches it `around` it."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        gateway = Gateway(settings, rotation or Rotation())
        guard, writer = Guard(settings.home), recorder(settings.home)
        app.state.gateway, app.state.guard, app.state.recorder = gateway, guard, writer
        app.state.refusals = refusals = Refusals(writer)
        try:
            yield
        finally:
            await gateway.close()
            guard.close()
            refusals.close()
            await asyncio.to_thread(writer.close)

    routes = [
        Route("/v1/chat/completions", _handler("complete"), methods=["POST"]),
        Route("/v1/completions", _handler("complete"), methods=["POST"]),
        Route("/v1/models", _handler("models")),
        Route("/v1/models/{name}", _handler("model")),
        Route("/health", _handler("health")),
        Route(openapi.PATH, openapi.endpoint),
        *admin_routes(settings.home, StoreAdmission(settings.home)),
    ]
    app = Starlette(
        routes=routes,
        middleware=[
            *around,
            Middleware(RecorderMiddleware),
            Middleware(GuardMiddleware),
            Middleware(RoomMiddleware, most=settings.max_at_work),
        ],
        lifespan=lifespan,
        exception_handlers=HANDLERS,
    )
    # A redirect would lead to where the caller's own Host header says.
    app.router.redirect_slashes = False
    return app


def _handler(name: str) -> Any:
    async def handle(request: Request) -> Response:
        response: Response = await getattr(request.app.state.gateway, name)(request)
        return response

    return handle


def main(arguments: list[str]) -> None:
    """Serve until told to stop; requests that run are finished first."""
    parser = argparse.ArgumentParser(prog="python -m serving.gateway")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--host", default=HOST, help="of both ports; loopback, but in a pod")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--metrics-port", type=int, help="where Prometheus asks; else nowhere")
    parser.add_argument("--keep-inputs", action="store_true")
    options = parser.parse_args(arguments)
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", level="INFO")
    logging.Formatter.converter = time.gmtime
    # Uvicorn ends what runs and then raises the signal again: what watches must end, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    cache_url = os.environ.get(CACHE_VARIABLE) or None
    settings = GatewaySettings(options.home, keep_inputs=options.keep_inputs, cache_url=cache_url)
    rotation, port = Rotation(), options.metrics_port
    with observed(options.home, port, cache_url, rotation, options.host) as around:
        app = create_app(settings, around, rotation)
        # What is there to stay need not be looked through for garbage while requests wait.
        gc.collect()
        gc.freeze()
        tls.run(
            app,
            tls.door_of(),
            host=options.host,
            port=options.port,
            http=bounded(ConnectionLimits()),
            ws="none",
            access_log=False,
            log_level="warning",
            timeout_graceful_shutdown=30,
            timeout_keep_alive=30,
            # Nothing here asks who the caller's address belongs to.
            proxy_headers=False,
            server_header=False,
        )


if __name__ == "__main__":
    main(sys.argv[1:])
