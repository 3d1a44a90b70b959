"""Texts in a house style through the stages that need no training, and through gates and canary."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers

from ftdm_assets.commands.report import _scores_told
from ftdm_assets.graph.plan import Built
from ftdm_assets.graph.prediction import examples_of, task_scores
from ftdm_assets.graph.prompt_questions import questions_of
from ftdm_assets.graph.task_view import task_view
from ftdm_assets.model_folder import ModelFolder, task_kind
from golden.exam import make_exam, settings_of_defs
from golden.generation import Generation
from tests.commands.helpers import jsonl
from tests.golden.endpoint import serve
from tests.graph.stage import Stage

TASK = {
    "kind": "generation",
    "instruction": "Answer the customer in our house style.",
    "required_phrases": ["Kind regards"],
    "forbidden_phrases": ["no idea"],
    "maximum_words": 20,
}
THINGS = ["lamp", "kettle", "router", "jacket", "printer", "bicycle", "charger", "heater"]
END = "<|end|>"
FAMILY = {
    "family": "Tiny", "known": True, "warnings": [], "end_of_turn": END, "target_modules": [],
    "template": "{{ @INSTRUCTION@ }} {{ messages[-1].content }}", "context_length": 512,
    "own_template": "the same", "probe": {},
}  # fmt: skip


def written(number: int) -> dict[str, Any]:
    """Return a letter and its answer; each is of words of its own."""
    thing = f"{THINGS[number % 8]}{number}"
    text = f"my {thing} broke after {number * 7919} days in room{number * 31} of house{number}"
    answer = f"We will replace your {thing} within {number % 5 + 2} days. Kind regards, the team"
    return {"id": f"r{number}", "text": text, "answer": answer, "labelled_by": "ann"}


def rows() -> list[dict[str, Any]]:
    """Return labels of which some break the style, and some say one thing in two ways."""
    found = [written(n) for n in range(60)]
    found[3]["answer"] = "We will replace it."
    found[4]["answer"] = "We have no idea. Kind regards"
    found[5]["answer"] = f"{'very ' * 30}sorry. Kind regards"
    found[6]["answer"] = "Write to jane.doe@example.com. Kind regards"
    again = found[7] | {"id": "again", "labelled_by": "bob"}
    return [*found, again | {"answer": "A new one is on its way. Kind regards"}]


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    """The stages up to the training set, on a base model that is a tokenizer and a template."""
    home = tmp_path_factory.mktemp("generation")
    folder = home / "demo"
    folder.mkdir()
    (folder / "labels.jsonl").write_text(jsonl(rows()))
    (folder / "golden.jsonl").write_text(
        jsonl([written(n) | {"required": ["replace"]} for n in range(100, 108)])
    )
    stage = Stage(home, task=TASK, golden={"path": "golden.jsonl", "verified_by": "jane"})
    for name in ("raw_labels", "golden_set", "cleaned_dataset"):
        stage.build(name)
    tokenizer = Tokenizer(models.WordLevel({"?": 0}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens([AddedToken(END)])
    (home / "base").mkdir()
    tokenizer.save(str(home / "base" / "tokenizer.json"))
    (home / "base" / "family.json").write_text(json.dumps(FAMILY))
    stage.put("base_model", Built(stage.reading.store.put_folder("base_model", home / "base")))
    stage.build("training_set")
    return stage


PASSING = [
    ("raw_labels", "schema"),
    ("golden_set", "outputs_keep_style"),
    ("cleaned_dataset", "ledger_complete"),
    ("cleaned_dataset", "no_duplicates"),
    ("cleaned_dataset", "no_golden_overlap"),
    ("cleaned_dataset", "outputs_keep_style"),
    ("cleaned_dataset", "personal_data"),
    ("training_set", "trains_to_end_of_turn"),
    ("training_set", "answers_fit"),
    ("training_set", "rendered_from_records"),
]


@pytest.mark.parametrize(("asset", "check"), PASSING, ids=lambda part: part)
def test_checks_pass_on_what_was_built(stage: Stage, asset: str, check: str) -> None:
    outcome = stage.judge(asset, check)
    assert outcome.passed, outcome.reason


def test_what_breaks_the_style_is_named_and_dropped(stage: Stage) -> None:
    found = stage.judge("raw_labels", "outputs_keep_style")
    assert not found.passed
    assert "row 4, output: 'Kind regards' is missing; correct it at the source" in found.reason
    assert found.measured["wrong"] == 3
    ledger = stage.reading.attached_records("cleaned_dataset", "ledger")
    wrong = {row["record_id"] for row in ledger if row["reason"] == "wrong_output"}
    assert wrong == {"r3", "r4", "r5"}
    (masked,) = (
        row for row in stage.reading.records("cleaned_dataset") if row["record_id"] == "r6"
    )
    assert "jane.doe" not in masked["output"]
    assert masked["output"].endswith("Kind regards")


def test_two_texts_for_one_letter_do_not_contradict(stage: Stage) -> None:
    facts = stage.reading.manifest("cleaned_dataset").facts
    assert facts["dropped"] == {"exact_duplicate": 1, "wrong_output": 3}
    assert facts["to_review"] == 0
    assert facts["suspects"] == 0


def test_no_agreement_and_no_label_errors_are_asked_of_texts(stage: Stage) -> None:
    names = {check.name for check in stage.graph.checks}
    assert not names & {"agreement", "suspected_label_errors", "class_floor", "labels_in_taxonomy"}
    assert stage.reading.manifest("raw_labels").facts["alpha"] is None


def scored(stage: Stage, answers: dict[str, str | None]) -> dict[str, Any]:
    asked = {f"golden:{key}": text for key, text in answers.items()}
    model = stage.graph.model
    return task_scores(examples_of(stage.reading), asked, model.task_kind()).as_dict()


def test_gates_judge_texts(stage: Stage) -> None:
    examples = examples_of(stage.reading)
    answers: dict[str, str | None] = {e.example_id: e.output for e in examples}
    task = scored(stage, answers)
    assert (task["correct"], task["rouge_l"]) == (8, 1.0)
    answers["r100"] = "We will repair it. Kind regards"
    answers["r101"] = None
    task = scored(stage, answers)
    problems = {row["example_id"]: row["problems"] for row in task["per_example"]}
    assert problems["r100"] == ("'replace' is missing",)
    stage.put("merged_model", Built(stage.reading.store.put_document("model", {})))
    document = {"task": task, "general": {}}
    stage.put("eval_scores", Built(stage.reading.store.put_document("scores", document)))
    assert stage.judge("eval_scores", "target_reached").passed
    assert not stage.judge("eval_scores", "answers_pass").passed
    assert not stage.judge("eval_scores", "output_valid").passed
    view = task_view(stage.graph.model)
    assert float(view.score(task)) == pytest.approx(task["rouge_l"])
    pictures = view.pictures(task, {"prompted": task})
    assert {title: png[1:4] for title, png in pictures.items()} == {
        "lengths of the answers": b"PNG", "scores": b"PNG",
    }  # fmt: skip
    needed = stage.judge("golden_set", "power").measured["needed"]
    assert set(needed) == {"answers_pass", "not_worse_than_production"}


def test_the_baseline_is_told_the_style_and_some_answers(stage: Stage) -> None:
    records = stage.reading.records("cleaned_dataset")
    questions = questions_of(stage.reading, records)
    form = questions.form("structured_outputs")
    (prompt,) = set(questions.systems(form).values())
    assert form.body == {}
    for told in ("Say: Kind regards", "Never say: no idea", "Write at most 20 words."):
        assert told in prompt
    assert prompt.count("Answer: ") == 4


def test_pytest_golden_scores_as_the_graph_does(stage: Stage) -> None:
    model = stage.graph.model
    defs = model.folder / "defs.yaml"
    attributes = {
        "task": TASK,
        "golden": {"path": "golden.jsonl"},
        "gates": {"target_rouge_l": 0.6},
    }
    defs.write_text(yaml.safe_dump({"attributes": attributes}))
    exam = make_exam(settings_of_defs(defs))
    assert exam.kind == model.task_kind()
    assert exam.max_tokens == model.settings.task.max_new_tokens == 256
    assert exam.gates[0].threshold == {"target_rouge_l": 0.6}


def test_a_judge_is_asked_with_its_key_and_its_verdicts_are_kept(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUDGE", "secret-key")
    answers: dict[str, str | None] = {e.example_id: e.output for e in examples_of(stage.reading)}
    said = iter(["yes", *["no"] * 7])
    with serve(lambda _: next(said), key="secret-key") as url:
        judge = {"url": url, "model": "large", "key_env": "JUDGE"}
        judged = Stage(tmp_path, task={**TASK, "judge": judge}).graph.model
        config = judged.task_config()
        task = task_kind(config).score(examples_of(stage.reading), answers).as_dict()
    assert "secret-key" not in json.dumps(config)
    assert (task["judged_good"], task["correct"]) == (1, 1)
    assert [row["judged"] for row in task["per_example"]].count(False) == 7
    with serve(lambda _: "perhaps", key="secret-key") as url:
        silent = task_kind({**config, "judge": {**config["judge"], "url": url}})
        asked = {f"golden:{key}": text for key, text in answers.items()}
        with pytest.raises(ValueError, match="the judge answered 'perhaps'"):
            task_scores(examples_of(stage.reading), asked, silent)


def test_the_report_names_the_likeness() -> None:
    scores = {"accuracy": 0.5, "rouge_l": 0.61, "examples": 8, "prompted_accuracy": 0.25}
    assert _scores_told(scores).endswith("ROUGE-L 0.610")


def test_a_style_kept_in_a_manifest_makes_the_same_kind(stage: Stage) -> None:
    model: ModelFolder = stage.graph.model
    stored = json.loads(json.dumps(model.task_config()))
    assert task_kind(stored) == model.task_kind()
    assert isinstance(model.task_kind(), Generation)
