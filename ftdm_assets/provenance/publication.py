"""That an artifact was pushed: the digest, and the repository and commit that hold it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ftdm_assets.provenance.statements import parts_of, statement_of

PUBLICATION_TYPE = "urn:ftdm:publication:v1"


@dataclass(frozen=True)
class Publication:
    """An artifact was pushed to a private repository, and verified there.

    Attributes:
        digest: the artifact's digest.
        hub: the Hub's address; ``repository`` is ``ORG/NAME`` there.
        commit: the commit that holds it, under the tag ``tag``.
        rows: how many records it has.
        by: the person, as given by ``FTDM_ACTOR``; ``user`` is the system's user.
        pushed_at: ISO 8601 time in UTC with microseconds.
    """

    asset: str
    model: str
    digest: str
    hub: str
    repository: str
    commit: str
    tag: str
    rows: int
    by: str
    user: str
    pushed_at: str

    def statement(self) -> dict[str, Any]:
        """Return the in-toto statement."""
        predicate = asdict(self)
        del predicate["digest"]
        return statement_of(
            PUBLICATION_TYPE, {f"{self.model}/{self.asset}": self.digest}, predicate
        )

    @staticmethod
    def from_statement(statement: Mapping[str, Any]) -> "Publication":
        """Read a publication back.

        Raises:
            ValueError: if the statement is not a publication of this version.
        """
        digest, predicate = parts_of(statement, PUBLICATION_TYPE)
        return Publication(digest=digest, **predicate)
