"""A person looks at a random sample of a model's answers: of a candidate's, and each week's.

Invariants:
* The sample follows from the digest of the scores. Every canary is an artifact of its own, so that
  every week has a sample of its own.
* Shown is what was asked: the input comes from the very golden set that the scores were made from.
"""

from typing import Any

from ftdm_assets.dataset_settings import SignOffSettings
from ftdm_assets.graph.evidence import GOLDEN, made_from
from ftdm_assets.graph.plan import CheckPlan, Reading
from ftdm_assets.graph.sign_off import Subject, check
from ftdm_assets.model_folder import ModelFolder
from ftdm_assets.provenance.store import StoreError, with_digest
from ftdm_assets.records.review import ANSWERS, ReviewError
from golden.statistics import exact

CHECK = "answers_reviewed"


def answers_in(reading: Reading, asset: str) -> list[dict[str, Any]]:
    """Return the answers of the current scores: input, expected, answered, each with its digest."""
    golden = next(ref for ref in reading.manifest(asset).inputs if ref.asset == GOLDEN)
    made = reading.store.manifest(reading.model.name, golden.asset, golden.manifest)
    asked = reading.store.read_records(made.kind, made.digest)
    inputs = {row["example_id"]: row["input"] for row in asked}
    return [
        with_digest(
            {
                "record_id": row["example_id"],
                "input": inputs[row["example_id"]],
                "expected": row["expected"],
                "answered": row["predicted"],
            }
        )
        for row in reading.document(asset)["task"]["per_example"]
    ]


def terms(model: ModelFolder) -> SignOffSettings:
    """Return size of the sample and level: by itself as many errors as the target leaves."""
    asked, gates = model.settings.answer_review, model.settings.gates
    extraction = model.settings.task.kind == "extraction"
    target = gates.target_exact_match if extraction else gates.target_accuracy
    share = asked.maximum_error_share
    return SignOffSettings(
        sample=asked.sample,
        required=asked.required,
        maximum_error_share=float(1 - exact(target)) if share is None else share,
    )


def _subject(asset: str, of: str, remedy: str) -> Subject:
    return Subject(
        asset=asset,
        check=CHECK,
        description=f"A person has looked at a random sample of {of} and accepts them.",
        remedy=remedy,
        flags=f"--answers --of {asset}",
        form=ANSWERS,
        rows=lambda reading: answers_in(reading, asset),
        terms=terms,
        against=lambda reading: {GOLDEN: made_from(reading, asset, GOLDEN)},
    )


SUBJECTS = {
    one.asset: one
    for one in (
        _subject("eval_scores", "the candidate's answers", "train on better labels"),
        _subject("canary_scores", "this week's answers", "go back a version, or retrain"),
    )
}


def answers_check(model: ModelFolder, asset: str) -> CheckPlan:
    """Return the check that asks for a look at the answers in an asset's scores."""
    return check(model, SUBJECTS[asset])


def subject_of(reading: Reading, asset: str | None) -> Subject:
    """Return the scores whose answers are to be looked at: those named, else the newest.

    Raises:
        ReviewError: if the asset has no answers.
        StoreError: if nothing was scored yet.
    """
    if asset is not None:
        if asset not in SUBJECTS:
            raise ReviewError(f"--of: {asset} has no answers; use one of {', '.join(SUBJECTS)}")
        return SUBJECTS[asset]
    made = {name: time for name in SUBJECTS if (time := _made_at(reading, name))}
    if not made:
        name = reading.model.name
        raise StoreError(f"{name} has no scores yet, so no answers; `ftdm run {name}` makes them")
    return SUBJECTS[max(made, key=lambda name: made[name])]


def _made_at(reading: Reading, asset: str) -> str:
    try:
        return str(reading.manifest(asset).run.get("finished_at", ""))
    except StoreError:
        return ""
