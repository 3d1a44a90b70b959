"""Admission: no version is served whose evidence does not hold, whoever asks.

Invariants:
- it is asked before any replica of a version is started, by the supervisor too when one ended, and
  before the pointer moves to a version; no call that starts or moves has a default without it, and
  nobody can pass over a refusal;
- seal, manifests, the gate's decision, verdicts and trusted keys are checked anew each time, so a
  key that is revoked counts for nothing from then on;
- weights are hashed anew before each start. Before a move they are hashed only if their files are
  not the very files of the last start (size, inode, times of change): what answers has read them
  already, and a rollback to a large model would take minutes instead of milliseconds.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from ftdm_assets.provenance.admission import attested, weights_problem
from ftdm_assets.provenance.store import ArtifactStore, store_folder
from ftdm_assets.provenance.trust import read_trust, trust_folder
from serving.home import Home, interpreter
from serving.versions import PointerError

_ADMITTED = Path(__file__).with_name("admitted.py")


class AdmissionError(PointerError):
    """A version's evidence does not hold; the message names the version, why, and the remedy."""


class Candidate(Protocol):
    """What is asked about: a version in its full form, its digest and the folder of its weights."""

    @property
    def version(self) -> str:
        """`NAME-vNNNN`."""

    @property
    def digest(self) -> str:
        """SHA-256 of the folder."""

    @property
    def folder(self) -> Path:
        """Where the weights lie."""


class Admission(Protocol):
    """Who decides whether a version may serve; in production `StoreAdmission`."""

    def to_start(self, candidate: Candidate) -> None:
        """Refuse a version whose replicas may not be started.

        Raises:
            AdmissionError: Its evidence or its weights do not verify.
        """

    def to_move(self, candidate: Candidate) -> None:
        """Refuse a running version to which the pointer may not move.

        Raises:
            AdmissionError: Its evidence or its weights do not verify.
        """

    def guarded(self, candidate: Candidate, argv: tuple[str, ...]) -> tuple[str, ...]:
        """Return an engine's command so that admission is asked each time that it is run."""


class StoreAdmission:
    """Admits what the artifact store and the trusted keys of a home vouch for."""

    def __init__(self, home: Path, trust: Path | None = None) -> None:
        self._home = Home.at(home)
        self._trust = trust or trust_folder(self._home.folder)
        self._store = ArtifactStore(store_folder(self._home.folder))

    def to_start(self, candidate: Candidate) -> None:
        """Check evidence and weights; see `Admission`."""
        self._check(candidate, lambda: False)

    def to_move(self, candidate: Candidate) -> None:
        """Check evidence, and weights unless they are the files of the last start."""
        self._check(candidate, lambda: self._hashed(candidate))

    def guarded(self, candidate: Candidate, argv: tuple[str, ...]) -> tuple[str, ...]:
        """Put `admitted.py` before an engine's command."""
        first = (str(interpreter()), "-I", str(_ADMITTED))
        return guarded_command(first, self._home.folder, self._trust, candidate, argv)

    def _check(self, candidate: Candidate, hashed: Callable[[], bool]) -> None:
        trust = read_trust(self._trust)
        found = attested(self._store, candidate.version, candidate.digest, trust)
        if found.problems:
            raise _refused(candidate.version, *found.problems)
        if hashed():
            return
        # Looked at before they are hashed: what changes meanwhile differs from this at the move.
        try:
            files = _files(candidate.folder)
        except OSError as error:
            raise _refused(candidate.version, f"its weights cannot be read ({error})") from error
        problem = weights_problem(candidate.folder, candidate.digest, found.files)
        if problem:
            raise _refused(candidate.version, problem)
        self._remember(candidate, files)

    def _hashed(self, candidate: Candidate) -> bool:
        try:
            known = self._record(candidate).read_text(encoding="utf-8")
            return known == json.dumps([candidate.digest, _files(candidate.folder)])
        except OSError:
            return False

    def _remember(self, candidate: Candidate, files: list[tuple[str, int, int, int, int]]) -> None:
        path = self._record(candidate)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps([candidate.digest, files]), encoding="utf-8")
        partial.replace(path)

    def _record(self, candidate: Candidate) -> Path:
        return self._home.make().run / "admitted" / f"{candidate.version}.json"


def guarded_command(
    first: tuple[str, ...], home: Path, trust: Path, candidate: Candidate, argv: tuple[str, ...]
) -> tuple[str, ...]:
    """Return an engine's command behind `admitted.py`, all paths as the engine's machine has them.

    Args:
        first: What runs `admitted.py`.
        home: Its store lies there.
        trust: The trusted keys.
        candidate: Asked about.
        argv: The engine's command.
    """
    asked = (candidate.version, candidate.digest, str(candidate.folder))
    return (*first, str(home), str(trust), *asked, *argv)


def _files(folder: Path) -> list[tuple[str, int, int, int, int]]:
    """Return what the system says of each file; a change in place changes its time of change."""
    found = []
    for path in sorted(folder.rglob("*")):
        one = path.lstat()
        if not path.is_dir():
            name = path.relative_to(folder).as_posix()
            found.append((name, one.st_size, one.st_ino, one.st_mtime_ns, one.st_ctime_ns))
    return found


def _refused(version: str, *problems: str) -> AdmissionError:
    more = f", and {len(problems) - 1} more" if problems[1:] else ""
    model = version.rsplit("-v", 1)[0]
    return AdmissionError(
        f"{version} is not served: {problems[0]}{more}; `ftdm verify {version}` names all that "
        f"differs: put it back as it was, sign it again (`ftdm run {model} --select "
        "registered_version`), or serve another version (`ftdm rollback --to VERSION`)."
    )
