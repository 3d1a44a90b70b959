"""Statements on artifacts, as files: verdicts, sign-offs, publications, reproductions.

Invariants:
* Statements are only ever added; each file's name is its own digest.
* A JSON file has one written form: a byte that was changed is found even where it is white space.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from ftdm_assets.provenance import files
from ftdm_assets.provenance.digests import json_digest
from ftdm_assets.provenance.publication import Publication
from ftdm_assets.provenance.reproduction import Reproduction
from ftdm_assets.provenance.statements import SignOff, Verdict

S = TypeVar("S")


class StoreError(ValueError):
    """Something in the store is missing or is not what its digest says."""


class StatementStore:
    """The statements on the artifacts of one store, under its folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def add_verdict(self, verdict: Verdict) -> str:
        """Store a verdict and return its digest."""
        return self._add("verdicts", verdict)

    def verdicts(self, model: str, asset: str, digest: str) -> list[Verdict]:
        """Return all verdicts on an artifact, oldest first.

        Raises:
            StoreError: if a verdict's file was changed after it was written.
        """
        found = self._stated("verdicts", (model, asset, digest), Verdict.from_statement)
        return sorted(found, key=lambda verdict: verdict.judged_at)

    def add_sign_off(self, sign_off: SignOff) -> str:
        """Store a person's sign-off and return its digest."""
        return self._add("sign_offs", sign_off)

    def sign_offs(self, model: str, asset: str, digest: str) -> list[SignOff]:
        """Return all sign-offs of an artifact, oldest first.

        Raises:
            StoreError: if a sign-off's file was changed after it was written.
        """
        found = self._stated("sign_offs", (model, asset, digest), SignOff.from_statement)
        return sorted(found, key=lambda sign_off: sign_off.signed_at)

    def add_publication(self, publication: Publication) -> str:
        """Store that an artifact was pushed somewhere, and return the statement's digest."""
        return self._add("publications", publication)

    def publications(self, model: str, asset: str, digest: str) -> list[Publication]:
        """Return where an artifact was pushed, oldest first.

        Raises:
            StoreError: if a publication's file was changed after it was written.
        """
        found = self._stated("publications", (model, asset, digest), Publication.from_statement)
        return sorted(found, key=lambda publication: publication.pushed_at)

    def add_reproduction(self, reproduction: Reproduction) -> str:
        """Store what came of a reproduction and return its digest."""
        return self._add("reproductions", reproduction)

    def reproductions(self, model: str, asset: str, digest: str) -> list[Reproduction]:
        """Return all reproductions of an artifact, oldest first.

        Raises:
            StoreError: if a reproduction's file was changed after it was written.
        """
        found = self._stated("reproductions", (model, asset, digest), Reproduction.from_statement)
        return sorted(found, key=lambda reproduction: reproduction.finished_at)

    def _add(self, kind: str, stated: Verdict | SignOff | Publication | Reproduction) -> str:
        folder = self.root / kind / stated.model / stated.asset / stated.digest
        return _add_statement(folder, stated.statement())

    def _stated(
        self, kind: str, key: tuple[str, str, str], read: Callable[[Mapping[str, Any]], S]
    ) -> list[S]:
        return [read(statement) for statement in _statements(self.root.joinpath(kind, *key))]


def _add_statement(folder: Path, statement: Mapping[str, Any]) -> str:
    digest = json_digest(statement)
    files.write_json(folder / f"{digest}.json", statement)
    return digest


def _statements(folder: Path) -> list[dict[str, Any]]:
    return [read_statement(path) for path in sorted(folder.glob("*.json"))]


def read_statement(path: Path) -> dict[str, Any]:
    """Read a statement, whose file is named by its digest."""
    try:
        statement: dict[str, Any] = json.loads(path.read_bytes())
        written = files.json_bytes(statement)
        same = as_written(path, written, json_digest(statement)) == path.stem
    except (ValueError, RecursionError):
        same = False
    if not same:
        raise StoreError(f"{path} was changed: its content no longer has its name's digest")
    return statement


def as_written(path: Path, written: bytes, digest: str) -> str:
    """Return the digest of a JSON file's content, where its bytes are those that were written.

    Raises:
        ValueError: if they are others.
    """
    if path.read_bytes() != written:
        raise ValueError(f"{path.name} was changed: it is not in the form in which it was written")
    return digest
