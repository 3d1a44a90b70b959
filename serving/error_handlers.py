"""What the gateway answers to what its handlers raise: always an error in the OpenAI API's form.

Invariant: why the database or the gateway itself failed goes to the gateway's log, never to the
caller.
"""

import logging
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from serving.database import DatabaseError
from serving.errors import ApiError, no_database

_log = logging.getLogger("serving.gateway")


async def _api_error(_: Request, error: ApiError) -> Response:
    return error.response()


async def _database_error(_: Request, error: DatabaseError) -> Response:
    _log.error("%s", error)
    return no_database().response()


async def _http_error(request: Request, error: HTTPException) -> Response:
    message = f"{request.method} {request.scope['path']}: {error.detail}."
    code = "not_found" if error.status_code == 404 else "invalid_request"
    headers = dict(error.headers or {})
    return ApiError(error.status_code, message, code, headers=headers).response()


async def _gone(_: Request, __: ClientDisconnect) -> Response:
    return Response(status_code=499)


async def _bug(request: Request, error: Exception) -> Response:
    _log.error("%s %r failed", request.method, request.scope["path"], exc_info=error)
    return ApiError(500, "The gateway failed.", "internal", kind="server_error").response()


HANDLERS: dict[Any, Any] = {
    ApiError: _api_error,
    DatabaseError: _database_error,
    HTTPException: _http_error,
    ClientDisconnect: _gone,
    Exception: _bug,
}
