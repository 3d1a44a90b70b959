"""The gate: from the verdicts on a candidate and its ancestors to a decision with reasons.

Invariants:
* A pure function. It reads no clock, no database and no orchestrator: the time is an argument.
* Only verdicts on exactly the digests in the lineage count, in whichever run they were made.
* A requirement is met by the *latest* verdict on that digest: passed, under today's threshold, and
  judged against the same other artifacts that count today: of the lineage those nearest to the
  candidate, and what is known besides (production, today's golden set).
* Where the latest verdict passed, but against others than those that count, the latest against
  those that count is asked, if there is one: new labels that leave the cleaned dataset as it was
  are no candidate's, and nothing could be judged again. A latest verdict that failed refuses.
* A check that rests on further evidence (a person's sign-off) is stale when that has changed.
* What cannot be shown to have passed has not passed.
* Only an override that a trusted key has signed, for this check on this digest, and that has not
  ended, lifts a refusal; the finding then says so, and by whom, why and until when.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ftdm_assets.provenance.digests import json_digest
from ftdm_assets.provenance.lineage import Node
from ftdm_assets.provenance.overrides import Override, SignedOverride
from ftdm_assets.provenance.statements import Severity, Verdict

# The name under which a verdict keeps the digest of the further evidence that it rests on.
EVIDENCE = "evidence"


@dataclass(frozen=True)
class Requirement:
    """One check that an asset's artifact has to pass, and the threshold in force.

    ``overridable`` is no for checks of integrity: a wrong signature is no matter of judgment.
    """

    asset: str
    check: str
    threshold: Mapping[str, Any]
    severity: Severity = "block"
    overridable: bool = True


@dataclass(frozen=True)
class Finding:
    """The state of one requirement for one artifact.

    Attributes:
        run: id of the run that made the verdict, if there is one.
        override: what lifted the refusal, if something did.
    """

    asset: str
    digest: str
    check: str
    severity: Severity
    state: str  # passed | failed | missing | stale | overridden
    reason: str
    run: str = ""
    override: Override | None = None

    @property
    def refuses(self) -> bool:
        """Say whether this finding alone stops the candidate."""
        return self.severity == "block" and self.state not in {"passed", "overridden"}


@dataclass(frozen=True)
class Decision:
    """Whether a candidate may go on, and every finding that led to it.

    Attributes:
        known: digests of what it was decided against, whatever the lineage holds (production,
            today's golden set).
        at: the time for which it was decided.
    """

    allowed: bool
    findings: tuple[Finding, ...]
    known: Mapping[str, str] = field(default_factory=dict)
    at: str = ""

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
    known: Mapping[str, str],
    evidence: str | None = None,
) -> Finding:
    """Return the state of one requirement for one artifact.

    Args:
        requirement: the check and its threshold.
        digest: the artifact's digest.
        verdicts: verdicts on that digest, oldest first; those of other checks are passed over.
        known: digests by asset name that count today; a verdict against another one is stale.
        evidence: digest of the further evidence that the check rests on now, if it does.
    """
    mine = [v for v in verdicts if v.check == requirement.check and v.digest == digest]
    run = ""
    if not mine:
        state, reason = "missing", "was never judged; run the check"
    else:
        counts = _that_counts(mine, known)
        state, reason = _state(counts, requirement, known, evidence)
        run = str(counts.run.get("dagster_run_id", ""))
    return Finding(
        requirement.asset, digest, requirement.check, requirement.severity, state, reason, run
    )


def with_override(
    finding: Finding, requirement: Requirement, overrides: Iterable[SignedOverride], at: str
) -> Finding:
    """Return a finding as an override that counts lifts it, or with why those there do not."""
    named = (requirement.asset, requirement.check, finding.digest)
    mine = [
        one
        for one in overrides
        if (one.override.asset, one.override.check, one.override.digest) == named
    ]
    if not finding.refuses or not mine:
        return finding
    if not requirement.overridable:
        return replace(finding, reason=f"{finding.reason}; this check cannot be overridden")
    refusals = []
    for one in reversed(mine):
        refusal, made = one.refusal(at), one.override
        if not refusal:
            reason = (
                f"{finding.state}: {finding.reason}; overridden by {made.by} until {made.until}: "
                f"{made.reason}"
            )
            return replace(finding, state="overridden", reason=reason, override=made)
        refusals.append(refusal)
    return replace(finding, reason="; ".join([finding.reason, *refusals]))


def _that_counts(verdicts: Sequence[Verdict], known: Mapping[str, str]) -> Verdict:
    """Return the latest verdict; where it passed against other artifacts, one against these."""
    latest = verdicts[-1]
    if not latest.passed or not _others(latest, known):
        return latest
    against_these = (
        one
        for one in reversed(verdicts)
        if not _others(one, known)
        and set(latest.against) <= set(one.against)
        and one.code_version == latest.code_version  # What an older check passed, today's may not.
    )
    return next(against_these, latest)


def _others(verdict: Verdict, known: Mapping[str, str]) -> list[str]:
    """Return the assets of which a verdict was judged against another artifact than counts."""
    return [name for name, digest in verdict.against.items() if digest != known.get(name, digest)]


def _state(
    verdict: Verdict,
    requirement: Requirement,
    known: Mapping[str, str],
    evidence: str | None,
) -> tuple[str, str]:
    if not same_threshold(verdict, requirement):
        now, then = dict(requirement.threshold), dict(verdict.threshold)
        return "stale", f"was judged by {then}, in force is {now}; run the check again"
    if evidence is not None and verdict.against.get(EVIDENCE) != evidence:
        return "stale", "the evidence has changed since it was judged; run the check again"
    for name in _others(verdict, known):
        return "stale", (
            f"was judged against another {name} ({verdict.against[name][:12] or 'none'}); "
            f"`ftdm run {verdict.model}` makes and judges again what is needed"
        )
    return ("passed" if verdict.passed else "failed"), verdict.reason


def decide(
    nodes: Sequence[Node],
    requirements: Iterable[Requirement],
    verdicts: Mapping[tuple[str, str], Sequence[Verdict]],
    known: Mapping[str, str] | None = None,
    evidence: Mapping[tuple[str, str, str], str] | None = None,
    overrides: Sequence[SignedOverride] = (),
    at: str = "",
) -> Decision:
    """Decide on the candidate ``nodes[0]``.

    Args:
        nodes: the candidate and its ancestors.
        requirements: all checks of the model; those of assets that the lineage must hold.
        verdicts: verdicts by (asset, digest), oldest first.
        known: digests of what counts today whatever the lineage holds (production, golden set).
        evidence: digests of the further evidence that checks rest on now, by (asset, check,
            artifact's digest).
        overrides: all overrides that name artifacts of the lineage, oldest first.
        at: the time now, ISO 8601 in UTC; overrides are asked whether they have ended by then.
    """
    in_force = {**nearest(nodes), **(known or {})}
    findings: list[Finding] = []
    for requirement in requirements:
        held = sorted({n.manifest.digest for n in nodes if n.asset == requirement.asset})
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
            found = judge_requirement(requirement, digest, on_digest, in_force, rests_on)
            findings.append(with_override(found, requirement, overrides, at))
    allowed = not any(finding.refuses for finding in findings)
    return Decision(allowed, tuple(findings), dict(known or {}), at)


def nearest(nodes: Sequence[Node]) -> dict[str, str]:
    """Return by asset the digest of the artifact that lies nearest to the candidate.

    A lineage may hold two: a merged model, and an evaluation of the one before it.
    """
    found: dict[str, str] = {}
    for node in sorted(nodes, key=lambda node: node.depth):
        found.setdefault(node.asset, node.manifest.digest)
    return found


def gate_table(findings: Iterable[Finding]) -> str:
    """Return findings as one Markdown table: what refuses first, then overrides, then the rest."""
    order = {"passed": 2, "overridden": 1}
    ordered = sorted(findings, key=lambda one: order.get(one.state, 0))
    rows = [("check", "artifact", "state", "reason", "run"), ("---",) * 5]
    rows += [
        (
            f"{one.asset}.{one.check}",
            f"`{one.digest[:12]}`" if one.digest else "",
            one.state if one.severity == "block" or one.state == "passed" else "warning",
            " ".join(one.reason.split()).replace("|", "\\|"),
            one.run[:8],
        )
        for one in ordered
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"
