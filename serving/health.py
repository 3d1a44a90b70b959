"""Asking the parts whether they are ready: small, synchronous, every call with a timeout.

Standard library only, because the rollback command uses it.
"""

import http.client
import json
import random
import socket
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

from serving.identity import is_completion, names_only
from serving.versions import PointerError, Version

_PORTS = range(10_000, 20_000)


def get_json(url: str, timeout_s: float = 2.0) -> tuple[int, Any]:
    """Return status and decoded body of a GET; status 0 when nobody answers in time.

    The body is None when it is no JSON.
    """
    return _call("GET", url, None, timeout_s)


def post_json(url: str, body: Mapping[str, Any], timeout_s: float) -> tuple[int, Any]:
    """Return status and decoded body of a POST; see `get_json`."""
    return _call("POST", url, json.dumps(body).encode(), timeout_s)


def get_text(url: str, timeout_s: float = 2.0) -> tuple[int, str]:
    """Return status and body of a GET; status 0 when nobody answers in time."""
    status, body = _exchange("GET", url, None, timeout_s)
    return status, body.decode("utf-8", "replace")


def _call(method: str, url: str, content: bytes | None, timeout_s: float) -> tuple[int, Any]:
    status, body = _exchange(method, url, content, timeout_s)
    try:
        return status, json.loads(body)
    except (ValueError, RecursionError):
        return status, None


def _exchange(method: str, url: str, content: bytes | None, timeout_s: float) -> tuple[int, bytes]:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(
        parts.hostname or "", parts.port or 80, timeout=timeout_s
    )
    headers = {"content-type": "application/json"} if content is not None else {}
    path = f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}"
    try:
        connection.request(method, path, content, headers)
        response = connection.getresponse()
        return response.status, response.read()
    except (OSError, http.client.HTTPException):
        return 0, b""
    finally:
        connection.close()


def serves(base_url: str, served_name: str) -> bool:
    """Tell whether an engine is healthy and serves exactly this name: see `serving.identity`."""
    if get_json(f"{base_url}/health")[0] != http.client.OK:
        return False
    status, body = get_json(f"{base_url}/v1/models")
    return status == http.client.OK and names_only(body, served_name)


def answers_chat(base_url: str, served_name: str, timeout_s: float = 60.0) -> bool:
    """Tell whether an engine completes a request under this name."""
    messages = [{"role": "user", "content": "Hello."}]
    body = {"model": served_name, "messages": messages, "max_tokens": 1}
    status, answer = post_json(f"{base_url}/v1/chat/completions", body, timeout_s)
    return status == http.client.OK and is_completion(answer, served_name)


def answering(version: Version) -> int:
    """Return how many replicas of a version are healthy and serve its name now; all at once."""
    if not version.replicas:
        return 0
    with ThreadPoolExecutor(min(len(version.replicas), 32)) as pool:
        return sum(pool.map(lambda one: serves(one.url, version.served_name), version.replicas))


def require_warm(version: Version) -> None:
    """Refuse a version of which no replica answers.

    Raises:
        PointerError: Nobody answers for it.
    """
    if answering(version) == 0:
        raise PointerError(
            f"No replica of {version.version} answers ({version.addresses}): start it again "
            "(`ftdm up`), or name another version."
        )


def free_port() -> int:
    """Return a port on loopback that is free now.

    It is one that the system gives to no outgoing connection by itself, so that it is still free
    when it is used some minutes later.
    """
    while True:
        port = random.choice(_PORTS)  # noqa: S311
        if port_is_free("127.0.0.1", port):
            return port


def port_is_free(host: str, port: int) -> bool:
    """Tell whether a server could listen on this port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True
