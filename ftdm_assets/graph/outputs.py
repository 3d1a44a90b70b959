"""What differs by the kind of task where labels are read and cleaned: labels, JSON, or texts.

Label errors and the balance of labels mean something for a classification only; for an extraction
the schema is checked instead, and the balance is that of the fields; for a generation it is the
house style, and how long the texts are.
"""

import contextlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from ftdm_assets import pictures
from ftdm_assets.graph.plan import CheckPlan, Outcome, Reading
from ftdm_assets.model_folder import ModelFolder
from ftdm_assets.provenance.digests import json_digest
from ftdm_assets.records.contract import Problem, unknown_labels
from ftdm_assets.records.structured import OutputForm, wrong_outputs
from golden.json_values import field_counts

_SHOWN = 5


def config(model: ModelFolder) -> dict[str, Any]:
    """Return what of the task decides which outputs are right."""
    if model.settings.task.kind == "extraction":
        return {"schema": model.schema()}
    if model.settings.task.kind == "generation":
        return {"style": model.style()}
    return {"labels": model.labels()}


def facts(frame: pd.DataFrame, model: ModelFolder) -> dict[str, Any]:
    """Say which outputs are no labels of the taxonomy, or break their form."""
    form = model.output_form()
    if form is None:
        found, name = unknown_labels(frame, model.labels()), "unknown_labels"
    else:
        found, name = wrong_outputs(frame, form), "wrong_outputs"
    return {name: len(found), f"first_{name}": [told(problem) for problem in found[:_SHOWN]]}


def classes(model: ModelFolder, rows: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Return how many labels a golden set has; nothing where there are none."""
    return {} if model.output_form() else {"classes": len({row["output"] for row in rows})}


def told(problem: Problem) -> str:
    """Return a problem as a person reads it."""
    return f"row {problem.row}, {problem.column}: {problem.reason}"


def raw_check(model: ModelFolder) -> CheckPlan:
    """Return the check of the raw snapshot's outputs."""
    form = model.output_form()
    if form is None:
        return CheckPlan("raw_labels", "labels_in_taxonomy", "Every label is known.", _taxonomy)
    return CheckPlan(
        "raw_labels",
        f"outputs_keep_{form.rule}",
        f"{_every(form)}; the cleaning drops the others.",
        _raw_keeps_form,
        severity="warn",
    )


def golden_check(model: ModelFolder) -> CheckPlan:
    """Return the check of the golden set's outputs."""
    form = model.output_form()
    if form is None:
        return CheckPlan(
            "golden_set", "labels_in_taxonomy", "Every label is known.", _golden_taxonomy
        )
    return CheckPlan(
        "golden_set",
        f"outputs_keep_{form.rule}",
        f"{_every(form)}.",
        _golden_keeps_form,
    )


def cleaned_check(model: ModelFolder) -> CheckPlan:
    """Return the check of the cleaned dataset's outputs."""
    maximum, form = model.settings.gates.suspected_label_errors, model.output_form()
    if form is None:
        return CheckPlan(
            "cleaned_dataset",
            "suspected_label_errors",
            "The labels are not too noisy to learn from.",
            lambda r: _label_errors(r, maximum),
            {"maximum_share": maximum},
        )
    return CheckPlan(
        "cleaned_dataset",
        f"outputs_keep_{form.rule}",
        f"{_every(form)}, in its one form.",
        _cleaned_keeps_form,
        {form.rule: json_digest(config(model)[form.rule])},
    )


def _every(form: OutputForm) -> str:
    return f"Every output is {form.what} that keeps the {form.rule}"


def balance(
    raw: pd.DataFrame, kept: Sequence[Mapping[str, Any]], form: OutputForm | None
) -> dict[str, bytes]:
    """Draw how many records each label has, or each field of JSON, or how long the texts are."""
    before, after = list(raw["output"]), [str(row["output"]) for row in kept]
    if form is None:
        return {"label balance": pictures.label_balance(Counter(before), Counter(after))}
    if not form.exclusive:
        return {"lengths of the texts": pictures.length_histogram([len(text) for text in after])}
    title = "Records that have a field"
    drawn = pictures.label_balance(_with_field(before, form), _with_field(after, form), title)
    return {"field balance": drawn}


def _with_field(outputs: Sequence[str], form: OutputForm) -> Counter[str]:
    found: Counter[str] = Counter()
    for output in outputs:
        with contextlib.suppress(ValueError):
            found.update(set(field_counts(form.read(output))))
    return found


def _place(reading: Reading) -> str:
    return str(reading.manifest("raw_labels").facts["source"])


def _taxonomy(reading: Reading) -> Outcome:
    facts = reading.manifest("raw_labels").facts
    measured = {"unknown": facts["unknown_labels"], "first": facts["first_unknown_labels"]}
    if facts["unknown_labels"]:
        first = facts["first_unknown_labels"][0]
        return Outcome(
            False,
            f"{_place(reading)}, {first} ({facts['unknown_labels']} in all)",
            measured,
        )
    return Outcome(True, "every label is in the taxonomy", measured)


def _raw_keeps_form(reading: Reading) -> Outcome:
    facts = reading.manifest("raw_labels").facts
    measured = {"wrong": facts["wrong_outputs"], "first": facts["first_wrong_outputs"]}
    if facts["wrong_outputs"]:
        first = facts["first_wrong_outputs"][0]
        text = f"{_place(reading)}, {first} ({facts['wrong_outputs']} in all)"
        return Outcome(False, text, measured)
    form = _form(reading)
    return Outcome(True, f"every output is {form.what} that keeps the {form.rule}", measured)


def _golden_taxonomy(reading: Reading) -> Outcome:
    known = set(reading.model.labels())
    unknown = [row for row in reading.records("golden_set") if row["output"] not in known]
    measured = {"unknown": len(unknown)}
    if unknown:
        first = unknown[0]
        return Outcome(
            False,
            f"golden example {first['example_id']} has the unknown label {first['output']!r} "
            f"({len(unknown)} in all); correct it or add the label to the taxonomy",
            measured,
        )
    return Outcome(True, "every golden label is in the taxonomy", measured)


def _golden_keeps_form(reading: Reading) -> Outcome:
    form = _form(reading)
    problems = {
        row["example_id"]: problem
        for row in reading.records("golden_set")
        if (problem := form.problem(row["output"]))
    }
    measured = {"wrong": len(problems), "first": list(problems)[:_SHOWN]}
    if problems:
        first, problem = next(iter(problems.items()))
        text = (
            f"golden example {first}: {problem} ({len(problems)} in all); correct it or the "
            f"{form.rule}"
        )
        return Outcome(False, text, measured)
    return Outcome(True, f"every golden output is {form.what} that keeps the {form.rule}", measured)


def _label_errors(reading: Reading, maximum: float) -> Outcome:
    facts = reading.manifest("cleaned_dataset").facts
    suspects = reading.attached_records("cleaned_dataset", "suspects")
    share = len(suspects) / max(int(facts["raw_rows"]), 1)
    text = f"{len(suspects)} of {facts['raw_rows']} labels are suspected wrong ({share:.1%})"
    hint = "" if share <= maximum else f", at most {maximum:.1%} allowed; review the suspects"
    return Outcome(share <= maximum, text + hint, {"suspects": len(suspects), "share": share})


def _cleaned_keeps_form(reading: Reading) -> Outcome:
    form, rows = _form(reading), reading.records("cleaned_dataset")
    bad = [
        row["record_id"]
        for row in rows
        if form.problem(row["output"]) or form.canonical(row["output"]) != row["output"]
    ]
    text = f"{len(bad)} of {len(rows)} kept outputs are not {form.what} that keeps the {form.rule}"
    return Outcome(not bad, text, {"records": len(bad), "first": bad[:_SHOWN]})


def _form(reading: Reading) -> OutputForm:
    form = reading.model.output_form()
    if form is None:
        raise ValueError(f"{reading.model.name} has labels, no form; its checks were exchanged")
    return form
