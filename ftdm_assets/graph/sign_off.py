"""A person signs a cleaned dataset off: the sample, the statement, and the check that asks for it.

Invariants:
* A sign-off counts for exactly the digest that it names, and only if it answers the very sample
  that this digest and the size in force give.
* The latest sign-off counts. Both must hold: the person accepted, and the share of errors found is
  at most the level in force now.
"""

from collections.abc import Sequence
from typing import Any

from ftdm_assets.graph.plan import CheckPlan, Outcome, Reading
from ftdm_assets.model_folder import ModelFolder
from ftdm_assets.provenance.access_log import user
from ftdm_assets.provenance.digests import json_digest
from ftdm_assets.provenance.environment import now
from ftdm_assets.provenance.statements import SignOff
from ftdm_assets.records.review import Answered, Tally, draw, seed_of, tally
from golden.statistics import wilson_interval

ASSET = "cleaned_dataset"
CHECK = "signed_off"


def sample_facts(model: ModelFolder, digest: str, rows: int) -> dict[str, Any]:
    """Return size and seed of the sample of a dataset, for its manifest."""
    size = min(model.settings.sign_off.sample, rows)
    return {"sign_off_sample": size, "sign_off_seed": seed_of(digest)}


def sample(reading: Reading) -> list[dict[str, Any]]:
    """Return the records of the current dataset that a person is to look at."""
    seed = seed_of(reading.digest(ASSET))
    drawn = draw(reading.records(ASSET), seed, reading.model.settings.sign_off.sample)
    return [dict(row) for row in drawn]


def acceptable(reading: Reading, found: Tally) -> bool:
    """Say whether a review with these errors may be accepted at all."""
    return found.enough and found.share <= reading.model.settings.sign_off.maximum_error_share


def sign(
    reading: Reading,
    answers: Sequence[Answered],
    *,
    by: str,
    how: str,
    accepted: bool,
    reason: str = "",
) -> SignOff:
    """Store a person's word on the current dataset; with too many errors it is a refusal."""
    digest = reading.digest(ASSET)
    given = tuple(answer.as_dict() for answer in answers)
    found = tally(given)
    made = SignOff(
        asset=ASSET,
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
        maximum_error_share=reading.model.settings.sign_off.maximum_error_share,
        accepted=accepted and acceptable(reading, found),
        reason=reason,
        signed_at=now(),
    )
    reading.store.add_sign_off(made)
    return made


def told(found: Tally) -> str:
    """Return in words how many errors were found, and how many there may be."""
    if not found.judged:
        return f"none of {found.size} records was judged"
    upper = wilson_interval(found.errors, found.judged).high
    return (
        f"{found.errors} of {found.judged} judged records are wrong ({found.share:.1%}, with 95 % "
        f"confidence at most {upper:.1%})"
    )


def evidence(reading: Reading, digest: str) -> str:
    """Return the digest of all sign-offs of a dataset."""
    made = reading.store.sign_offs(reading.model.name, ASSET, digest)
    return json_digest([json_digest(one.statement()) for one in made])


def check(model: ModelFolder) -> CheckPlan:
    """Return the check that asks for a sign-off."""
    settings = model.settings.sign_off
    return CheckPlan(
        ASSET,
        CHECK,
        "A person has looked at a random sample of this very dataset and accepts it.",
        _signed_off,
        {"sample": settings.sample, "maximum_error_share": settings.maximum_error_share},
        severity="block" if settings.required else "warn",
        evidence=evidence,
    )


def _signed_off(reading: Reading) -> Outcome:
    name, digest = reading.model.name, reading.digest(ASSET)
    made = reading.store.sign_offs(name, ASSET, digest)
    drawn = [str(row["digest"]) for row in sample(reading)]
    measured: dict[str, Any] = {
        "sample": len(drawn),
        "seed": seed_of(digest),
        "sample_records": drawn,
        "sign_offs": len(made),
    }
    hint = f"`ftdm review {name}` shows a random sample of {len(drawn)} records"
    if not made:
        return Outcome(False, f"nobody has signed this dataset off yet; {hint}", measured)
    last = made[-1]
    found = tally(last.answers)
    measured |= {
        "by": last.by,
        "user": last.user,
        "how": last.how,
        "signed_at": last.signed_at,
        "judged": found.judged,
        "errors": found.errors,
        "error_share": found.share,
    }
    if found.judged:
        measured["error_share_upper_95"] = wilson_interval(found.errors, found.judged).high
    if sorted(str(answer["digest"]) for answer in last.answers) != sorted(drawn):
        text = f"{last.by} answered another sample than the one in force; {hint}"
        return Outcome(False, text, measured)
    level = reading.model.settings.sign_off.maximum_error_share
    text = f"{last.by}: {told(found)}, {level:.1%} are allowed"
    if not last.accepted or not acceptable(reading, found):
        return Outcome(False, f"refused by {text}; correct the labels, then {hint}", measured)
    return Outcome(True, f"signed off by {text}", measured)
