"""The gate: from the verdicts on a candidate and its ancestors to a decision with reasons.

Invariants:
* A pure function. It reads no clock, no database and no orchestrator.
* Only verdicts on exactly the digests in the lineage count, in whichever run they were made.
* A requirement is met by the *latest* verdict on that digest: passed, under today's threshold, and
  judged against the same other artifacts (golden set, production) that count today.
* A check that rests on further evidence (a person's sign-off) is stale when that has changed.
* What cannot be shown to have passed has not passed.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ftdm_assets.provenance.digests import json_digest
from ftdm_assets.provenance.lineage import Node
from ftdm_assets.provenance.statements import Severity, Verdict

# The name under which a verdict keeps the digest of the further evidence that it rests on.
EVIDENCE = "evidence"


@dataclass(frozen=True)
class Requirement:
    """One check that an asset's artifact has to pass, and the threshold in force."""

    asset: str
    check: str
    threshold: Mapping[str, Any]
    severity: Severity = "block"


@dataclass(frozen=True)
class Finding:
    """The state of one requirement for one artifact."""

    asset: str
    digest: str
    check: str
    severity: Severity
    state: str  # passed | failed | missing | stale
    reason: str

    @property
    def refuses(self) -> bool:
        """Say whether this finding alone stops the candidate."""
        return self.severity == "block" and self.state != "passed"


@dataclass(frozen=True)
class Decision:
    """Whether a candidate may go on, and every finding that led to it."""

    allowed: bool
    findings: tuple[Finding, ...]

    @property
    def refusals(self) -> tuple[Finding, ...]:
        """Return the findings that refuse."""
        return tuple(finding for finding in self.findings if finding.refuses)


def same_threshold(verdict: Verdict, requirement: Requirement) -> bool:
    """Say whether a verdict was judged by the threshold that is in force."""
    return json_digest(dict(verdict.threshold)) == json_digest(dict(requirement.threshold))


def judge_requirement(
    requirement: Requirement,
    digest: str,
    verdicts: Iterable[Verdict],
    known: Mapping[str, frozenset[str]],
    evidence: str | None = None,
) -> Finding:
    """Return the state of one requirement for one artifact.

    Args:
        requirement: the check and its threshold.
        digest: the artifact's digest.
        verdicts: verdicts on that digest, oldest first; those of other checks are passed over.
        known: digests by asset name that a verdict may have been judged against.
        evidence: digest of the further evidence that the check rests on now, if it does.
    """
    mine = [v for v in verdicts if v.check == requirement.check and v.digest == digest]
    if not mine:
        state, reason = "missing", "was never judged; run the check"
    else:
        state, reason = _state(mine[-1], requirement, known, evidence)
    return Finding(
        requirement.asset, digest, requirement.check, requirement.severity, state, reason
    )


def _state(
    verdict: Verdict,
    requirement: Requirement,
    known: Mapping[str, frozenset[str]],
    evidence: str | None,
) -> tuple[str, str]:
    if not same_threshold(verdict, requirement):
        now, then = dict(requirement.threshold), dict(verdict.threshold)
        return "stale", f"was judged by {then}, in force is {now}; run the check again"
    if evidence is not None and verdict.against.get(EVIDENCE) != evidence:
        return "stale", "the evidence has changed since it was judged; run the check again"
    for name, digest in verdict.against.items():
        if name in known and digest not in known[name]:
            return "stale", (
                f"was judged against another {name} ({digest[:12]}); run the check again"
            )
    return ("passed" if verdict.passed else "failed"), verdict.reason


def decide(
    nodes: Sequence[Node],
    requirements: Iterable[Requirement],
    verdicts: Mapping[tuple[str, str], Sequence[Verdict]],
    known: Mapping[str, str] | None = None,
    evidence: Mapping[tuple[str, str, str], str] | None = None,
) -> Decision:
    """Decide on the candidate ``nodes[0]``.

    Args:
        nodes: the candidate and its ancestors.
        requirements: all checks of the model; those of assets that the lineage must hold.
        verdicts: verdicts by (asset, digest), oldest first.
        known: digests of things outside the lineage that a verdict may name (production).
        evidence: digests of the further evidence that checks rest on now, by (asset, check,
            artifact's digest).
    """
    digests: dict[str, set[str]] = {name: {digest} for name, digest in (known or {}).items()}
    for node in nodes:
        digests.setdefault(node.asset, set()).add(node.manifest.digest)
    frozen = {name: frozenset(values) for name, values in digests.items()}
    findings: list[Finding] = []
    for requirement in requirements:
        held = sorted(frozen.get(requirement.asset, frozenset()))
        if not held:
            findings.append(
                Finding(
                    requirement.asset, "", requirement.check, requirement.severity, "missing",
                    f"the lineage holds no {requirement.asset}",
                )
            )  # fmt: skip
        for digest in held:
            on_digest = verdicts.get((requirement.asset, digest), ())
            rests_on = (evidence or {}).get((requirement.asset, requirement.check, digest))
            findings.append(judge_requirement(requirement, digest, on_digest, frozen, rests_on))
    return Decision(not any(finding.refuses for finding in findings), tuple(findings))
