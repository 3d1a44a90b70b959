"""A log that only grows: each entry holds the digest of the one before it.

Invariants:
* An entry is one line of canonical JSON; its digest covers its number, the digest before it and
  its content. No line can be changed, dropped, swapped or put in without being found.
* How many entries there are, and the digest of the last, stands in a head file kept apart: entries
  cut off at the end are found as well. The line reaches the disk first, then the head.
* Processes append one after another, under a lock that dies with its process.
* A line that a crash has torn is cut off and kept, with its digest, in an entry that says so; it
  was never counted. Nothing else is ever mended: a log that does not fit its head takes no entry.

What it cannot show by itself: who may write to both files can write both anew from any entry on.
Heads that were kept elsewhere (in manifests, on paper) show that; ``check`` compares with them.
"""

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ftdm_assets.provenance.chain_links import (
    GENESIS,
    Head,
    following,
    holds,
    link,
    links,
    mended,
    mending,
    told,
)
from ftdm_assets.provenance.digests import canonical_json
from ftdm_assets.provenance.files import write_bytes

_LOCK_SECONDS = 30.0
_LOCK_POLL = 0.005


class ChainError(ValueError):
    """The log cannot take an entry, or cannot be read; the message says why and what to do."""


@dataclass(frozen=True)
class ChainReport:
    """What a check found.

    Attributes:
        head: the last entry that follows from the first without a break.
        problems: what is wrong and where; none means that the log is whole.
        notes: what a person should know though it is no fault (a line torn by a crash).
        mended: numbers of the entries that say that a torn line was cut off.
    """

    head: Head
    problems: tuple[str, ...]
    notes: tuple[str, ...] = ()
    mended: tuple[int, ...] = ()


@dataclass(frozen=True)
class _Mark:
    """The head file: the head, and the size of the log in bytes at that entry."""

    head: Head = field(default_factory=Head)
    size: int = 0


class HashChain:
    """The log at ``path`` (JSON lines), its head at ``NAME.head.json``, its lock at ``NAME.lock``.

    Who may not write to the folder cannot append, and what needs an entry first then fails.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.head_path = path.with_suffix(".head.json")
        self._lock_path = path.with_suffix(".lock")

    def append(self, *contents: Mapping[str, Any]) -> Head:
        """Append entries, and return the head once they are on the disk.

        Raises:
            ChainError: if they cannot be written, or the log does not fit its head.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self._locked(fcntl.LOCK_EX):
                return self._write(self._settled(), contents).head
        except OSError as error:
            raise ChainError(
                f"{self.path}: no entry can be written ({error.strerror or error}); "
                "make the folder writable and see that the disk has room"
            ) from error

    def head(self) -> Head:
        """Return the head, as the head file gives it.

        Raises:
            ChainError: if the head file is missing beside a log, or is damaged.
        """
        mark = self._mark()
        if mark is None and self.path.exists():
            raise ChainError(self._no_head())
        return mark.head if mark is not None else Head()

    def entries(self) -> Iterator[dict[str, Any]]:
        """Yield the entries in order, without checking them; a torn last line is left out."""
        if self.path.exists():
            for line in self.path.read_bytes().split(b"\n")[:-1]:
                yield json.loads(line)

    def check(self, kept: Iterable[tuple[str, Head]] = ()) -> ChainReport:
        """Check every entry, the head, and the heads that were kept elsewhere.

        Args:
            kept: heads by where they were kept, such as a manifest's name.
        """
        with self._locked(fcntl.LOCK_SH):
            try:
                mark, problems = self._mark(), []
            except ChainError as error:
                mark, problems = None, [str(error)]
            content = self.path.read_bytes() if self.path.exists() else b""
        if mark is None and content and not problems:
            problems.append(self._no_head())
        *lines, torn = content.split(b"\n")
        found = list(links(lines))
        problems += [f"{self.path}, line {n}: {text}" for n, _, text in found if text]
        digests = [digest for _, digest, _ in found]
        if mark is not None:
            problems += self._against_mark(mark, digests, lines)
        problems += [
            f"{where} names entry {head.count} with digest {head.digest[:12]}; the log has "
            f"{told(digests, head.count)} there: it was written anew since"
            for where, head in kept
            if not holds(digests, head)
        ]
        notes = []
        if torn:
            notes.append(
                f"{self.path} ends in a torn line of {len(torn)} bytes: a process was stopped "
                "while it wrote; the next entry mends it and says so"
            )
        whole = next((n - 1 for n, _, text in found if text), len(found))
        head = Head(whole, digests[whole - 1] or GENESIS) if whole else Head()
        return ChainReport(head, tuple(problems), tuple(notes), tuple(mended(lines)))

    # -- writing ---------------------------------------------------------------------------------

    def _settled(self) -> _Mark:
        """Return the mark that the next entry follows; take in what a crash left behind it."""
        mark = self._mark()
        size = self.path.stat().st_size if self.path.exists() else 0
        if mark is None:
            if size:
                raise ChainError(self._no_head())
            # The head comes first, so that a log without one is never the work of a crash.
            self._set_mark(_Mark())
            self.path.touch(mode=0o640)
            _sync_folder(self.path.parent)
            return _Mark()
        if size < mark.size:
            raise ChainError(f"{self.path}: {_cut(mark.size - size)}; {_REMEDY}")
        if size > mark.size:
            return self._taken_in(mark)
        return mark

    def _taken_in(self, mark: _Mark) -> _Mark:
        with self.path.open("r+b") as stream:
            stream.seek(mark.size)
            *lines, torn = stream.read().split(b"\n")
            digest = mark.head.digest
            for number, line in enumerate(lines, mark.head.count + 1):
                found, problem = link(line, number, digest)
                if problem or found is None:
                    raise ChainError(f"{self.path}, line {number}: {problem}; {_REMEDY}")
                digest = found
            size = mark.size + sum(len(line) + 1 for line in lines)
            stream.truncate(size)
            os.fsync(stream.fileno())
        settled = _Mark(Head(mark.head.count + len(lines), digest), size)
        if torn:
            return self._write(settled, [mending(torn)])
        self._set_mark(settled)
        return settled

    def _write(self, mark: _Mark, contents: Iterable[Mapping[str, Any]]) -> _Mark:
        head, lines = mark.head, []
        for content in contents:
            head, line = following(head, content)
            lines.append(line + b"\n")
        written = b"".join(lines)
        with self.path.open("ab") as stream:
            stream.write(written)
            stream.flush()
            os.fsync(stream.fileno())
        after = _Mark(head, mark.size + len(written))
        self._set_mark(after)
        return after

    # -- head and lock ---------------------------------------------------------------------------

    def _mark(self) -> _Mark | None:
        if not self.head_path.exists():
            return None
        try:
            document = json.loads(self.head_path.read_text(encoding="utf-8"))
            head = Head.parse(f"{int(document['count'])}:{document['digest']}")
            return _Mark(head, int(document["size"]))
        except (ValueError, KeyError, TypeError):
            raise ChainError(f"{self.head_path}: this is no head of a log; {_REMEDY}") from None

    def _set_mark(self, mark: _Mark) -> None:
        document = {"count": mark.head.count, "digest": mark.head.digest, "size": mark.size}
        write_bytes(self.head_path, canonical_json(document) + b"\n")

    @contextlib.contextmanager
    def _locked(self, mode: int) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            if mode == fcntl.LOCK_EX:
                lock = stack.enter_context(self._lock_path.open("a"))
            elif self._lock_path.exists():
                lock = stack.enter_context(self._lock_path.open())
            else:
                yield
                return
            self._wait(lock.fileno(), mode)
            yield

    def _wait(self, lock: int, mode: int) -> None:
        end = time.monotonic() + _LOCK_SECONDS
        while True:
            try:
                fcntl.flock(lock, mode | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > end:
                    raise ChainError(
                        f"{self._lock_path}: another process has held it for {_LOCK_SECONDS:.0f} s;"
                        " find that process and stop it"
                    ) from None
                time.sleep(_LOCK_POLL)
            else:
                return

    # -- words -----------------------------------------------------------------------------------

    def _no_head(self) -> str:
        return f"{self.path}: its head {self.head_path.name} is missing; {_REMEDY}"

    def _against_mark(
        self, mark: _Mark, digests: list[str | None], lines: list[bytes]
    ) -> list[str]:
        if len(digests) < mark.head.count:
            return [
                f"{self.path} ends after {len(digests)} entries, its head counts "
                f"{mark.head.count}: entries were cut off at the end"
            ]
        if not holds(digests, mark.head):
            return [f"{self.path}: entry {mark.head.count} is not the one that the head names"]
        if mark.size != sum(len(line) + 1 for line in lines[: mark.head.count]):
            return [f"{self.head_path}: it gives another size than the log has at its entry"]
        return []


_REMEDY = (
    "somebody changed the log. `ftdm verify --access-log` says where; keep its folder as evidence "
    "by renaming it, and a new log begins"
)


def _cut(size: int) -> str:
    return f"it is {size} bytes shorter than its head says"


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
