"""A second door of the gateway, with TLS, for callers from elsewhere.

The loopback door stays as it is: what runs on this machine uses it, and a certificate that has
ended locks nobody of the house out. Set by three variables: FTDM_TLS_CERTIFICATE and FTDM_TLS_KEY
name PEM files (the certificate with its chain), FTDM_TLS_LISTEN is HOST:PORT.

Invariants:
- a certificate, key or address that cannot be used is an error before anything is started;
- TLS 1.2 at least; both doors lead to one application, with its keys, limits and log.
"""

import asyncio
import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn
from starlette.types import ASGIApp

CERTIFICATE, KEY, LISTEN = "FTDM_TLS_CERTIFICATE", "FTDM_TLS_KEY", "FTDM_TLS_LISTEN"
_POLL_S = 0.05


class TlsError(Exception):
    """TLS cannot be served as asked; the message says which variable and what to do."""


@dataclass(frozen=True)
class TlsDoor:
    """Where TLS is served, and with what."""

    host: str
    port: int
    certificate: Path
    key: Path

    def check(self) -> None:
        """Refuse files that no server could use.

        Raises:
            TlsError: They cannot be read, or do not belong together.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            context.load_cert_chain(self.certificate, self.key)
        except (OSError, ssl.SSLError) as error:
            why = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
            raise TlsError(
                f"{CERTIFICATE} is {self.certificate}, {KEY} is {self.key}: {why}; name the PEM "
                "files of a certificate and of its own key, without a password."
            ) from None


def door_of(environment: Mapping[str, str] = os.environ) -> TlsDoor | None:
    """Return the door that the environment asks for; None if it asks for none.

    Raises:
        TlsError: Only some of the three variables are set, or one cannot be used.
    """
    given = {name: environment.get(name, "").strip() for name in (CERTIFICATE, KEY, LISTEN)}
    if not any(given.values()):
        return None
    missing = [name for name, text in given.items() if not text]
    if missing:
        raise TlsError(f"{', '.join(missing)} is not set: TLS needs all of {', '.join(given)}.")
    host, _, port = given[LISTEN].rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise TlsError(f"{LISTEN} is {given[LISTEN]!r}: write HOST:PORT, such as 0.0.0.0:8443.")
    door = TlsDoor(host.strip("[]"), int(port), Path(given[CERTIFICATE]), Path(given[KEY]))
    door.check()
    return door


def variables(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the variables for the gateway's own process, whose folder is another one.

    Raises:
        TlsError: They ask for what cannot be.
    """
    door = door_of(environment)
    if door is None:
        return {}
    files = {CERTIFICATE: str(door.certificate.absolute()), KEY: str(door.key.absolute())}
    return {**files, LISTEN: environment[LISTEN].strip()}


def run(app: ASGIApp, door: TlsDoor | None, **options: Any) -> None:
    """Serve an application until told to stop: as `options` say, and at the door too."""
    plain = uvicorn.Server(uvicorn.Config(app, **options))
    if door is None:
        plain.run()
        return
    locked = uvicorn.Config(
        app,
        **{**options, "host": door.host, "port": door.port},
        lifespan="off",  # The application starts and ends with the other door.
        ssl_certfile=door.certificate,
        ssl_keyfile=door.key,
    )
    with asyncio.Runner(loop_factory=plain.config.get_loop_factory()) as runner:
        runner.run(_both(plain, uvicorn.Server(locked)))


async def _both(plain: uvicorn.Server, locked: uvicorn.Server) -> None:
    first = asyncio.ensure_future(plain.serve())
    while not plain.started and not first.done():
        await asyncio.sleep(_POLL_S)
    if not first.done():
        second = asyncio.ensure_future(locked.serve())
        # It started last, so the signals are its to hear.
        while not (locked.should_exit or second.done() or first.done()):
            await asyncio.sleep(_POLL_S)
        plain.should_exit = locked.should_exit = True
        await second
    await first
