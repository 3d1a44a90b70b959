"""Overrides of the gate: a person's signed word that one check may be passed over, for a while.

Invariants:
* An override names one check and one artifact's digest, a person, a reason and an end.
* It lifts a refusal only while it runs, only for that check on that digest, and only if a trusted
  key has signed it. It changes no verdict: what failed is still shown as failed, and by whom it was
  passed over.
* Overrides are only ever added; one that has ended stays in every trace.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from ftdm_assets.provenance import files
from ftdm_assets.provenance.dsse import SignatureError, open_signed, signed
from ftdm_assets.provenance.keys import SigningKey
from ftdm_assets.provenance.statements import parts_of, statement_of
from ftdm_assets.provenance.store import ArtifactStore
from ftdm_assets.provenance.trust import Trust

OVERRIDE_TYPE = "urn:ftdm:override:v1"


@dataclass(frozen=True)
class Override:
    """A person's word on one check of one artifact.

    Attributes:
        by: the person's name, as given; ``user`` is the system's user who ran the command.
        signed_at: ISO 8601 time in UTC.
        until: ISO 8601 time in UTC from which on it lifts nothing.
    """

    asset: str
    model: str
    digest: str
    check: str
    by: str
    user: str
    reason: str
    signed_at: str
    until: str

    def statement(self) -> dict[str, Any]:
        """Return the in-toto statement."""
        predicate = asdict(self)
        del predicate["digest"]
        return statement_of(OVERRIDE_TYPE, {f"{self.model}/{self.asset}": self.digest}, predicate)

    @staticmethod
    def from_statement(statement: Mapping[str, Any]) -> "Override":
        """Read an override back.

        Raises:
            ValueError: if the statement is not an override of this version.
        """
        digest, predicate = parts_of(statement, OVERRIDE_TYPE)
        try:
            found = Override(digest=digest, **predicate)
            datetime.fromisoformat(found.until)
        except TypeError as error:
            raise ValueError(f"this is no override: {error}") from None
        return found


@dataclass(frozen=True)
class SignedOverride:
    """An override as it was found in the store, and what is wrong with its signature."""

    override: Override
    key_id: str
    problem: str = ""

    def refusal(self, at: str) -> str:
        """Return why it lifts nothing at a time, or nothing."""
        made = self.override
        if self.problem:
            return f"the override by {made.by} does not count: {self.problem}"
        if datetime.fromisoformat(at) >= datetime.fromisoformat(made.until):
            return f"the override by {made.by} expired on {made.until}"
        return ""


def add_override(store: ArtifactStore, override: Override, key: SigningKey) -> str:
    """Sign an override into the store and return the digest of its envelope."""
    content = signed(override.statement(), key)
    digest = hashlib.sha256(content).hexdigest()
    folder = store.root / "overrides" / override.model / override.asset / override.digest
    files.write_bytes(folder / f"{digest}.json", content)
    return digest


def overrides(
    store: ArtifactStore, model: str, asset: str, digest: str, trust: Trust
) -> list[SignedOverride]:
    """Return all overrides that name an artifact, oldest first, well signed or not."""
    folder = store.root / "overrides" / model / asset / digest
    found = []
    for path in sorted(folder.glob("*.json")):
        content = path.read_bytes()
        try:
            if hashlib.sha256(content).hexdigest() != path.stem:
                raise SignatureError("its file was changed")
            opened = open_signed(content, trust)
            made, key_id, problem = Override.from_statement(opened.statement), opened.key_id, ""
            if (made.model, made.asset, made.digest) != (model, asset, digest):
                problem = f"it was made for {made.model}/{made.asset} {made.digest[:12]}"
        except ValueError as error:
            made, key_id, problem = _unread(model, asset, digest, path.stem), "", str(error)
        found.append(SignedOverride(made, key_id, problem))
    return sorted(found, key=lambda one: one.override.signed_at)


def _unread(model: str, asset: str, digest: str, name: str) -> Override:
    """Return what stands for an override whose content cannot be relied on: it names no check."""
    unknown = f"an unknown person (file {name[:12]})"
    return Override(asset, model, digest, "", unknown, "", "", "", "1970-01-01T00:00:00+00:00")
