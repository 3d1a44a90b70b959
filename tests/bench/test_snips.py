"""Snips becomes a domain model's folder that the project's own readers take as it is."""

import json
from pathlib import Path

import pytest
import rfc8785
import yaml
from jsonschema import Draft202012Validator

from bench.snips_extraction import answer, main, usable
from bench.snips_rows import SNIPS, Utterance
from ftdm_assets.records.contract import contract_problems
from ftdm_assets.sources.files import read_records
from golden.examples import read_examples


@pytest.mark.skipif(not SNIPS.exists(), reason="the data is not beside the repository")
def test_the_folder_holds_valid_labels_and_a_golden_set(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path)]) == 0
    folder = tmp_path / "snips"
    settings = yaml.safe_load((folder / "defs.yaml").read_text())["attributes"]
    schema = json.loads((folder / settings["task"]["schema"]).read_text())
    Draft202012Validator.check_schema(schema)
    validator = Draft202012Validator(schema)
    labels = read_records(folder / settings["labels"]["path"])
    assert contract_problems(labels) == []
    golden = read_examples(folder / settings["golden"]["path"])
    assert len(labels) > 13_000
    assert len(golden) > 650
    pairs = [*zip(labels["input"], labels["output"], strict=True)]
    pairs += [(example.input, example.output) for example in golden]
    for text, output in pairs:
        value = json.loads(output)
        assert validator.is_valid(value)
        assert rfc8785.dumps(value).decode() == output
        assert len(output) < settings["task"]["max_new_tokens"]
        assert all(" ".join(said.split()) in text for key, said in value.items() if key != "intent")
    assert "utterances are left out" in capsys.readouterr().out


def test_a_slot_twice_or_two_answers_to_one_text_are_left_out() -> None:
    once = Utterance("Play", "play  blue", (("track", "blue "),))
    twice = Utterance("Play", "blue or red", (("track", "blue"), ("track", "red")))
    other = Utterance("Play", "red", (("track", "red"),))
    against = Utterance("Play", "red", (("album", "red"),))
    kept, lost = usable([once, twice, other, against, once])
    assert [(one.text, answer(one)) for one in kept] == [
        ("play blue", {"intent": "Play", "track": "blue"})
    ]
    assert lost == 2


def test_wrong_usage_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "usage" in capsys.readouterr().err
