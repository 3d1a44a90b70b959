"""One Postgres for several machines: how it is reached, and the schemas of serving in it.

Invariants:
- every connection has a connect timeout, a statement timeout, keepalives and a bounded number of
  tries; a transaction whose process stands still ends after `IDLE_S`, so that nobody waits for it;
- a transaction over a schema first locks the schema's row in `ftdm_changes`: one runs at a time,
  on whichever machine, and sees all that was committed before it. Triggers count that row up with
  every change of a watched table, and notify;
- a schema is made under an advisory lock, so that processes that start at once make it once;
- a commit that is durable on the server is waited for, even where its default is not to;
- no message holds the password.
"""

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from serving.database import DatabaseError, Refusal, Rows, Schema
from serving.home import DATABASE_VARIABLE

CHANNEL = "ftdm_changes"
# How long a command tries to reach a server that does not answer (a gateway: `serving.mirror`).
PATIENCE_S = 5.0
IDLE_S, STATEMENT_S = 5, 10
_PAUSE_S = 0.2
# Any number that nobody else locks.
_MAKING = 0x6674646D
_REACHED_BY: Mapping[str, Any] = {
    "connect_timeout": 5,
    "keepalives": 1,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": STATEMENT_S * 1000,
    "application_name": "ftdm",
}
# Statements, not start-up options: poolers refuse those.
_SESSION = f"""
SELECT set_config('statement_timeout', '{STATEMENT_S}s', false),
    set_config('idle_in_transaction_session_timeout', '{IDLE_S}s', false),
    set_config('synchronous_commit', CASE current_setting('synchronous_commit')
        WHEN 'off' THEN 'on' ELSE current_setting('synchronous_commit') END, false)
""".encode()
# What trying again does not mend.
_LASTING = ("authentication failed", "does not exist", "no pg_hba.conf entry", "not permitted")
_WORDS = (
    (r"\bINTEGER PRIMARY KEY AUTOINCREMENT\b", "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY"),
    (r"\bINTEGER\b", "BIGINT"),
    # As SQLite compares: byte by byte, whatever the server's language is.
    (r"\bTEXT\b", 'TEXT COLLATE "C"'),
    (r"\bBLOB\b", "BYTEA"),
)
_COMMON = """
CREATE TABLE IF NOT EXISTS ftdm_changes (name TEXT PRIMARY KEY, number INTEGER NOT NULL);
CREATE OR REPLACE FUNCTION ftdm_refuse() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION '%', TG_ARGV[0] USING ERRCODE = 'restrict_violation'; END $$;
CREATE OR REPLACE FUNCTION ftdm_changed() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    EXECUTE format('UPDATE %I.ftdm_changes SET number = number + 1 WHERE name = $1',
        TG_TABLE_SCHEMA) USING TG_ARGV[0];
    PERFORM pg_notify('ftdm_changes', TG_ARGV[0]);
    RETURN NULL; END $$;
"""
_COLUMNS = """
SELECT c.relname, a.attname FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = current_schema() AND c.relname = ANY (%s) AND a.attnum > 0 AND NOT a.attisdropped
"""
_TRIGGERS = """
SELECT c.relname, t.tgname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = current_schema() AND c.relname = ANY (%s)
"""

Connection = psycopg.Connection[tuple[Any, ...]]


@dataclass(frozen=True)
class Server:
    """A Postgres as `FTDM_DATABASE_URL` names it; `address` is that without the password."""

    address: str
    _conninfo: str = field(repr=False)
    _password: str = field(repr=False)

    @classmethod
    def of(cls, url: str) -> "Server":
        """Read an address.

        Raises:
            DatabaseError: It is none.
        """
        try:
            # Its message repeats the address, password and all.
            given = conninfo_to_dict(url)
        except (psycopg.Error, ValueError):
            given = {}
        if not given or not url.startswith(("postgresql://", "postgres://")):
            raise DatabaseError(
                f"{DATABASE_VARIABLE} is no address of a Postgres: write "
                "`postgresql://USER:PASSWORD@HOST:5432/DATABASE`, with %-signs for what is special "
                "in the password."
            )
        conninfo = make_conninfo(**{**_REACHED_BY, **given})
        return cls(_address(given), conninfo, str(given.get("password") or ""))

    def connect(self, patience_s: float | None = None) -> Connection:
        """Return a connection; a server that does not answer is tried for `PATIENCE_S`, or so long.

        Raises:
            DatabaseError: It did not answer.
        """
        end = time.monotonic() + (PATIENCE_S if patience_s is None else patience_s)
        while True:
            try:
                return self._connected()
            except psycopg.Error as error:
                lasting = any(one in str(error) for one in _LASTING)
                if lasting or time.monotonic() + _PAUSE_S > end:
                    raise self.failed(error) from None
            time.sleep(_PAUSE_S)

    def failed(self, error: Exception) -> DatabaseError:
        """Return an error as one sentence, without the password."""
        text = " ".join(str(error).split()) or type(error).__name__
        if self._password:
            text = text.replace(self._password, "…")
        return DatabaseError(
            f"The database {self.address} cannot be asked ({text}): see that it runs, and that "
            f"{DATABASE_VARIABLE} names it, its user and its password."
        )

    def _connected(self) -> Connection:
        # Nothing is prepared: a column that another release adds would make it fail.
        link = psycopg.connect(self._conninfo, autocommit=True, prepare_threshold=None)
        try:
            link.execute(_SESSION)
        except BaseException:
            link.close()
            raise
        return link


class PostgresDatabase:
    """The tables of one schema in a shared Postgres; a lost connection is made again."""

    def __init__(self, url: str, schema: Schema) -> None:
        self._server, self._schema = Server.of(url), schema
        self._busy = False
        self._link = self._connect()

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> Rows:
        """Run one statement; outside of a transaction it is tried again after a lost connection.

        Raises:
            DatabaseError: It failed.
        """
        statement = sql.replace("?", "%s").encode()
        try:
            try:
                return self._link.execute(statement, parameters or None)
            except psycopg.Error:
                if self._busy or not self._link.closed:
                    raise
            self._link = self._connect()
            return self._link.execute(statement, parameters or None)
        except psycopg.Error as error:
            raise self._server.failed(error) from error

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Do several things or none, while nobody else changes anything of this schema.

        Raises:
            DatabaseError: It failed, or nobody knows whether it was done.
        """
        self.execute("BEGIN")
        self._busy = True
        try:
            lock = "SELECT number FROM ftdm_changes WHERE name = ? FOR UPDATE"
            self.execute(lock, (self._schema.name,))
            yield
            self._commit()
        except BaseException:
            with suppress(psycopg.Error):
                self._link.execute("ROLLBACK")
            raise
        finally:
            self._busy = False

    def _commit(self) -> None:
        try:
            self._link.execute("COMMIT")
        except psycopg.Error as error:
            told = str(self._server.failed(error)).rstrip(".")
            raise DatabaseError(
                f"{told}. Nobody has heard whether the change was made: look before you repeat it."
            ) from error

    def state(self) -> None:
        """Say nothing: only the server knows, and it is asked each time."""
        return

    def close(self) -> None:
        """Close the connection."""
        self._link.close()

    def _connect(self) -> Connection:
        link = self._server.connect()
        try:
            make(link, self._schema)
        except psycopg.Error as error:
            link.close()
            raise self._server.failed(error) from error
        return link


def make(link: Connection, schema: Schema) -> None:
    """Make what is missing of a schema, once, whoever else does the same at this moment."""
    if _is_whole(link, schema):
        return
    with link.transaction():
        link.execute("SELECT pg_advisory_xact_lock(%s)", (_MAKING,))
        link.execute(_translated(_COMMON).encode())
        known = _columns(link, schema)
        if (schema.table, None) not in known:
            link.execute(_translated(schema.tables).encode())
            for one in map(_watch(schema), schema.watched):
                link.execute(one.encode())
        link.execute(
            "INSERT INTO ftdm_changes VALUES (%s, 0) ON CONFLICT DO NOTHING", (schema.name,)
        )
        for column in schema.added:
            where = f"ALTER TABLE {column.table} ADD COLUMN IF NOT EXISTS {column.name} "
            link.execute((where + _translated(column.definition)).encode())
        for refusal in _missing(link, schema):
            link.execute(_refusal(refusal).encode())


def _is_whole(link: Connection, schema: Schema) -> bool:
    wanted = {(schema.table, None), *((one.table, one.name) for one in schema.added)}
    return wanted <= _columns(link, schema) and not _missing(link, schema)


def _columns(link: Connection, schema: Schema) -> set[tuple[str, str | None]]:
    """Return tables (with None) and columns that are there."""
    tables = [schema.table, *(one.table for one in schema.added)]
    rows = link.execute(_COLUMNS, (tables,)).fetchall()
    return {(table, None) for table, _ in rows} | {(table, column) for table, column in rows}


def _missing(link: Connection, schema: Schema) -> list[Refusal]:
    """Return what a database of an older release does not refuse yet."""
    rows = link.execute(_TRIGGERS, ([one.table for one in schema.refusals],)).fetchall()
    return [one for one in schema.refusals if (one.table, one.name) not in rows]


def _translated(statements: str) -> str:
    for ours, theirs in _WORDS:
        statements = re.sub(ours, theirs, statements)
    return statements


def _refusal(one: Refusal) -> str:
    when = f"WHEN ({one.when}) " if one.when else ""
    refuse = f"EXECUTE FUNCTION ftdm_refuse('{one.message}')"
    made = (
        f"CREATE OR REPLACE TRIGGER {one.name} BEFORE {one.event} ON {one.table} "
        f"FOR EACH ROW {when}{refuse};"
    )
    if one.event == "DELETE":
        made += (
            f"CREATE OR REPLACE TRIGGER {one.table}_are_never_emptied BEFORE TRUNCATE "
            f"ON {one.table} FOR EACH STATEMENT {refuse};"
        )
    return made


def _watch(schema: Schema) -> Any:
    return lambda table: (
        f"CREATE OR REPLACE TRIGGER {table}_are_watched AFTER INSERT OR UPDATE OR DELETE OR "
        f"TRUNCATE ON {table} FOR EACH STATEMENT EXECUTE FUNCTION ftdm_changed('{schema.name}');"
    )


def _address(given: Mapping[str, Any]) -> str:
    user = f"{given['user']}@" if given.get("user") else ""
    port = f":{given['port']}" if given.get("port") else ""
    host = given.get("host") or "localhost"
    return f"postgresql://{user}{host}{port}/{given.get('dbname') or given.get('user') or ''}"
