"""A form that cannot write what is right to answer is found before anything is trained."""

import json
from pathlib import Path
from typing import Any

import pytest

from ftdm_assets.answer_form import form_of, problem_of, unwritable
from ftdm_assets.graph import evaluation
from ftdm_assets.graph.plan import Built, Outcome
from ftdm_assets.model_folder import load_model
from golden.extraction import canonical_output
from golden.json_schema import AnswerSchema
from golden.json_values import canonical_text
from tests.graph.stage import Stage

# Not in the order of the alphabet, one key optional: answers are canonical all the same.
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "to": {"type": ["string", "null"], "minLength": 1, "maxLength": 9},
        "lines": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"unit": {"enum": ["kg", "m"]}, "many": {"type": "integer"}},
                "required": ["unit", "many"],
                "additionalProperties": False,
            },
        },
        "price": {"type": "number"},
    },
    "required": ["to", "lines"],
    "additionalProperties": False,
}
RIGHT: list[Any] = [
    {"to": None, "lines": []},
    {"to": 'a "b"', "lines": [{"unit": "kg", "many": 3}, {"unit": "m", "many": -1}]},
    {"to": "ü\n\\\u0001€", "lines": [], "price": 1e21},
    {"to": "/", "lines": [], "price": 1e-7},
    {"to": "x", "lines": [], "price": 12.5},
]
FORM = form_of({"schema": SCHEMA, "constrained": True})


def stage(folder: Path, outputs: list[str], **settings: Any) -> Stage:
    (folder / "demo").mkdir()
    (folder / "demo" / "schema.json").write_text(json.dumps(SCHEMA))
    task = {"kind": "extraction", "instruction": "Extract.", "schema": "schema.json"}
    made = Stage(folder, **({"task": task} | settings))
    rows = [{"record_id": f"r{n}", "output": output} for n, output in enumerate(outputs)]
    golden = {"example_id": "g1", "input": "x", "output": outputs[0], "verified_by": "jane"}
    store = made.reading.store
    made.put("cleaned_dataset", Built(store.put_records("dataset", rows)))
    made.put("golden_set", Built(store.put_records("golden", [golden])))
    return made


def judge(made: Stage) -> Outcome:
    return made.judge("training_set", "form_can_be_kept")


def test_canonical_answers_keep_the_form_and_others_do_not() -> None:
    texts = [canonical_text(value) for value in RIGHT]
    assert unwritable(FORM, texts) == []
    # In the order of the file it could write none but the empty one.
    assert unwritable({"json": SCHEMA}, texts[1:])
    spaced = [json.dumps(value, sort_keys=True) for value in RIGHT]
    assert unwritable(FORM, spaced) == spaced
    assert unwritable(FORM, ["", "{}", texts[0][:-1], texts[0] + " "]) != []


@pytest.mark.parametrize(
    "label", ["a", "a_b", 'a "b"', "c\\d", "x|y", "[z]*", "é ü", "two\nlines", "#1: a/b"]
)
def test_labels_of_any_letters_can_be_written(label: str) -> None:
    form = form_of({"labels": ["a", label, "other"], "constrained": True})
    assert problem_of(form) == ""
    assert unwritable(form, [label, "other", "no"]) == ["no"]


def test_the_answer_for_i_do_not_say_is_one_too() -> None:
    config = {"labels": ["a", "b"], "abstain_label": "unsure", "constrained": True}
    assert form_of(config) == {"choice": ["a", "b", "unsure"]}
    assert form_of(config | {"abstain_label": "b"}) == {"choice": ["a", "b"]}


def test_scores_of_before_there_was_a_form_were_free() -> None:
    assert form_of({"labels": ["a", "b"]}) == form_of({"schema": SCHEMA}) == {}
    assert form_of({"style": {}, "constrained": False}) == {}


@pytest.mark.parametrize("name", ["support_tickets", "order_extraction"])
def test_what_the_scores_record_makes_the_form_again(name: str) -> None:
    model = load_model(name)
    (scores,) = (plan for plan in evaluation.assets(model) if plan.name == "eval_scores")
    recorded = json.loads(json.dumps(scores.config))
    assert json.dumps(form_of(recorded)) == json.dumps(model.answer_form()) != "{}"


def test_every_right_answer_of_the_shipped_orders_can_be_written() -> None:
    model = load_model("order_extraction")
    schema = AnswerSchema(model.schema())
    lines = [
        json.loads(line)["output"]
        for name in ("orders.jsonl", "golden.jsonl")
        for line in model.resolve(name).read_text(encoding="utf-8").splitlines()
    ]
    texts = [text for text, problem in (canonical_output(one, schema) for one in lines) if text]
    assert len(texts) > 1000
    assert unwritable(model.answer_form(), texts) == []


def test_the_check_passes_what_can_be_written(tmp_path: Path) -> None:
    # Cleaned records are canonical; the golden set is as a person wrote it.
    made = stage(tmp_path, [json.dumps(RIGHT[1], indent=1), canonical_text(RIGHT[2])])
    outcome = judge(made)
    assert outcome.passed, outcome.reason
    assert outcome.reason == "3 of 3 right answers keep the form"


def test_the_check_names_what_would_be_lost(tmp_path: Path) -> None:
    made = stage(
        tmp_path, [canonical_text(RIGHT[0]), canonical_text({"to": "far too long a name"})]
    )
    outcome = judge(made)
    assert not outcome.passed
    assert outcome.measured == {"lost": 1, "first": ["r1"]}
    assert "attributes.serving.constrained: false" in outcome.reason


def test_the_check_names_what_the_engine_does_not_know(tmp_path: Path) -> None:
    made = stage(tmp_path, [canonical_text(RIGHT[0])])
    path = made.graph.model.resolve("schema.json")
    other = SCHEMA["properties"] | {"lines": {"type": "array", "uniqueItems": True}}
    path.write_text(json.dumps(SCHEMA | {"properties": other}))
    outcome = judge(made)
    assert not outcome.passed
    assert 'schema.json (Unimplemented keys: ["uniqueItems"])' in outcome.reason


@pytest.mark.parametrize(
    "settings",
    [
        {"serving": {"constrained": False}},
        {"task": {"kind": "generation", "instruction": "Write."}},
    ],
)
def test_free_answers_have_no_such_check(tmp_path: Path, settings: dict[str, Any]) -> None:
    made = stage(tmp_path, ["{}"], **settings)
    assert made.graph.model.answer_form() == {}
    assert "form_can_be_kept" not in {check.name for check in made.graph.checks}
