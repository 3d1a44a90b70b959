"""The key for this home's own use: smoke test, canary, and whoever works on this machine.

Invariants:
- its text lies in one file that only its owner can read, and nowhere else;
- it may ask for every model, without a limit, and may not move production;
- whoever reads it gets a key that counts: a missing, revoked or soon expired one is made anew. One
  that is about to expire is left to do so: a call that has just read it still passes.
"""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from serving.api_keys import ApiKey, Grant, KeyStore
from serving.home import Home
from serving.private_file import read_private, write_private

NAME = "local"
_DAYS = 365
_RENEWED = timedelta(days=30)


def local_key(home: Path) -> str:
    """Return the text of the local key, which is made on first use.

    Raises:
        HomeError: Another process holds the lock for a minute.
        PermissionError: The home is another user's.
    """
    place = Home.at(home)
    with place.lock("local-key"), KeyStore(home) as store:
        text = read_private(place.local_key)
        known = store.find(text) if text else None
        if known and _counts(known):
            return text
        made = store.new(Grant(NAME, days=_DAYS), by="this home")
        write_private(place.local_key, f"{made.text}\n")
        return made.text


def _counts(key: ApiKey) -> bool:
    return key.state(datetime.now(UTC) + _RENEWED) == "valid"
