"""API keys: who may ask the gateway for what, until when, and how often.

A key is `ftdm_ID_SECRET`: the id names it in lists and logs, the secret is 256 random bits.

Invariants:
- the secret is shown once, when it is made; kept is the SHA-256 of the whole key. So much chance
  cannot be guessed from its digest, which a slow password hash would only make dear to check;
- digests are compared in constant time; every check asks the database whether anybody has written,
  so that a revocation counts from the next request on (in a shared one on all gateways within a
  second: `serving.mirror`);
- no key is ever deleted, made valid again or allowed more, and nothing of it is changed but what
  ends it (triggers refuse it): a revoked or expired key still says who had it and who made it. A
  key that came by rotation names the one that it replaces.
"""

import hashlib
import hmac
import json
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from serving import names
from serving.database import Refusal, Remembered, Schema, open_database

PREFIX = "ftdm"
ANY_MODEL = "*"
KEY_VARIABLE = "FTDM_API_KEY"
# Every id has so many hexadecimal digits; 48 bits name more keys than anybody makes.
_ID_BYTES, _SECRET_BYTES = 6, 32
_TABLES = """
CREATE TABLE IF NOT EXISTS api_keys (
    key_id TEXT PRIMARY KEY, digest TEXT NOT NULL, name TEXT NOT NULL, models TEXT NOT NULL,
    admin INTEGER NOT NULL, per_minute INTEGER, created_at TEXT NOT NULL, created_by TEXT NOT NULL,
    expires_at TEXT, revoked_at TEXT, revoked_by TEXT, replaces TEXT REFERENCES api_keys (key_id));
"""
# A comparison with NULL refuses nothing. SQLite lets a text be NULL though it is the primary key.
_CHANGED = (
    "OLD.revoked_at IS NOT NULL OR coalesce(NEW.key_id, '') <> OLD.key_id "
    "OR NEW.digest <> OLD.digest OR NEW.name <> OLD.name "
    "OR NEW.models <> OLD.models OR NEW.admin <> OLD.admin "
    "OR coalesce(NEW.per_minute, -1) <> coalesce(OLD.per_minute, -1) "
    "OR NEW.created_at <> OLD.created_at OR NEW.created_by <> OLD.created_by "
    "OR coalesce(NEW.replaces, '') <> coalesce(OLD.replaces, '') "
    "OR (NEW.revoked_at IS NULL) <> (NEW.revoked_by IS NULL) "
    "OR OLD.expires_at < coalesce(NEW.expires_at, '9999')"
)
_SCHEMA = Schema(
    name="keys",
    table="api_keys",
    tables=_TABLES,
    refusals=(
        Refusal("api_keys_are_never_deleted", "api_keys", "DELETE", "keys are never deleted"),
        Refusal("api_keys_are_only_ended", "api_keys", "UPDATE", "a key can only end", _CHANGED),
    ),
    watched=("api_keys",),
)
_COLUMNS = (
    "key_id, name, models, admin, per_minute, created_at, created_by, expires_at, revoked_at, "
    "revoked_by, replaces"
)

State = Literal["valid", "expired", "revoked"]


class ApiKeyError(ValueError):
    """A key that cannot be made, named or changed; the message says what to do and shows none."""


@dataclass(frozen=True)
class Grant:
    """What a key allows.

    Attributes:
        name: Who has it.
        models: Domain models that it may ask for; `*` is every one.
        admin: Whether it may move production.
        per_minute: Requests a minute; None: no limit.
        days: How long it is valid; None: until it is revoked.
    """

    name: str
    models: tuple[str, ...] = (ANY_MODEL,)
    admin: bool = False
    per_minute: int | None = None
    days: int | None = None


@dataclass(frozen=True)
class ApiKey:
    """One key as it is kept, without its secret; times are ISO 8601 in UTC."""

    key_id: str
    name: str
    models: tuple[str, ...]
    admin: bool
    per_minute: int | None
    created_at: str
    created_by: str
    expires_at: str | None
    revoked_at: str | None
    revoked_by: str | None
    replaces: str | None

    def state(self, now: datetime) -> State:
        """Say whether it counts at this moment."""
        if self.revoked_at is not None:
            return "revoked"
        expired = self.expires_at is not None and datetime.fromisoformat(self.expires_at) <= now
        return "expired" if expired else "valid"

    def allows(self, asked: str) -> bool:
        """Say whether it may ask for this `model`, of whichever version."""
        return ANY_MODEL in self.models or asked.partition("@")[0] in self.models


@dataclass(frozen=True)
class NewKey:
    """A key that was just made; the text is the only place where its secret ever stands."""

    text: str
    key: ApiKey

    def __repr__(self) -> str:
        return f"NewKey({self.key.key_id})"


class KeyStore:
    """A connection to the keys of one home; use it as a context manager or close it."""

    def __init__(self, home: Path, *, watching: bool = False) -> None:
        self._db = open_database(home, _SCHEMA, watching=watching)
        self._found: Remembered[ApiKey] = Remembered(self._db)

    def __enter__(self) -> "KeyStore":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._db.close()

    def new(self, grant: Grant, *, by: str) -> NewKey:
        """Make a key.

        Raises:
            ApiKeyError: The grant is empty or impossible.
        """
        _check(grant)
        with self._db.transaction():
            return self._insert(grant, by, None)

    def rotate(self, key_id: str, *, by: str, overlap: timedelta = timedelta(0)) -> NewKey:
        """Make another key that allows the same for as long; the old one ends after the overlap.

        Raises:
            ApiKeyError: There is no such key, or it does not count any more.
        """
        with self._db.transaction():
            old = self._named(key_id)
            if old.state(_now()) != "valid":
                raise ApiKeyError(f"Key {old.key_id} is {old.state(_now())}: make a new one.")
            made = self._insert(_grant_of(old), by, old.key_id)
            if overlap > timedelta(0):
                self._expire(old, _now() + overlap)
            else:
                self._revoke(old, by)
            return made

    def revoke(self, key_id: str, *, by: str) -> ApiKey:
        """Let a key count no more; one that is revoked already stays as it is.

        Raises:
            ApiKeyError: There is no such key.
        """
        with self._db.transaction():
            key = self._named(key_id)
            if key.revoked_at is None:
                self._revoke(key, by)
            return self._named(key.key_id)

    def keys(self) -> list[ApiKey]:
        """Return every key that was ever made, oldest first."""
        rows = self._db.execute(f"SELECT {_COLUMNS} FROM api_keys ORDER BY created_at, key_id")  # noqa: S608
        return [_key(row) for row in rows.fetchall()]

    def find(self, text: str) -> ApiKey | None:
        """Return the key with this text, valid or not; None if there is none.

        The database says each time whether anybody has written since; only then it is read anew.
        """
        known, digest = self._found.known(), _digest(text)
        found = known.get(digest) or self._find(text, digest)
        # No more than there are keys: what is not known is asked for each time.
        if found is not None:
            known[digest] = found
        return found

    def _find(self, text: str, digest: str) -> ApiKey | None:
        key_id = key_id_of(text) or ""
        row = self._db.execute(
            f"SELECT {_COLUMNS}, digest FROM api_keys WHERE key_id = ?",  # noqa: S608
            (key_id,),
        ).fetchone()
        # An unknown id is compared as well, so that its answer takes no less time.
        right = hmac.compare_digest(digest, row[-1] if row else "0" * 64)
        return _key(row[:-1]) if row and right else None

    def _insert(self, grant: Grant, by: str, replaces: str | None) -> NewKey:
        key_id = secrets.token_hex(_ID_BYTES)
        text = f"{PREFIX}_{key_id}_{secrets.token_hex(_SECRET_BYTES)}"
        now = _now()
        expires = None if grant.days is None else _text(now + timedelta(days=grant.days))
        name, models = grant.name.strip(), grant.models
        key = ApiKey(
            key_id, name, models, grant.admin, grant.per_minute, _text(now), by, expires,
            None, None, replaces,
        )  # fmt: skip
        self._db.execute(
            f"INSERT INTO api_keys (digest, {_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?,?,?)",  # noqa: S608
            (
                *(_digest(text), key_id, key.name, json.dumps(key.models), int(key.admin)),
                *(key.per_minute, key.created_at, by, expires, None, None, replaces),
            ),
        )
        return NewKey(text, key)

    def _named(self, key_id: str) -> ApiKey:
        for key in self.keys():
            if key.key_id == key_id.strip():
                return key
        raise ApiKeyError(f"{key_id!r} names no key here: `ftdm keys list` shows them.")

    def _revoke(self, key: ApiKey, by: str) -> None:
        self._db.execute(
            "UPDATE api_keys SET revoked_at = ?, revoked_by = ? WHERE key_id = ?",
            (_text(_now()), by, key.key_id),
        )

    def _expire(self, key: ApiKey, at: datetime) -> None:
        end = _text(at) if key.expires_at is None else min(_text(at), key.expires_at)
        self._db.execute("UPDATE api_keys SET expires_at = ? WHERE key_id = ?", (end, key.key_id))


def key_id_of(text: str) -> str | None:
    """Return the id inside a key's text, or None if it does not look like one."""
    parts = text.split("_")
    return parts[1] if len(parts) == 3 and parts[0] == PREFIX else None


def _check(grant: Grant) -> None:
    if not grant.name.strip():
        raise ApiKeyError("A key needs the name of who has it.")
    if not grant.models:
        raise ApiKeyError("A key needs a model that it may ask for, or `*`.")
    for model in grant.models:
        if model != ANY_MODEL:
            names.check_model(model)
    for what, number in (("requests a minute", grant.per_minute), ("days", grant.days)):
        if number is not None and number < 1:
            raise ApiKeyError(f"{number} {what}: give at least 1.")


def _grant_of(key: ApiKey) -> Grant:
    days = None
    if key.expires_at is not None:
        made, ends = (datetime.fromisoformat(one) for one in (key.created_at, key.expires_at))
        days = max((ends - made).days, 1)
    return Grant(key.name, key.models, key.admin, key.per_minute, days)


def _key(row: tuple[Any, ...]) -> ApiKey:
    fields: list[Any] = [*row[:2], tuple(json.loads(row[2])), bool(row[3]), *row[4:]]
    return ApiKey(*fields)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


def _now() -> datetime:
    return datetime.now(UTC)


def _text(time: datetime) -> str:
    return time.isoformat(timespec="milliseconds")
