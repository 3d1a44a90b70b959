"""The key for this home's own use: smoke test, canary, and whoever works on this machine.

Invariants:
- its text lies in one file that only its owner can read, and nowhere else;
- it may ask for every model, without a limit, and may not move production;
- whoever reads it gets a key that counts: a missing, revoked or soon expired one is made anew. One
  that is about to expire is left to do so: a call that has just read it still passes.
"""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

from serving.api_keys import ApiKey, Grant, KeyStore
from serving.home import Home

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
        text = _read(place.local_key)
        known = store.find(text) if text else None
        if known and _counts(known):
            return text
        made = store.new(Grant(NAME, days=_DAYS), by="this home")
        _write(place.local_key, made.text)
        return made.text


def _counts(key: ApiKey) -> bool:
    return key.state(datetime.now(UTC) + _RENEWED) == "valid"


def _read(path: Path) -> str:
    return path.read_text(encoding="ascii", errors="replace").strip() if path.is_file() else ""


def _write(path: Path, text: str) -> None:
    partial = path.with_name(f"{path.name}.partial")
    partial.unlink(missing_ok=True)
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(f"{text}\n")
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
