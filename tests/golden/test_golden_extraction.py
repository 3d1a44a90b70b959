"""Extraction: whole and field by field, by hand and by invariants; strict JSON; the schema."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from golden.examples import Example, GoldenError
from golden.extraction import Extraction, canonical_output
from golden.json_schema import AnswerSchema
from golden.json_values import canonical_text, field_counts, field_hits, parse_json

ITEM = {
    "type": "object",
    "properties": {"sku": {"type": "string"}, "quantity": {"type": "integer", "minimum": 1}},
    "required": ["sku", "quantity"],
    "additionalProperties": False,
}
ORDER = AnswerSchema(
    {
        "type": "object",
        "properties": {
            "customer": {"type": ["string", "null"]},
            "due": {"type": "string", "format": "date"},
            "items": {"type": "array", "items": ITEM},
        },
        "required": ["items"],
        "additionalProperties": False,
    }
)
TASK = Extraction(ORDER)


def example(value: Any, name: str = "e0") -> Example:
    return Example(name, f"text {name}", canonical_text(value), "ana")


def item(sku: str, quantity: int) -> dict[str, Any]:
    return {"sku": sku, "quantity": quantity}


def test_a_case_counted_by_hand() -> None:
    wanted = {"customer": "Ada", "items": [item("A", 1), item("B", 2)]}
    answers = {
        # Right, in another order of keys and with white space.
        "e0": json.dumps({"items": [item("A", 1), item("B", 2)], "customer": "Ada"}, indent=1),
        # One quantity wrong, the name missing: 3 of 5 fields hit, 4 predicted.
        "e1": json.dumps({"items": [item("A", 1), item("B", 3)]}),
        # Breaks the schema, and still has one right field of two.
        "e2": json.dumps({"customer": "Ada", "total": 3, "items": []}),
        "e3": "I cannot do that.",
        "e4": None,
    }
    scores = TASK.score([example(wanted, name) for name in answers], answers)
    assert (scores.correct, scores.total, scores.invalid, scores.no_json) == (1, 5, 3, 2)
    assert scores.accuracy == 0.2
    assert (scores.fields.hits, scores.fields.expected, scores.fields.predicted) == (9, 25, 11)
    assert scores.headline == scores.fields.f1 == pytest.approx(18 / 36)
    assert scores.per_field["items[].quantity"].hits == 3
    assert scores.per_field["total"].precision == 0
    problems = {row.example_id: row.problem for row in scores.per_example}
    assert problems["e0"] == problems["e1"] == ""
    assert "'total' was unexpected" in problems["e2"]
    assert problems["e3"].startswith("no JSON")
    assert json.loads(json.dumps(scores.as_dict()))["per_example"][4]["predicted"] is None


def test_the_order_of_a_list_costs_the_exact_match_but_no_field() -> None:
    wanted = {"items": [item("A", 1), item("B", 2), item("C", 1)]}
    turned = canonical_text({"items": wanted["items"][::-1]})
    scores = TASK.score([example(wanted)], {"e0": turned})
    assert (scores.correct, scores.fields.f1) == (0, 1)


def test_what_says_nothing_is_no_field() -> None:
    assert field_counts({"a": None, "b": [], "c": {}, "d": [None, 0, False, ""]}) == {"d[]": 3}
    scores = TASK.score(
        [example({"customer": None, "items": []})], {"e0": '{"items":[],"customer":null}'}
    )
    assert (scores.correct, scores.fields.expected, scores.fields.f1) == (1, 0, 1)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "Expecting value"),
        ('{"a": 1, "a": 2}', "the key 'a' occurs twice"),
        ("NaN", "NaN is not JSON"),
        ("1e999", "cannot be written as JSON"),
        ("[" * 50 + "]" * 50, "nested deeper than 40 levels"),
        ("[" * 100_000, "nested too deep"),
        ('"\\ud800"', "cannot be written as JSON"),
        ('```json\n{"a": 1}\n```', "Expecting value"),
    ],
)
def test_what_is_no_json_is_named(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse_json(text)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-99, 99) | st.sampled_from([0.5, 1.0]) | st.text("ab"),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text("xyz", min_size=1), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(json_values)
def test_a_value_agrees_with_itself_in_every_field(value: Any) -> None:
    assert field_hits(value, value) == field_counts(value)
    assert canonical_text(parse_json(canonical_text(value))) == canonical_text(value)


@given(json_values, json_values)
def test_hits_are_symmetric_and_never_more_than_there_are(one: Any, other: Any) -> None:
    hits = field_hits(one, other)
    assert hits.total() == field_hits(other, one).total()
    assert hits <= field_counts(one)
    assert hits <= field_counts(other)


@given(st.lists(st.tuples(json_values, json_values), min_size=1, max_size=6))
def test_the_stored_scores_hold_what_the_headline_sums_up(pairs: list[tuple[Any, Any]]) -> None:
    task = Extraction(AnswerSchema({}))
    examples = [example(pair[0], f"e{n}") for n, pair in enumerate(pairs)]
    answers = {f"e{n}": json.dumps(pair[1]) for n, pair in enumerate(pairs)}
    scores = task.score(examples, answers)
    sums = task.counts(scores.as_dict()).sum(axis=0)[None]
    assert task.headline_of(sums)[0] == pytest.approx(scores.headline)
    assert all(row.valid and (row.correct == (row.expected == row.predicted))
               for row in scores.per_example)  # fmt: skip


def test_a_wrong_golden_set_is_an_error() -> None:
    with pytest.raises(ValueError, match="e0 expects what is no JSON"):
        TASK.score([Example("e0", "t", "no", "")], {"e0": "{}"})
    with pytest.raises(ValueError, match=r"e0 expects what breaks the schema.*'items' is a requ"):
        TASK.score([example({})], {"e0": "{}"})
    with pytest.raises(ValueError, match="1 examples have no prediction"):
        TASK.score([example({"items": []})], {})


def test_an_output_is_made_canonical_or_its_problem_told() -> None:
    assert canonical_output(' {"items": [], "due": "2026-01-31"} ', ORDER) == (
        '{"due":"2026-01-31","items":[]}',
        "",
    )
    assert canonical_output('{"items": [], "due": "31 January"}', ORDER) == (
        "",
        "$.due: '31 January' is not a 'date'",
    )


def test_a_schema_fetches_nothing_and_is_checked_itself() -> None:
    with pytest.raises(GoldenError, match=r"refers to 'https://example\.org/x'.*nothing is fetch"):
        AnswerSchema({"properties": {"a": {"$ref": "https://example.org/x"}}})
    with pytest.raises(GoldenError, match="no valid JSON schema at"):
        AnswerSchema({"type": "thing"})
    within = AnswerSchema({"$defs": {"n": {"type": "integer"}}, "$ref": "#/$defs/n"})
    assert within.problem(3) == ""
    assert within.problem("3") == "$: '3' is not of type 'integer'"
