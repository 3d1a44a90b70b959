"""Who moves production: a person by the system's user, or by an API key where several share one."""

import os
from datetime import UTC, datetime
from pathlib import Path

from serving.api_keys import KEY_VARIABLE, ApiKeyError, KeyStore


def who_moves(home: Path, otherwise: str) -> str:
    """Return who moves production, for its history.

    Several people may share one user of the system; a key in `FTDM_API_KEY` says which of them it
    is, and must then be one that may move production. Who may write to the home needs none.

    Args:
        home: The home whose production it is.
        otherwise: Who it is as far as the system knows.

    Raises:
        ApiKeyError: The key does not count here, or is not an admin's.
    """
    text = os.environ.get(KEY_VARIABLE, "").strip()
    if not text:
        return otherwise
    with KeyStore(home) as store:
        key = store.find(text)
    if key is None or key.state(datetime.now(UTC)) != "valid":
        raise ApiKeyError(f"The key in {KEY_VARIABLE} does not count here: `ftdm keys list`.")
    if not key.admin:
        raise ApiKeyError(
            f"Key {key.key_id} of {key.name} may not move production: that takes a key that was "
            "made with `ftdm keys new NAME --admin`."
        )
    return f"{key.name} (API key {key.key_id}), {otherwise}"
