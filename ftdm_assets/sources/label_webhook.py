"""Hears from Label Studio that labels have changed, so that the sensor need not wait for its poll.

A webhook is a hint: Label Studio sends it once, waits for one second and never again. So it says
only "ask now"; what has changed is asked of the server, and polling goes on without it.

Invariants:
* Nothing that the caller sends is stored or believed; only the time is marked.
* Who does not know the secret is refused; the secret is compared in constant time and never told.
"""

import argparse
import hmac
import os
import time
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from ftdm_assets.home import home
from ftdm_assets.model_folder import find_models
from ftdm_assets.provenance.files import write_bytes
from ftdm_assets.settings import SettingsError

SECRET_ENV = "FTDM_LABEL_WEBHOOK_SECRET"  # noqa: S105 - the variable's name
SECRET_HEADER = "X-FTDM-Webhook"  # noqa: S105 - the header's name
PORT = 8322


def secret() -> str:
    """Return the secret that both sides know.

    Raises:
        SettingsError: if it is not set.
    """
    found = os.environ.get(SECRET_ENV, "").strip()
    if not found:
        raise SettingsError(
            f"attributes.labels.label_studio.webhook: the environment variable {SECRET_ENV} is not "
            "set; make a long random text and export it there"
        )
    return found


def mark_of(model: str) -> float:
    """Return when the model's labels were last said to have changed (seconds since 1970), or 0."""
    try:
        return float(_mark(model).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return 0.0


def app() -> Starlette:
    """Return the receiver: ``POST /label-studio/MODEL``."""
    return Starlette(routes=[Route("/label-studio/{model}", _changed, methods=["POST"])])


async def _changed(request: Request) -> PlainTextResponse:
    given = request.headers.get(SECRET_HEADER, "")
    if not hmac.compare_digest(given.encode(), secret().encode()):
        return PlainTextResponse("the secret is wrong\n", 401)
    model = request.path_params["model"]
    if model not in find_models():
        return PlainTextResponse("there is no such domain model\n", 404)
    write_bytes(_mark(model), repr(time.time()).encode())
    return PlainTextResponse("noted\n", 202)


def _mark(model: str) -> Path:
    return home() / "webhooks" / model


def main() -> None:
    """Listen, on loopback unless told otherwise."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=PORT)
    asked = parser.parse_args()
    secret()
    uvicorn.run(app(), host=asked.host, port=asked.port, log_level="warning", access_log=False)


if __name__ == "__main__":
    main()
