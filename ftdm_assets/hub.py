"""Asks the Hugging Face Hub (``HF_ENDPOINT``) through its own client.

Invariants:
* Every request has a time-out, which the client alone would not set. What may pass by itself is
  tried a bounded number of times.
* The token is the client's own (``HF_TOKEN``, else its login); it stands in no message.
"""

import functools
import importlib.util
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from huggingface_hub import HfApi

TRIES = 3
_TIMEOUT_S = 60.0
_PAUSE_S = 0.5
_TOKEN = "HF_TOKEN in the environment, or `hf auth login`"  # noqa: S105

T = TypeVar("T")


class HubError(ValueError):
    """The Hub refuses, or what is asked for is not there; the message says what to do."""


class HubUnreachableError(HubError):
    """The Hub cannot be reached, or fails."""


def asked(where: str, ask: "Callable[[HfApi], T]") -> T:
    """Return what the Hub answers; ``where`` names the repository in messages.

    ``ask`` may be called again after a failure: it has to look at what is there first.

    Raises:
        HubUnreachableError: if the Hub has failed as often as it is tried.
        HubError: one sentence that names the repository and the remedy.
    """
    if importlib.util.find_spec("huggingface_hub") is None:
        raise HubError(f"{where}: the Hub's client is not installed; pip install huggingface_hub")
    from huggingface_hub import HfApi

    _limit_waiting()
    for attempt in range(1, TRIES + 1):
        try:
            return ask(HfApi())
        except HubError:
            raise
        # The client raises its own errors, those of the network, and ValueError.
        except Exception as error:
            if not _passes(error) or attempt == TRIES:
                raise _told(where, error, attempt) from None
        time.sleep(_PAUSE_S * attempt)
    raise AssertionError("unreachable")


@functools.cache
def _limit_waiting() -> None:
    from huggingface_hub import set_client_factory
    from huggingface_hub.utils._http import default_client_factory

    def limited() -> Any:
        client = default_client_factory()
        client.timeout = _TIMEOUT_S
        return client

    set_client_factory(limited)


def _status(error: BaseException) -> int:
    return int(getattr(getattr(error, "response", None), "status_code", 0) or 0)


def _is(error: BaseException, *names: str) -> bool:
    """Say whether an error is of a class of such a name: which HTTP library raises may change."""
    return any(cls.__name__ in names for cls in type(error).__mro__)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and what it came from: the libraries wrap what the network raises."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _momentary(error: BaseException) -> bool:
    return _is(error, "TransportError") or _status(error) >= 500 or _status(error) == 429


def _passes(error: Exception) -> bool:
    # A RuntimeError wraps an upload that the client has tried again itself.
    return not _is(error, "RuntimeError") and any(map(_momentary, _chain(error)))


def _told(where: str, error: Exception, attempts: int) -> HubError:
    times = f", {attempts} times" if attempts > 1 else ""
    for one in _chain(error):
        if _is(one, "OfflineModeIsEnabled"):
            return HubUnreachableError(f"{where}: HF_HUB_OFFLINE is set; unset it to reach the Hub")
        if _is(one, "TransportError"):
            return HubUnreachableError(
                f"{where}: the connection to the Hub failed ({type(one).__name__}){times}; check "
                "the network and HF_ENDPOINT, and run it again"
            )
        if _momentary(one):
            return HubUnreachableError(
                f"{where}: the Hub answers {_status(one)}{times}; run it again later"
            )
        if reason := _refusal(one):
            return HubError(f"{where}: {reason}")
    first = str(error).strip().split("\n", maxsplit=1)[0]
    return HubError(f"{where}: {type(error).__name__}: {first}")


def _refusal(error: BaseException) -> str:
    """Return why the Hub refuses and what helps; nothing if it is something else."""
    if _is(error, "LocalTokenNotFoundError"):
        return f"there is no access token; set {_TOKEN}"
    if _is(error, "RevisionNotFoundError"):
        return "the Hub has no such revision; check it, and that it was pushed there"
    if _is(error, "RepositoryNotFoundError"):
        return (
            "the Hub has no such repository, or this token may not see it; check the name, and "
            f"the token ({_TOKEN})"
        )
    reasons = {
        401: f"the access token is not accepted; set another ({_TOKEN})",
        403: f"this access token may not do that; it needs the right to write ({_TOKEN})",
        409: "the name is taken, by what this token may not see; choose another",
        412: "somebody else has changed the repository meanwhile; run it again",
    }
    return reasons.get(_status(error), "")
