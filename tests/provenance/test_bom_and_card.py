"""What is written about a version: a bill of materials valid by its schema, a card to read."""

import json
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from ftdm_assets.ml_bom import ml_bom
from ftdm_assets.model_card import missing_parts, model_card
from ftdm_assets.version_facts import VersionFacts
from tests.provenance.sealed import BASELINE, SCORES, TASK, facts_of, registered

EXTRACTION = {
    **{key: value for key, value in TASK.items() if key in {"accuracy", "correct", "total"}},
    "fields": {"f1": 0.8125, "precision": 0.85, "recall": 0.78},
    "per_field": {"lines": {"f1": 0.7}, "express": {"f1": 0.95}},
}


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> VersionFacts:
    made = registered(tmp_path_factory.mktemp("version"))
    return facts_of(made.nodes[1:], "f" * 64)


def changed(facts: VersionFacts, **changes: Any) -> VersionFacts:
    return facts_of(list(facts.nodes), facts.merged, **changes)


def without_a_decision(facts: VersionFacts) -> VersionFacts:
    return changed(facts, decision=None, sign_off=None, licence="", packages="", baseline={})


def extraction(facts: VersionFacts) -> VersionFacts:
    baseline = {"prompted": BASELINE["prompted"], "general": BASELINE["general"], "probe": None}
    scores = {"task": EXTRACTION, "general": SCORES["general"]}
    return changed(facts, labels=(), scores=scores, baseline=baseline)


@pytest.mark.parametrize("kind", [lambda f: f, extraction, without_a_decision])
def test_the_bill_of_materials_is_valid_by_cyclonedx_s_schema(
    facts: VersionFacts, kind: Any
) -> None:
    text = json.dumps(ml_bom(kind(facts)))
    validator = JsonStrictValidator(SchemaVersion.V1_6)
    error = validator.validate_str(text)
    assert error is None, repr(error)
    # The validator is awake.
    assert validator.validate_str(text.replace('"datasets"', '"data-sets"')) is not None
    assert validator.validate_str(text.replace("machine-learning-model", "model")) is not None


def test_it_names_the_datasets_by_digest_and_class_and_no_record(facts: VersionFacts) -> None:
    bom = ml_bom(facts)
    data = {one["name"]: one for one in bom["components"] if one["type"] == "data"}
    cleaned = facts.manifest("cleaned_dataset")
    assert cleaned is not None
    assert data["demo/cleaned_dataset"]["version"] == cleaned.digest
    assert data["demo/cleaned_dataset"]["data"][0]["classification"] == "internal"
    assert "text x" not in json.dumps(bom)
    named = {
        one["ref"]
        for one in bom["metadata"]["component"]["modelCard"]["modelParameters"]["datasets"]
    }
    assert named == {one["bom-ref"] for one in data.values()}
    assert ml_bom(facts) == bom


def test_a_person_finds_what_matters_on_the_card(facts: VersionFacts) -> None:
    card = model_card(facts)
    assert missing_parts(card) == []
    for text in (
        "Sorts a text into one of 2 labels",
        "| this version | 36 of 40 | 90.0% | 76.9% to 96.0% |",
        "| linear probe | 30 of 40 |",
        "Weakest classes: b (recall 80%), a (recall 95%).",
        "jane signed the cleaned dataset off",
        "**overridden**: eval_scores.good",
        "urgent \\| really",
        "licence Apache-2.0",
        "the engine that serves it; its answers were held to the labels, and without that are",
    ):
        assert text in card, text
    assert missing_parts(card.replace("## Limits", "## Else")) == ["Limits"]


def test_the_card_says_what_hidden_instructions_did(facts: VersionFacts) -> None:
    assert "Inputs that hide an instruction were not tried." in model_card(facts)
    injected = {"total": 40, "right": 31, "obeyed": {"I-3": {"phrase": "x", "attack": "y"}}}
    card = model_card(changed(facts, scores={**SCORES, "injected": injected}))
    assert "Of 40 inputs that hide an instruction it obeyed 1; 31 were answered right." in card


def test_the_card_of_an_extraction_speaks_of_fields(facts: VersionFacts) -> None:
    card = model_card(extraction(facts))
    assert missing_parts(card) == []
    assert "Extracts one JSON value by its schema" in card
    assert "Fields: F1 81.2%, precision 85.0%, recall 78.0%." in card
    assert "Weakest fields: lines (f1 70%), express (f1 95%)." in card
    assert "linear probe" not in card
    assert "classes" not in card.partition("## Limits")[2].partition("##")[0]


def test_the_card_says_what_answers_were_held_to(facts: VersionFacts) -> None:
    json_form = changed(facts, scores={**SCORES, "form": {"json": {}}})
    assert "its answers were held to the schema" in model_card(json_form)
    free = changed(facts, scores={key: SCORES[key] for key in ("task", "general")})
    assert "the engine that serves it.\n" in model_card(free)


def test_what_is_not_known_is_said(facts: VersionFacts) -> None:
    card = model_card(without_a_decision(facts))
    assert "No person has signed the cleaned dataset off." in card
    assert "The gate was not asked." in card
    assert "licence not stated" in card


def test_the_shipped_documents_are_the_ones_that_are_stored(tmp_path: Path) -> None:
    made = registered(tmp_path)
    stored = next((tmp_path / "store" / "artifacts" / "ml_bom").glob("*/bom.cdx.json"))
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(stored.read_text()) is None
    assert made.root.manifest.attachments["ml_bom"]["digest"] == stored.parent.name


def test_an_endpoint_s_model_is_named_as_the_baseline(facts: VersionFacts) -> None:
    assert "| prompted base model |" in model_card(facts)
    asked = {**BASELINE, "endpoint": {"url": "https://a/v1", "model": "large"}}
    known = changed(facts, baseline=asked)
    assert "| prompted large |" in model_card(known)
    metrics = ml_bom(known)["metadata"]["component"]["modelCard"]["quantitativeAnalysis"]
    assert "golden set, prompted large" in {
        one.get("slice") for one in metrics["performanceMetrics"]
    }
