"""A person signs something off after a look at a random sample: sample, statement, and check.

Invariants:
* A sign-off counts for exactly the digest that it names, and only if it answers the very sample
  that this digest and the size in force give.
* The latest sign-off counts. Both must hold: the person accepted, and the share of errors found is
  at most the level in force now.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ftdm_assets.dataset_settings import SignOffSettings
from ftdm_assets.graph.plan import CheckPlan, Outcome, Reading
from ftdm_assets.model_folder import ModelFolder
from ftdm_assets.provenance.access_log import user
from ftdm_assets.provenance.digests import json_digest
from ftdm_assets.provenance.environment import now
from ftdm_assets.provenance.statements import SignOff
from ftdm_assets.records.review import LABELS, Answered, Form, Tally, draw, seed_of, tally
from golden.statistics import wilson_interval


@dataclass(frozen=True)
class Subject:
    """What a person looks at a random sample of.

    Attributes:
        asset: whose current artifact it is.
        check: the check that asks for the sign-off; ``description`` is its sentence.
        remedy: what to do when it was refused.
        flags: what `ftdm review MODEL` needs to show it.
        rows: its records, each with its ``digest``.
        terms: size of the sample and level in force.
        against: digests of what the records were judged against, by asset.
    """

    asset: str
    check: str
    description: str
    remedy: str
    flags: str
    form: Form
    rows: Callable[[Reading], Iterable[Mapping[str, Any]]]
    terms: Callable[[ModelFolder], SignOffSettings]
    against: Callable[[Reading], Mapping[str, str]] = lambda _: {}

    def sample(self, reading: Reading) -> list[dict[str, Any]]:
        """Return the records of the current artifact that a person is to look at."""
        seed, size = seed_of(reading.digest(self.asset)), self.terms(reading.model).sample
        return [dict(row) for row in draw(self.rows(reading), seed, size)]

    def acceptable(self, reading: Reading, found: Tally) -> bool:
        """Say whether a review with these errors may be accepted at all."""
        return found.enough and found.share <= self.terms(reading.model).maximum_error_share

    def told(self, found: Tally) -> str:
        """Return in words how many errors were found, and how many there may be."""
        if not found.judged:
            return f"none of {found.size} {self.form.noun} was judged"
        upper = wilson_interval(found.errors, found.judged).high
        return (
            f"{found.errors} of {found.judged} judged {self.form.noun} are wrong "
            f"({found.share:.1%}, with 95 % confidence at most {upper:.1%})"
        )

    def command(self, model: str) -> str:
        """Return the command that shows the sample."""
        return f"ftdm review {model} {self.flags}".rstrip()


DATASET = Subject(
    asset="cleaned_dataset",
    check="signed_off",
    description="A person has looked at a random sample of this very dataset and accepts it.",
    remedy="correct the labels",
    flags="",
    form=LABELS,
    rows=lambda reading: reading.records("cleaned_dataset"),
    terms=lambda model: model.settings.sign_off,
)


def sample_facts(model: ModelFolder, digest: str, rows: int) -> dict[str, Any]:
    """Return size and seed of the sample of a dataset, for its manifest."""
    size = min(model.settings.sign_off.sample, rows)
    return {"sign_off_sample": size, "sign_off_seed": seed_of(digest)}


def sign(
    reading: Reading,
    subject: Subject,
    answers: Sequence[Answered],
    *,
    by: str,
    how: str,
    accepted: bool,
    reason: str = "",
) -> SignOff:
    """Store a person's word on the current artifact; with too many errors it is a refusal."""
    digest = reading.digest(subject.asset)
    given = tuple(answer.as_dict() for answer in answers)
    found = tally(given)
    made = SignOff(
        asset=subject.asset,
        model=reading.model.name,
        digest=digest,
        by=by,
        user=user(),
        how=how,
        seed=seed_of(digest),
        size=found.size,
        answers=given,
        judged=found.judged,
        errors=found.errors,
        maximum_error_share=subject.terms(reading.model).maximum_error_share,
        accepted=accepted and subject.acceptable(reading, found),
        reason=reason,
        signed_at=now(),
    )
    reading.store.add_sign_off(made)
    return made


def check(model: ModelFolder, subject: Subject = DATASET) -> CheckPlan:
    """Return the check that asks for a sign-off."""
    terms = subject.terms(model)
    return CheckPlan(
        subject.asset,
        subject.check,
        subject.description,
        lambda reading: replace(_signed_off(reading, subject), against=subject.against(reading)),
        {"sample": terms.sample, "maximum_error_share": terms.maximum_error_share},
        severity="block" if terms.required else "warn",
        evidence=lambda reading, digest: _evidence(reading, subject, digest),
    )


def _evidence(reading: Reading, subject: Subject, digest: str) -> str:
    """Return the digest of all sign-offs of an artifact."""
    made = reading.store.sign_offs(reading.model.name, subject.asset, digest)
    return json_digest([json_digest(one.statement()) for one in made])


def _signed_off(reading: Reading, subject: Subject) -> Outcome:
    name, digest = reading.model.name, reading.digest(subject.asset)
    made = reading.store.sign_offs(name, subject.asset, digest)
    drawn = [str(row["digest"]) for row in subject.sample(reading)]
    measured: dict[str, Any] = {
        "sample": len(drawn),
        "seed": seed_of(digest),
        "sample_records": drawn,
        "sign_offs": len(made),
    }
    shows = f"`{subject.command(name)}` shows"
    hint = f"{shows} a random sample of {len(drawn)} {subject.form.noun}"
    if not made:
        text = f"nobody has signed these {subject.form.noun} off yet; {hint}"
        return Outcome(False, text, measured)
    last = made[-1]
    found = tally(last.answers)
    measured |= _who_and_what(last, found)
    if sorted(str(answer["digest"]) for answer in last.answers) != sorted(drawn):
        text = f"{last.by} answered another sample than the one in force; {hint}"
        return Outcome(False, text, measured)
    level = subject.terms(reading.model).maximum_error_share
    text = f"{last.by} on {last.signed_at[:10]}: {subject.told(found)}, {level:.1%} are allowed"
    if not last.accepted or not subject.acceptable(reading, found):
        return Outcome(False, f"refused by {text}; {subject.remedy}, then {hint}", measured)
    return Outcome(True, f"signed off by {text}", measured)


def _who_and_what(last: SignOff, found: Tally) -> dict[str, Any]:
    names = ("by", "user", "how", "signed_at")
    measured: dict[str, Any] = {name: getattr(last, name) for name in names}
    measured |= {"judged": found.judged, "errors": found.errors, "error_share": found.share}
    if found.judged:
        measured["error_share_upper_95"] = wilson_interval(found.errors, found.judged).high
    return measured
