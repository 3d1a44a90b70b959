"""Rollbacks over HTTP that have to start a version first, which takes a minute or two.

Nobody waits for one with an open connection, which proxies and clients close long before: `POST
/admin/rollback` answers 202 at once, and `GET /admin/rollback?model=NAME` tells how far it is,
and at the end the move or the error, as the POST would have.

Invariants:
- one at a time for each model; asking for the same once more tells of the one that is under way;
- only the gateway process that carries it out, on whose machine the version starts, knows of it;
  others of the same database do not. On a cluster none is carried out: what runs there is refused;
- it goes on whatever becomes of who asked. It ends with the gateway's process, and is then
  forgotten: production is as before, and asking again goes on with what was started.
"""

import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from threading import Lock, Thread
from typing import Any
from urllib.parse import urlencode

from starlette.responses import JSONResponse

from serving.errors import ApiError
from serving.versions import Move

_log = logging.getLogger("serving.admin")
_ASK_AGAIN_S = 2


@dataclass
class ColdRollback:
    """One of them, and what came of it."""

    model: str
    to_version: str
    said: list[str] = field(default_factory=list)
    move: Move | None = None
    error: dict[str, str | None] | None = None

    @property
    def state(self) -> str:
        """`under_way`, `done` or `failed`."""
        return "done" if self.move else "failed" if self.error else "under_way"

    def document(self) -> dict[str, Any]:
        """Return what a caller is told."""
        move = asdict(self.move) if self.move else None
        told = {"model": self.model, "to_version": self.to_version, "state": self.state}
        return {**told, "said": list(self.said), "move": move, "error": self.error}

    def accepted(self) -> JSONResponse:
        """Return the answer to who asked for it."""
        where = f"/admin/rollback?{urlencode({'model': self.model})}"
        headers = {"location": where, "retry-after": str(_ASK_AGAIN_S)}
        return JSONResponse({**self.document(), "status": where}, 202, headers)

    def carry_out(self, made: Callable[[Callable[[str], None]], Move]) -> None:
        """Do it, and keep what came of it."""
        try:
            self.move = made(self.said.append)
        except ApiError as error:
            self.error = error.body()["error"]
        except BaseException as error:
            _log.error("The rollback to %s failed", self.to_version, exc_info=error)
            failed = ApiError(500, "The gateway failed.", "internal", kind="server_error")
            self.error = failed.body()["error"]


class ColdRollbacks:
    """The last of each model since the gateway started."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._last: dict[str, ColdRollback] = {}

    def begin(
        self, model: str, to_version: str, made: Callable[[Callable[[str], None]], Move]
    ) -> ColdRollback:
        """Carry a rollback out in the background; return it, or the same one under way.

        Raises:
            ApiError: Another is under way.
        """
        with self._lock:
            last = self._last.get(model)
            if last is None or last.state != "under_way":
                self._last[model] = last = ColdRollback(model, to_version)
                Thread(target=last.carry_out, args=(made,), daemon=True).start()
            if last.to_version == to_version:
                return last
        message = f"A rollback of {model} to {last.to_version} is under way: wait for its end."
        raise ApiError(409, message, "not_moved")

    def of(self, model: str) -> ColdRollback:
        """Return a model's last one.

        Raises:
            ApiError: There was none since the gateway started.
        """
        if found := self._last.get(model):
            return found
        message = f"No rollback of {model[:64]!r} has started a version since this gateway began: "
        message += "ask the gateway that answered 202, or see what `ftdm status` says is current."
        raise ApiError(404, message, "not_found", param="model")
