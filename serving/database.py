"""How the databases of a home are opened: SQLite with WAL and synchronous FULL.

Invariant: what was committed is on the disk; a process that is killed leaves the state before or
the state after a transaction, never between.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def connect(path: Path, table: str, schema: str) -> sqlite3.Connection:
    """Open a database; where `table` is missing, run `schema` first, in one transaction."""
    path.parent.mkdir(parents=True, exist_ok=True)
    db = sqlite3.connect(path, timeout=10.0, isolation_level=None)
    try:
        db.execute("PRAGMA busy_timeout = 10000")
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA foreign_keys = ON")
        if not db.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (table,)).fetchone():
            db.executescript(f"BEGIN IMMEDIATE; {schema} COMMIT;")
    except BaseException:
        db.close()
        raise
    return db


@contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    """Do several things or none."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        # After an error such as a full disk SQLite may have rolled back by itself.
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise
