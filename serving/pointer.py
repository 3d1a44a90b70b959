"""The production pointer, the table of versions and the history of moves.

What the tables themselves refuse stands with them: `serving.pointer_tables`.

Invariants:
- every transition is one transaction, and of those one runs at a time: killed at any point, the
  database holds the state before or the state after, never between;
- a version is bound to one digest for ever; recording it with another is refused;
- the last move of a model always ends at its current version;
- only a version that is `ready` and that the caller's `admit` lets pass can become current; a
  rollback goes to a version that is warm, so it is one write and takes milliseconds. Nothing heavy
  is imported here. `serving.moves` is how the pointer is moved in production;
- who reads with `watching` sees a move within a second (`serving.mirror`), others at once.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from serving import names
from serving.database import Remembered, open_database
from serving.pointer_tables import SCHEMA, version_from, version_row
from serving.versions import Kind, Move, Pointer, PointerError, State, UnknownModelError, Version


class PointerStore:
    """A connection to the database of one home; use it as a context manager or close it."""

    def __init__(self, home: Path, *, watching: bool = False) -> None:
        self._db = open_database(home, SCHEMA, watching=watching)
        self._resolved: Remembered[Version] = Remembered(self._db)

    def __enter__(self) -> "PointerStore":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._db.close()

    def record_version(self, version: Version) -> Version:
        """Write a version, or its new address and state; returns it as it now stands.

        Raises:
            PointerError: It is already bound to another digest.
        """
        names.check_digest(version.digest)
        if names.full_version(version.model, version.version) != version.version:
            raise PointerError(f"Record {version.version!r} under its full name.")
        with self._db.transaction():
            known = self._find(version.model, version.version)
            if known and known.digest != version.digest:
                raise PointerError(
                    f"{version.version} is bound to digest {known.digest[:12]}, not to "
                    f"{version.digest[:12]}: a version never changes; count up a new one."
                )
            now = _now()
            written = replace(
                version, recorded_at=known.recorded_at if known else now, changed_at=now
            )
            self._write(written)
        return written

    def set_state(self, model: str, version: str, state: State) -> None:
        """Change the state of a recorded version.

        Raises:
            UnknownModelError: There is no such version.
        """
        with self._db.transaction():
            known = self.version(model, version)
            self._write(replace(known, state=state, changed_at=_now()))

    def version(self, model: str, version: str) -> Version:
        """Return one version, named in its full or short form.

        Raises:
            UnknownModelError: It was never recorded.
        """
        full = names.full_version(model, version)
        found = self._find(model, full)
        if found is None:
            raise UnknownModelError(f"{full} is not known here: start that version first.")
        return found

    def versions(self) -> list[Version]:
        """Return every recorded version, by model and version."""
        rows = self._db.execute("SELECT * FROM versions ORDER BY model, version")
        return [version_from(row) for row in rows.fetchall()]

    def pointer(self, model: str) -> Pointer | None:
        """Return a model's pointer, or None before its first promotion."""
        row = self._db.execute(
            "SELECT model, current, previous, moved_at FROM pointers WHERE model = ?", (model,)
        ).fetchone()
        return Pointer(*row) if row else None

    def pointers(self) -> list[Pointer]:
        """Return every pointer, by model."""
        rows = self._db.execute(
            "SELECT model, current, previous, moved_at FROM pointers ORDER BY model"
        )
        return [Pointer(*row) for row in rows.fetchall()]

    def moves(self, model: str) -> list[Move]:
        """Return a model's history, oldest first."""
        rows = self._db.execute("SELECT * FROM moves WHERE model = ? ORDER BY number", (model,))
        return [Move(*row) for row in rows.fetchall()]

    def resolve(self, asked: str) -> Version:
        """Return the version that a caller's `model` field means at this moment.

        The database says each time whether anybody has written since; only then it is read anew.

        Raises:
            UnknownModelError: Nothing goes by that name.
        """
        known = self._resolved.known()
        if (found := known.get(asked)) is None:
            found = known[asked] = self._resolve(asked)
        return found

    def _resolve(self, asked: str) -> Version:
        try:
            want = names.parse_asked(asked)
        except names.InvalidNameError as error:
            raise UnknownModelError(str(error)) from error
        if want.version not in (None, names.PREVIOUS):
            return self.version(want.model, want.version or "")
        pointer = self.pointer(want.model)
        if pointer is None:
            raise UnknownModelError(f"No model {want.model!r} is in production here.")
        target = pointer.previous if want.version else pointer.current
        if target is None:
            raise UnknownModelError(f"{want.model} has no previous version yet.")
        return self.version(want.model, target)

    def promote(
        self,
        model: str,
        version: str,
        *,
        by: str,
        reason: str,
        admit: Callable[[Version], None],
        over: str | None = None,
    ) -> Move:
        """Make a ready version current; the one it replaces becomes previous.

        Promoting what is current already changes nothing and returns the move that made it so.

        Args:
            model: The domain model.
            version: A version in full or short form.
            by: Who does it.
            reason: Why.
            admit: Called with the version before anything moves; it raises to refuse.
            over: Digest of what production served when this was decided, blank for nothing; None
                asks for no comparison.

        Raises:
            PointerError: The version is unknown or not ready, or production has moved since.
        """
        target = self.version(model, version)
        # Said before anything else: whoever came first may have stopped this version already.
        self._judged_over(model, target, over)
        # Outside of the transaction: to hash gigabytes of weights would keep every writer waiting.
        admit(self._ready(model, version))
        with self._db.transaction():
            before = self._judged_over(model, target, over)
            self._ready(model, version)
            if before == target.version:
                return self.moves(model)[-1]
            return self._move(model, "promote", before, target.version, by, reason)

    def _judged_over(self, model: str, target: Version, over: str | None) -> str | None:
        """Return what is current; refuse if it is not what was decided over."""
        pointer = self.pointer(model)
        before = pointer.current if pointer else None
        serves = self.version(model, before).digest if before else ""
        if before != target.version and over not in (None, serves):
            raise PointerError(_outrun(target, before or "nothing", over or "", serves))
        return before

    def rollback(
        self,
        model: str,
        to: str | None = None,
        *,
        by: str,
        reason: str,
        admit: Callable[[Version], None],
    ) -> Move:
        """Go back to the version kept warm, or to another ready one; they change places.

        Args:
            model: The domain model.
            to: A version in full or short form; None for the previous one.
            by: Who does it.
            reason: Why.
            admit: Called with the target before anything moves; it raises to refuse.

        Raises:
            PointerError: Nothing to go back to, or it is not ready.
        """
        pointer = self.pointer(model)
        if pointer is None:
            raise UnknownModelError(f"No model {model!r} is in production here.")
        if to is None and pointer.previous is None:
            raise PointerError(f"{model} has no previous version: promote a second one first.")
        target = self._ready(model, to or pointer.previous or "")
        if target.version == pointer.current:
            raise PointerError(f"{target.version} is in production already.")
        admit(target)
        with self._db.transaction():
            # Whoever moved the pointer meanwhile decided on newer facts than this caller had.
            if self.pointer(model) != pointer:
                raise PointerError(f"{model}'s pointer has just moved: look at it and try again.")
            target = self._ready(model, target.version)
            return self._move(model, "rollback", pointer.current, target.version, by, reason)

    def _ready(self, model: str, version: str) -> Version:
        target = self.version(model, version)
        if target.state != "ready":
            raise PointerError(
                f"{target.version} is {target.state}, not ready: start it and wait until it "
                "answers, then move the pointer."
            )
        return target

    def _move(
        self, model: str, kind: Kind, before: str | None, after: str, by: str, reason: str
    ) -> Move:
        if not by.strip() or not reason.strip():
            raise PointerError(f"A {kind} needs a name (by) and a reason: the history keeps both.")
        now = _now()
        (number,) = self._db.execute(
            "INSERT INTO moves (model, kind, from_version, to_version, by, reason, at) "
            "VALUES (?, ?, ?, ?, ?, ?, ?) RETURNING number",
            (model, kind, before, after, by, reason, now),
        ).fetchone()
        self._db.execute(
            "INSERT INTO pointers (model, current, previous, moved_at) VALUES (?, ?, ?, ?) "
            "ON CONFLICT (model) DO UPDATE SET current = excluded.current, "
            "previous = excluded.previous, moved_at = excluded.moved_at",
            (model, after, before, now),
        )
        return Move(number, model, kind, before, after, by, reason, now)

    def _find(self, model: str, version: str) -> Version | None:
        row = self._db.execute(
            "SELECT * FROM versions WHERE model = ? AND version = ?",
            (model, version),
        ).fetchone()
        return version_from(row) if row else None

    def _write(self, version: Version) -> None:
        # An upsert, not a REPLACE: a REPLACE deletes first, and the pointer refers to the row.
        self._db.execute(
            "INSERT INTO versions VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?) "
            "ON CONFLICT (model, version) DO UPDATE SET folder = excluded.folder, "
            "max_model_len = excluded.max_model_len, dtype = excluded.dtype, "
            "replicas = excluded.replicas, "
            "state = excluded.state, changed_at = excluded.changed_at, cache = excluded.cache, "
            "form = excluded.form",
            version_row(version),
        )


def _outrun(target: Version, before: str, over: str, serves: str) -> str:
    return (
        f"{target.version} ({target.digest[:12]}) is refused: production moved to {before} "
        f"({serves[:12] or 'no digest'}) after the gate had decided over {over[:12] or 'nothing'}; "
        "eval_scores.not_worse_than_production was judged against another, run it again"
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
