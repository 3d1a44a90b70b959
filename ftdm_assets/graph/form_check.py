"""The check that production can write what is right to answer: the form must not stand in its way.

A form that cannot write a right answer as it was trained turns it into a wrong one, silently.
"""

from ftdm_assets.answer_form import problem_of, unwritable
from ftdm_assets.graph import prediction
from ftdm_assets.graph.plan import CheckPlan, Outcome, Reading
from ftdm_assets.model_folder import ModelFolder
from ftdm_assets.provenance.digests import json_digest
from golden.json_values import canonical_text, parse_json

_SHOWN = 5


def form_check(model: ModelFolder) -> list[CheckPlan]:
    """Return the check; none where answers are free."""
    form = model.answer_form()
    if not form:
        return []
    return [
        CheckPlan(
            "training_set",
            "form_can_be_kept",
            "Held to the labels or the schema, the engine can write every right answer.",
            _judge,
            {"form": json_digest(form)},
        )
    ]


def _judge(reading: Reading) -> Outcome:
    model, form = reading.model, reading.model.answer_form()
    against = {name: reading.digest(name) for name in ("cleaned_dataset", "golden_set")}
    if problem := problem_of(form):
        text = f"the engine cannot hold answers to {model.settings.task.answer_schema} ({problem})"
        return Outcome(False, f"{text}; take that out of the schema, or {_OFF}", {}, against)
    answers = {row["record_id"]: row["output"] for row in reading.records("cleaned_dataset")}
    answers |= {one.example_id: one.output for one in prediction.examples_of(reading)}
    if "json" in form:
        answers = {key: canonical_text(parse_json(text)) for key, text in answers.items()}
    lost = set(unwritable(form, sorted(set(answers.values()))))
    named = sorted(key for key, text in answers.items() if text in lost)
    text = f"{len(answers) - len(named)} of {len(answers)} right answers keep the form"
    hint = f"; mend these, the schema, or {_OFF}" if named else ""
    return Outcome(not named, text + hint, {"lost": len(named), "first": named[:_SHOWN]}, against)


_OFF = "set attributes.serving.constrained: false"
