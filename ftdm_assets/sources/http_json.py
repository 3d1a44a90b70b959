"""JSON over plain HTTP, as the servers of labelling platforms speak it.

Invariants:
* Every call has a deadline for the whole answer; reading is repeated a bounded number of times,
  writing never (what was written twice would be there twice).
* An answer is whole JSON or an error; a cut or truncated one is never used.
* Headers, where the token is, stand in no message.
"""

import json
import time
from collections.abc import Callable, Mapping
from typing import Any

import httpx

from ftdm_assets.label_settings import ServerSettings
from ftdm_assets.sources.tables import SourceError

_POLL_TIMEOUT_S = 10.0
_LONGEST_PAUSE_S = 8.0


class ServerError(SourceError):
    """The server cannot be reached, or does not answer as it should."""


class PassingError(Exception):
    """A failure that may have gone by the next time."""


class JsonServer:
    """A session with one server; ``section`` is the part of ``defs.yaml`` that names it."""

    def __init__(self, settings: ServerSettings, section: str) -> None:
        self.url = settings.url.rstrip("/")
        self._settings = settings
        self._section = section
        self._http = httpx.Client(base_url=self.url)

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def limit(self, *, poll: bool) -> float:
        """Return the seconds for one answer; ``poll`` is for what a sensor waits for."""
        limit = self._settings.timeout_s
        return min(limit, _POLL_TIMEOUT_S) if poll else limit

    def repeated(self, path: str, ask: Callable[[], Any]) -> Any:
        """Ask until there is an answer, as often as the settings allow.

        Raises:
            ServerError: when it has failed as often; any other error of ``ask`` at once.
        """
        attempts = self._settings.retries + 1
        reason = ""
        for attempt in range(attempts):
            try:
                return ask()
            except PassingError as error:
                reason = str(error)
            if attempt + 1 < attempts:
                time.sleep(min(0.25 * 2**attempt, _LONGEST_PAUSE_S))
        raise ServerError(
            f"{self.url}{path}: {reason}, {attempts} times; see whether the server is well, or "
            f"raise timeout_s or retries in {self._section}"
        )

    def send(
        self,
        method: str,
        path: str,
        limit: float,
        *,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[int, bytes]:
        """Send one request; return the status and the whole answer.

        Raises:
            PassingError: if there was none within ``limit`` seconds, or the connection failed.
        """
        deadline = time.monotonic() + limit
        parts: list[bytes] = []
        try:
            with self._http.stream(
                method, path, params=query, json=body, headers=headers, timeout=limit
            ) as response:
                for part in response.iter_bytes():
                    parts.append(part)
                    # httpx limits the wait for each part; a drip would never end.
                    if time.monotonic() > deadline:
                        raise PassingError(f"no whole answer within {limit:g} s")
                return response.status_code, b"".join(parts)
        except httpx.TimeoutException as error:
            raise PassingError(f"no answer within {limit:g} s") from error
        except httpx.TransportError as error:
            raise PassingError(f"the connection failed ({type(error).__name__})") from error

    def judged(self, path: str, status: int, content: bytes) -> Any:
        """Return the JSON of an answer.

        Raises:
            PassingError: if the server failed, or the JSON is not whole.
            SourceError: if the server refused.
        """
        if status >= 500 or status == httpx.codes.TOO_MANY_REQUESTS:
            raise PassingError(f"the server answers {status}")
        if status >= 400:
            raise SourceError(f"{self.url}{path}: the server answers {status}{_detail(content)}")
        return parsed(content)


def parsed(content: bytes) -> Any:
    """Return what a JSON answer holds.

    Raises:
        PassingError: if it is not whole.
    """
    try:
        return json.loads(content)
    except ValueError as error:
        raise PassingError("the answer is no whole JSON document") from error


def _detail(content: bytes) -> str:
    try:
        found = json.loads(content)
    except ValueError:
        return ""
    detail = found.get("detail") if isinstance(found, dict) else None
    return f" ({str(detail)[:200]})" if detail else ""
