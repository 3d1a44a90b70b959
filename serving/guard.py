"""Who may come in: every path but `/health` needs an API key.

Invariants:
- a path that somebody adds later needs a key as well, without anybody thinking of it;
- a refusal never repeats the key, and tells whether a key has expired or was revoked only to who
  has it whole;
- a key that may not ask for a model learns nothing of it, not even whether it exists.
"""

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from serving.api_keys import ApiKey, KeyStore
from serving.database import DatabaseError
from serving.errors import ApiError, no_database
from serving.rate_limit import RateLimits

OPEN_PATHS = frozenset({"/health"})
_UNAUTHORIZED = 401


class Guard:
    """The keys of one home, and how often each was used."""

    def __init__(self, home: Path) -> None:
        self._store = KeyStore(home, watching=True)
        self._limits = RateLimits(time.monotonic)

    def close(self) -> None:
        """Close the database."""
        self._store.close()

    def identify(self, headers: Mapping[str, str]) -> ApiKey:
        """Return the key that a request brings, whether it counts or not.

        Raises:
            ApiError: 401, there is none, or one that is not known; 503, nobody can say.
        """
        try:
            key = self._store.find(_bearer(headers))
        except DatabaseError as error:
            raise no_database() from error
        if key is None:
            raise _refused("This API key is not known here: `ftdm keys list` shows those that are.")
        return key

    def admit(self, key: ApiKey) -> None:
        """Refuse a key that does not count.

        Raises:
            ApiError: 401, it has ended; 429, it has been used too often.
        """
        state = key.state(datetime.now(UTC))
        if state != "valid":
            raise _refused(f"API key {key.key_id} is {state}: ask for another (`ftdm keys new`).")
        wait = self._limits.take(key.key_id, key.per_minute)
        if wait:
            message = f"API key {key.key_id} may send {key.per_minute} requests a minute: "
            message += f"wait {wait} s."
            later = {"retry-after": str(wait)}
            raise ApiError(429, message, "rate_limit_exceeded", kind="requests", headers=later)


class GuardMiddleware:
    """Puts the key into the request's state and entry, or answers in the application's place.

    The entry is the recorder's, which stands before it: refusals are recorded, too.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on that may come in."""
        if scope["type"] == "http" and scope["path"] not in OPEN_PATHS:
            guard, state = scope["app"].state.guard, scope["state"]
            try:
                state["key"] = key = guard.identify(Headers(scope=scope))
                state["entry"].key_id, state["entry"].key_name = key.key_id, key.name
                guard.admit(key)
            except ApiError as error:
                state["entry"].refused = error.status == _UNAUTHORIZED
                await error.response()(scope, receive, send)
                return
        await self._app(scope, receive, send)


def check_model(key: ApiKey, asked: str) -> None:
    """Refuse a model that a key may not ask for.

    Raises:
        ApiError: 403.
    """
    if not key.allows(asked):
        message = f"API key {key.key_id} may not ask for {asked[:200]!r}: it is for "
        message += f"{', '.join(key.models)}."
        raise ApiError(403, message, "model_not_allowed", param="model", kind="permission_error")


def _bearer(headers: Mapping[str, str]) -> str:
    kind, _, text = headers.get("authorization", "").partition(" ")
    if kind.lower() != "bearer" or not text.strip():
        raise _refused("No API key: send it as `Authorization: Bearer KEY` (`ftdm keys new`).")
    return text.strip()


def _refused(message: str) -> ApiError:
    return ApiError(
        _UNAUTHORIZED, message, "invalid_api_key", headers={"www-authenticate": "Bearer"}
    )
