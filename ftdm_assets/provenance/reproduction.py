"""What came of running a version's training again, by the digest of that version."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from ftdm_assets.provenance.statements import parts_of, statement_of

REPRODUCTION_TYPE = "urn:ftdm:reproduction:v1"

ReproductionOutcome = Literal["bit_for_bit", "same_scores", "not_reproduced"]


@dataclass(frozen=True)
class Reproduction:
    """What came of running a registered version's training again.

    Attributes:
        digest: the registered version's digest.
        outcome: ``bit_for_bit`` (the same digests), ``same_scores`` (other digests, an accuracy
            within the interval of the evaluation) or ``not_reproduced``.
        recorded: digests of adapter and merged model as the manifests have them.
        made: those of the reproduction.
        differences: entries of the environment that differ: ``entry``, ``recorded``, ``now``.
        scores: accuracy then and now with the interval of then; blank where not compared.
        environment: the environment of the reproduction.
        code: git commit of the code that ran the training again.
        seconds: how long it took.
    """

    asset: str
    model: str
    digest: str
    version: str
    outcome: ReproductionOutcome
    reason: str
    recorded: Mapping[str, str]
    made: Mapping[str, str]
    differences: tuple[Mapping[str, Any], ...]
    scores: Mapping[str, Any]
    environment: Mapping[str, Any]
    code: str
    seconds: float
    finished_at: str

    def statement(self) -> dict[str, Any]:
        """Return the in-toto statement."""
        predicate = {**asdict(self), "differences": [dict(one) for one in self.differences]}
        del predicate["digest"]
        return statement_of(
            REPRODUCTION_TYPE, {f"{self.model}/{self.asset}": self.digest}, predicate
        )

    @staticmethod
    def from_statement(statement: Mapping[str, Any]) -> "Reproduction":
        """Read a reproduction back.

        Raises:
            ValueError: if the statement is not a reproduction of this version.
        """
        digest, predicate = parts_of(statement, REPRODUCTION_TYPE)
        differences = tuple(predicate.pop("differences"))
        return Reproduction(digest=digest, differences=differences, **predicate)
