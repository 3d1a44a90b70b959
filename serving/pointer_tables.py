"""The tables of the pointer: versions, pointers and moves, and how a version stands in its row.

Invariants:
- `moves` only grows (triggers refuse UPDATE and DELETE);
- a pointer's `current` and `previous` differ, and both name recorded versions;
- a column that came later has a default, so that rows of before can still be read.
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

from serving.database import Column, Refusal, Schema
from serving.versions import CacheTerms, PointerError, Replica, State, Version

_TABLES = """
CREATE TABLE IF NOT EXISTS versions (
    model TEXT NOT NULL, version TEXT NOT NULL, digest TEXT NOT NULL, folder TEXT NOT NULL,
    served_name TEXT NOT NULL, max_model_len INTEGER NOT NULL, dtype TEXT NOT NULL,
    router_url TEXT NOT NULL, replicas TEXT NOT NULL, state TEXT NOT NULL,
    recorded_at TEXT NOT NULL, changed_at TEXT NOT NULL, cache TEXT NOT NULL DEFAULT '{}',
    form TEXT NOT NULL DEFAULT '{}',
    PRIMARY KEY (model, version));
CREATE TABLE IF NOT EXISTS pointers (
    model TEXT PRIMARY KEY, current TEXT NOT NULL, previous TEXT, moved_at TEXT NOT NULL,
    CHECK (previous IS NULL OR previous <> current),
    FOREIGN KEY (model, current) REFERENCES versions (model, version),
    FOREIGN KEY (model, previous) REFERENCES versions (model, version));
CREATE TABLE IF NOT EXISTS moves (
    number INTEGER PRIMARY KEY AUTOINCREMENT, model TEXT NOT NULL, kind TEXT NOT NULL,
    from_version TEXT, to_version TEXT NOT NULL, by TEXT NOT NULL, reason TEXT NOT NULL,
    at TEXT NOT NULL);
"""
_GROWS = "moves are append-only"
SCHEMA = Schema(
    name="pointer",
    table="moves",
    tables=_TABLES,
    refusals=(
        Refusal("moves_are_never_changed", "moves", "UPDATE", _GROWS),
        Refusal("moves_are_never_deleted", "moves", "DELETE", _GROWS),
    ),
    added=(
        Column("versions", "cache", "TEXT NOT NULL DEFAULT '{}'"),
        Column("versions", "form", "TEXT NOT NULL DEFAULT '{}'"),
    ),
    watched=("versions", "pointers"),
)


def version_row(version: Version) -> tuple[str | int, ...]:
    """Return the columns of the table `versions`, in its order.

    Raises:
        PointerError: The state is none of `State`.
    """
    if version.state not in get_args(State):
        raise PointerError(f"{version.state!r} is no state of a version.")
    replicas = [asdict(one) for one in version.replicas]
    return (
        *(version.model, version.version, version.digest, str(version.folder)),
        # Of before the gateway sent requests to the replicas itself: a router's address.
        *(version.served_name, version.max_model_len, version.dtype, ""),
        *(json.dumps(replicas), version.state, version.recorded_at, version.changed_at),
        json.dumps(asdict(version.cache)),
        # Unsorted: an object's keys are answered in the order of its schema.
        json.dumps(version.form, ensure_ascii=False),
    )


def version_from(row: tuple[Any, ...]) -> Version:
    """Return the version that a row of the table `versions` describes."""
    replicas = tuple(
        Replica(
            name=one["name"],
            url=one["url"],
            port=one["port"],
            cores=None if one["cores"] is None else tuple(one["cores"]),
            sleeps=one.get("sleeps", False),
        )
        for one in json.loads(row[8])
    )
    cache = CacheTerms(**json.loads(row[12]))
    form = json.loads(row[13])
    fields: list[Any] = [*row[:3], Path(row[3]), *row[4:7], replicas, *row[9:12], cache, form]
    return Version(*fields)
