"""How a prompted model is told to answer, held to it, and read: leniently, but never by a guess."""

import json

import pytest

from ftdm_assets.graph.baseline import HeldBy, json_form, label_form

TAXONOMY = {"card": "Cards.", "fee": "", "end.": "Ends with a full stop."}
SHOTS = [{"input": "my card", "output": "card"}, {"input": "a fee", "output": "fee"}]
SCHEMA = {"type": "object", "properties": {"item": {"type": "string"}}}


def test_the_prompt_of_labels() -> None:
    form = label_form(TAXONOMY, "structured_outputs")
    assert form.prompt("Sort.", SHOTS) == (
        "Sort.\nAnswer with the category's name only.\n\nCategories:\n- card: Cards.\n- fee\n"
        "- end.: Ends with a full stop.\n\nExamples:\nText: my card\nCategory: card\n\n"
        "Text: a fee\nCategory: fee"
    )
    assert form.body == {"structured_outputs": {"choice": ["card", "fee", "end."]}}


def test_an_endpoint_is_held_to_the_labels_as_json() -> None:
    form = label_form(TAXONOMY, "response_format")
    prompt = form.prompt("Sort.", SHOTS[:1])
    assert 'Answer with JSON: {"category": "NAME"}.' in prompt
    assert prompt.endswith('Text: my card\nJSON: {"category": "card"}')
    asked = form.body["response_format"]
    assert (asked["type"], asked["json_schema"]["strict"]) == ("json_schema", True)
    schema = asked["json_schema"]["schema"]
    assert schema["properties"]["category"]["enum"] == list(TAXONOMY)
    assert schema["additionalProperties"] is False


def test_without_shots_there_are_no_examples() -> None:
    assert "Examples" not in label_form(TAXONOMY, "nothing").prompt("Sort.", [])


@pytest.mark.parametrize("held", ["structured_outputs", "response_format", "nothing"])
def test_json_answers_have_their_schema_in_the_prompt(held: HeldBy) -> None:
    form = json_form(json.dumps(SCHEMA), SCHEMA, held)
    prompt = form.prompt("Pull it out.", [{"input": "two nuts", "output": '{"item":"nut"}'}])
    assert prompt == (
        "Pull it out.\nAnswer with JSON only, by this JSON schema:\n"
        '{"type": "object", "properties": {"item": {"type": "string"}}}\n\nExamples:\n'
        'Text: two nuts\nJSON: {"item":"nut"}'
    )
    assert set(form.body) == ({held} if held != "nothing" else set())
    assert form.read('```json\n{"item": "nut"}\n```') == '{"item": "nut"}'
    assert form.read('{"item": "nut"}') == '{"item": "nut"}'
    assert form.read("```") == "```"


@pytest.mark.parametrize(
    ("answer", "meant"),
    [
        ("card", "card"),
        (" card \n", "card"),
        ("end.", "end."),
        ('{"category": "card"}', "card"),
        ('```json\n{"category": "fee"}\n```', "fee"),
        ("**card**.", "card"),
        ("Category: fee", "fee"),
        ('"fee"', "fee"),
    ],
)
def test_what_means_a_label_is_read_as_it(answer: str, meant: str) -> None:
    assert label_form(TAXONOMY, "nothing").read(answer) == meant


@pytest.mark.parametrize(
    "answer",
    ["", "Card", "card or fee", "It is a card", '{"category": 3}', '{"label": "card"}', "[1]"],
)
def test_what_means_none_stays_as_it_is(answer: str) -> None:
    assert label_form(TAXONOMY, "nothing").read(answer) == answer
