"""Errors in the OpenAI API's own form, so that every client library understands them."""

import re
from dataclasses import dataclass, field
from pathlib import Path

from starlette.responses import JSONResponse

# How an error begins inside a stream of events, the engine's and the gateway's.
ERROR_EVENT = b'data: {"error"'
# A path in quotes, which may hold spaces; an address; a path.
_PLACE = re.compile(
    r"""(?P<quote>['"`])(?:~|\.{1,2})?/[^\n]*?(?P=quote)|\b[a-z][a-z+]*://[^\s'"`;,()<>]+"""
    r"""|(?<![\w.~/-])(?:~|\.{1,2})?/[^\s'"`;,()<>]*[^\s'"`;,()<>:.]"""
)


@dataclass
class ApiError(Exception):
    """What the gateway answers instead of a completion.

    Attributes:
        status: HTTP status.
        message: One sentence for the caller.
        code: A word that programs can test, such as `model_not_found`.
        param: The field of the request that is wrong, if one is.
        kind: The OpenAI API's `type`.
        headers: Further headers of the answer.
    """

    status: int
    message: str
    code: str
    param: str | None = None
    kind: str = "invalid_request_error"
    headers: dict[str, str] = field(default_factory=dict)

    def body(self) -> dict[str, dict[str, str | None]]:
        """Return the error as the API's JSON object."""
        return {
            "error": {
                "message": self.message,
                "type": self.kind,
                "param": self.param,
                "code": self.code,
            }
        }

    def response(self) -> JSONResponse:
        """Return the whole HTTP answer."""
        return JSONResponse(self.body(), status_code=self.status, headers=self.headers)


def model_not_found(message: str) -> ApiError:
    """Return the answer to a name that nothing goes by."""
    return ApiError(404, message, "model_not_found", param="model")


def unreachable(message: str, code: str = "unavailable") -> ApiError:
    """Return the answer when no replica, or what else an answer needs, could be reached."""
    return ApiError(503, message, code, kind="server_error", headers={"retry-after": "1"})


def no_database() -> ApiError:
    """Return the answer when the database does not say what production is, or whose a key is."""
    # Why is in the gateway's own log: addresses are not for callers.
    return unreachable(
        "The gateway's database does not answer: try again shortly, and tell whoever runs this "
        "gateway."
    )


def without_places(message: str, home: Path) -> str:
    """Return a message without paths and addresses of the machine, which are not for callers.

    Args:
        message: What the gateway's own log says.
        home: Its folder, which may have spaces in its path.
    """
    short = _PLACE.sub("…", message.replace(str(home), "/-"))
    return message if short == message else f"{short} (…: the gateway's log names it.)"
