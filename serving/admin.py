"""Moving production over HTTP: `POST /admin/rollback` and `POST /admin/promote`.

The bodies are JSON objects: `{"model": NAME, "reason": WHY}`, for a rollback with `"to": VERSION`
if it is not to be the previous one, for a promotion with `"version": VERSION`. A rollback to what
is not warm is answered with 202 at once, and carried out; see `serving.admin_cold`.

Invariants:
- nothing is read of a request whose API key may not move production; the move names the key;
- no caller is told a path or an address of the machine: the gateway's own log keeps the whole;
- the rollback is that of `ftdm rollback` and of the job (`serving.cold`): ready, warm, admitted.
  The gateway knows no Dagster: the sensor NAME_moves tells the lineage of the move;
- a version is started on the gateway's own machine only. To a cluster it has neither settings nor
  rights (docs/kubernetes.md says why): what is not warm there is refused at once;
- a version that was never in production is not promoted here: its first promotion is the graph's,
  which asks the gate and the smoke test.
"""

import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from serving import cold, moves, names
from serving.admin_cold import ColdRollback, ColdRollbacks
from serving.admission import Admission, AdmissionError
from serving.api_keys import ApiKey
from serving.body import json_object
from serving.errors import ApiError, model_not_found, without_places
from serving.guard import check_model
from serving.home import Home
from serving.pointer import PointerStore
from serving.sleep import later
from serving.versions import Move, PointerError, UnknownModelError

_MAX_BODY_BYTES, _BODY_TIMEOUT_S = 16 * 1024, 10.0
_LONGEST_TEXT = 500

P = ParamSpec("P")
T = TypeVar("T")

_log = logging.getLogger("serving.admin")


def admin_routes(home: Path, admission: Admission) -> list[Route]:
    """Return the routes that move a home's pointer; they belong behind the guard."""
    begun, folder = ColdRollbacks(), Home.at(home).folder

    def rollback(asked: dict[str, Any], by: str) -> Move | ColdRollback:
        model, reason = _text(asked, "model"), _text(asked, "reason")
        to = _text(asked, "to") if asked.get("to") is not None else None

        def made(progress: Callable[[str], None]) -> Move:
            how: dict[str, Any] = {"by": by, "reason": reason, "admission": admission}
            return cold.rollback(home, model, to, progress=progress, **how).move

        must_start = cold.what_must_start(home, model, to)
        if must_start is None:
            return made(lambda _: None)
        before, target = must_start
        cold.need_this_machine(home, before, target)

        def started(progress: Callable[[str], None]) -> Move:
            def say(text: str) -> None:
                _log.info("%s", text)
                progress(without_places(text, folder))

            return _made(folder, made, say)

        return begun.begin(model, target.version, started)

    def promote(asked: dict[str, Any], by: str) -> Move:
        model, reason = _text(asked, "model"), _text(asked, "reason")
        with PointerStore(home) as store:
            version = cold.was_in_production(store, model, _text(asked, "version"))
        how: dict[str, Any] = {"by": by, "reason": reason, "admission": admission}
        made = moves.promote(home, model, version, **how)
        later(home, model)
        return made

    async def status(request: Request) -> Response:
        key, model = _admin(request.state.key), request.query_params.get("model", "")
        check_model(key, model)
        return JSONResponse(begun.of(model).document())

    begin = _endpoint(folder, rollback)

    async def rollbacks(request: Request) -> Response:
        return await (begin if request.method == "POST" else status)(request)

    return [
        Route("/admin/rollback", rollbacks, methods=["GET", "POST"]),
        Route("/admin/promote", _endpoint(folder, promote), methods=["POST"]),
    ]


def _endpoint(
    home: Path,
    move: Callable[[dict[str, Any], str], Move | ColdRollback],
) -> Callable[[Request], Awaitable[Response]]:
    async def handle(request: Request) -> Response:
        key = _admin(request.state.key)
        asked = await json_object(request, _MAX_BODY_BYTES, _BODY_TIMEOUT_S)
        check_model(key, _text(asked, "model"))
        began = time.monotonic()
        by = f"{key.name} (API key {key.key_id})"
        made = await run_in_threadpool(_made, home, move, asked, by)
        if isinstance(made, ColdRollback):
            return made.accepted()
        seconds = round(time.monotonic() - began, 3)
        return JSONResponse({**asdict(made), "seconds": seconds})

    return handle


def _admin(key: ApiKey) -> ApiKey:
    if key.admin:
        return key
    message = f"API key {key.key_id} may not move production: that takes a key that was made with "
    message += "`ftdm keys new NAME --admin`."
    raise ApiError(403, message, "not_admin", kind="permission_error")


def _made(home: Path, move: Callable[P, T], *asked: P.args, **further: P.kwargs) -> T:
    """Return what a move returns; refusals become the API's errors."""
    try:
        return move(*asked, **further)
    except names.InvalidNameError as error:
        raise ApiError(400, str(error), "invalid_value") from error
    except UnknownModelError as error:
        raise model_not_found(str(error)) from error
    except PointerError as error:
        _log.warning("Production was not moved: %s", error)
        code = "not_admitted" if isinstance(error, AdmissionError) else "not_moved"
        raise ApiError(409, without_places(str(error), home), code) from error


def _text(asked: dict[str, Any], name: str) -> str:
    text = asked.get(name)
    if isinstance(text, str) and len(text.strip()) > 0 and len(text) <= _LONGEST_TEXT:
        return text.strip()
    message = f"`{name}` must be a text of 1 to {_LONGEST_TEXT} characters."
    raise ApiError(400, message, "invalid_value", param=name)
