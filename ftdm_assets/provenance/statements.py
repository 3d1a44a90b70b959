"""Manifests, verdicts and other statements, in in-toto's form, which standard tools read.

Invariants:
* A manifest names, by digest, everything that its artifact was made from, and which manifest of it
  (one content may have been made twice), so lineage is a walk over manifests and nothing else.
* A verdict names the digest it judged, the digests it was judged against, what was measured, the
  threshold and the outcome. It says nothing about any other digest.
* A sign-off names the digest of the dataset or scores that a person looked at, and of every record
  shown.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from ftdm_assets.provenance.digests import json_digest

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
MANIFEST_TYPE = "urn:ftdm:manifest:v1"
VERDICT_TYPE = "urn:ftdm:verdict:v1"
SIGN_OFF_TYPE = "urn:ftdm:sign-off:v1"
# The key of a manifest's ``run`` that keeps the access record's head when the artifact was made.
ACCESS_LOG = "access_log"
# The key of a manifest's ``facts`` that keeps the gateway's request log's head, where it knows one.
REQUEST_LOG = "request_log"

Severity = Literal["block", "warn"]


@dataclass(frozen=True)
class InputRef:
    """One input of an artifact: the asset's name, the artifact's digest, the manifest's digest.

    ``gate_only`` marks an input that was needed to allow the step, but is no part of its content
    (the baseline scores before a training run).
    """

    asset: str
    digest: str
    manifest: str
    gate_only: bool = False


@dataclass(frozen=True)
class Manifest:
    """What an artifact is and what it was made from.

    Attributes:
        asset: name under the model's key, such as ``cleaned_dataset``.
        model: the domain model's name.
        digest: hex SHA-256 of the artifact, its data version.
        recipe: digest over asset, code version, configuration and input digests; two runs of one
            recipe make the same artifact.
        facts: what was counted or measured while making it (rows, seconds, scores).
        attachments: further artifacts made beside it (a ledger), kind and digest by name.
    """

    asset: str
    model: str
    digest: str
    kind: str
    recipe: str
    code_version: str
    config: Mapping[str, Any]
    inputs: tuple[InputRef, ...]
    environment: Mapping[str, Any]
    run: Mapping[str, Any]
    facts: Mapping[str, Any] = field(default_factory=dict)
    attachments: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def statement(self) -> dict[str, Any]:
        """Return the in-toto statement."""
        predicate = asdict(self)
        del predicate["digest"]
        return statement_of(MANIFEST_TYPE, {f"{self.model}/{self.asset}": self.digest}, predicate)

    @staticmethod
    def from_statement(statement: Mapping[str, Any]) -> "Manifest":
        """Read a manifest back.

        Raises:
            ValueError: if the statement is not a manifest of this version.
        """
        digest, predicate = parts_of(statement, MANIFEST_TYPE)
        inputs = tuple(InputRef(**item) for item in predicate.pop("inputs"))
        return Manifest(digest=digest, inputs=inputs, **predicate)

    def manifest_digest(self) -> str:
        """Return the digest of the manifest itself."""
        return json_digest(self.statement())


@dataclass(frozen=True)
class Verdict:
    """The outcome of one check on one artifact.

    Attributes:
        against: digests of what it was judged against, by asset name (the golden set, say).
        measured: what the check measured.
        threshold: the setting that it was judged by; a verdict under another threshold is stale.
        reason: one sentence for a person; for a failed check it says what to do.
        judged_at: ISO 8601 time in UTC with microseconds; the latest verdict counts.
    """

    check: str
    asset: str
    model: str
    digest: str
    passed: bool
    severity: Severity
    measured: Mapping[str, Any]
    threshold: Mapping[str, Any]
    reason: str
    judged_at: str
    code_version: str
    run: Mapping[str, Any]
    against: Mapping[str, str] = field(default_factory=dict)

    def statement(self) -> dict[str, Any]:
        """Return the in-toto statement."""
        predicate = asdict(self)
        del predicate["digest"]
        return statement_of(VERDICT_TYPE, {f"{self.model}/{self.asset}": self.digest}, predicate)

    @staticmethod
    def from_statement(statement: Mapping[str, Any]) -> "Verdict":
        """Read a verdict back.

        Raises:
            ValueError: if the statement is not a verdict of this version.
        """
        digest, predicate = parts_of(statement, VERDICT_TYPE)
        return Verdict(digest=digest, **predicate)


@dataclass(frozen=True)
class SignOff:
    """A person's word on a dataset, or on the answers in scores, after a look at a random sample.

    Attributes:
        digest: the digest of the dataset or the scores.
        by: the person's name, as given; ``user`` is the system's user who ran the command.
        how: ``terminal``, ``import`` or ``accept_all``.
        seed: what the sample was drawn by; it follows from the digest.
        size: how many records were drawn.
        answers: one a record: ``record_id``, ``digest``, ``answer`` (``accept``, ``wrong_label``,
            ``skip``; of a model's answer ``right``, ``wrong``, ``skip``), and where given
            ``right_label``, ``note``.
        judged: how many records were not skipped.
        errors: how many of them were called wrong.
        maximum_error_share: the share of errors (0-1) up to which it could be accepted.
        accepted: whether the person accepts it.
        reason: why, in the person's words; may be blank where every record was looked at.
        signed_at: ISO 8601 time in UTC with microseconds; the latest counts.
    """

    asset: str
    model: str
    digest: str
    by: str
    user: str
    how: str
    seed: str
    size: int
    answers: tuple[Mapping[str, str], ...]
    judged: int
    errors: int
    maximum_error_share: float
    accepted: bool
    reason: str
    signed_at: str

    def statement(self) -> dict[str, Any]:
        """Return the in-toto statement."""
        predicate = {**asdict(self), "answers": [dict(answer) for answer in self.answers]}
        del predicate["digest"]
        return statement_of(SIGN_OFF_TYPE, {f"{self.model}/{self.asset}": self.digest}, predicate)

    @staticmethod
    def from_statement(statement: Mapping[str, Any]) -> "SignOff":
        """Read a sign-off back.

        Raises:
            ValueError: if the statement is not a sign-off of this version.
        """
        digest, predicate = parts_of(statement, SIGN_OFF_TYPE)
        answers = tuple(predicate.pop("answers"))
        return SignOff(digest=digest, answers=answers, **predicate)


def statement_of(
    kind: str, subjects: Mapping[str, str], predicate: Mapping[str, Any]
) -> dict[str, Any]:
    """Return an in-toto statement on things by name and SHA-256."""
    return {
        "_type": STATEMENT_TYPE,
        "subject": [
            {"name": name, "digest": {"sha256": digest}} for name, digest in subjects.items()
        ],
        "predicateType": kind,
        "predicate": dict(predicate),
    }


def parts_of(statement: Mapping[str, Any], kind: str) -> tuple[str, dict[str, Any]]:
    """Return the digest of a statement's first subject, and its predicate.

    Raises:
        ValueError: if the statement is of another type.
    """
    if statement.get("predicateType") != kind:
        found = statement.get("predicateType")
        raise ValueError(f"expected a statement of type {kind}, found {found!r}")
    return statement["subject"][0]["digest"]["sha256"], dict(statement["predicate"])
