"""A person's look at a model's answers: a sample that nobody chooses, a gate, a trace."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ftdm_assets.commands.review import Wanted, review
from ftdm_assets.commands.trace import trace_document
from ftdm_assets.commands.verify import verify
from ftdm_assets.graph.answer_review import SUBJECTS, answers_in, terms
from ftdm_assets.graph.build import build_plan
from ftdm_assets.graph.evidence import decision
from ftdm_assets.graph.plan import GraphPlan, Reading
from ftdm_assets.graph.recipe import recipe_of
from ftdm_assets.graph.shell import judge, reading_of
from ftdm_assets.model_folder import load_model
from ftdm_assets.provenance.statements import Manifest
from ftdm_assets.provenance.store import Artifact, StoreError
from ftdm_assets.records.review import ReviewError, draw, seed_of
from ftdm_assets.settings import parse_settings
from golden.examples import Example
from golden.metrics import Classification
from tests.commands.helpers import jsonl
from tests.provenance.samples import manifest

DEFS = """\
type: ftdm_assets.DomainModel
attributes:
  name: demo
  task: {instruction: Sort., taxonomy: [a, b]}
  labels: {path: labels.jsonl}
  golden: {path: golden.jsonl}
  answer_review: {sample: 6, required: true, maximum_error_share: 0.2}
"""
EXAMPLES = [Example(f"e{n:02}", f"text {n}", "ab"[n % 2], "jane") for n in range(30)]
ANSWERED: dict[str, str | None] = {e.example_id: "a" for e in EXAMPLES} | {"e07": None}
MINUTE = "2026-11-24T00:{:02}:00+00:00"


@pytest.fixture
def graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> GraphPlan:
    """Return the graph of a model whose candidate was scored, with the gate of the answers."""
    folder = tmp_path / "models" / "demo"
    folder.mkdir(parents=True)
    (folder / "defs.yaml").write_text(DEFS)
    (folder / "golden.jsonl").write_text(jsonl([example.row() for example in EXAMPLES]))
    monkeypatch.setenv("FTDM_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("FTDM_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("FTDM_ACTOR", "jane")
    whole = build_plan(load_model("demo"))
    made = [whole.asset(name) for name in ("golden_set", "eval_scores", "canary_scores")]
    return replace(
        whole,
        assets=tuple(
            replace(plan, deps=("golden_set",) if plan.name in SUBJECTS else (), gate_deps=())
            for plan in made
        ),
        checks=tuple(check for check in whole.checks if check.name == "answers_reviewed"),
    )


@pytest.fixture
def reading(graph: GraphPlan) -> Reading:
    reading = reading_of(graph)
    golden = reading.store.put_records("golden", [example.row() for example in EXAMPLES])
    plan = graph.asset("golden_set")
    put(reading, "golden_set", golden, 1, recipe=recipe_of(plan, (), plan.sources(graph.model)))
    scored(reading, "eval_scores", 2)
    return reading


def put(
    reading: Reading, asset: str, artifact: Artifact, minute: int, *inputs: str, recipe: str = ""
) -> Manifest:
    heads = {name: reading.head(name) for name in inputs}
    made = manifest(
        asset, artifact.digest, kind=artifact.kind, recipe=recipe,
        finished_at=MINUTE.format(minute),
        inputs={name: of.digest for name, (_, of) in heads.items()},
        input_manifests={name: digest for name, (digest, _) in heads.items()},
    )  # fmt: skip
    reading.store.set_head("demo", asset, reading.store.add_manifest(made))
    return made


def scored(reading: Reading, asset: str, minute: int, *inputs: str, **more: Any) -> None:
    task = Classification(["a", "b"]).score(EXAMPLES, ANSWERED).as_dict()
    artifact = reading.store.put_document("scores", {"task": task, **more})
    put(reading, asset, artifact, minute, "golden_set", *inputs)


def wanted(**changes: Any) -> Wanted:
    given = {"by": None, "export": None, "filled_in": None, "accept_all": False, "refuse": False}
    return Wanted("demo", **{**given, "reason": "", "answers": True, **changes})


def verdict(graph: GraphPlan, asset: str = "eval_scores") -> Any:
    return judge(graph, next(one for one in graph.checks if one.asset == asset), "run-1")


def filled(file: Path, wrong: int) -> None:
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    for number, row in enumerate(rows):
        row["answer"] = "wrong" if number < wrong else "right"
    file.write_text(jsonl(rows))


def test_release_waits_until_a_person_accepts_the_answers(
    graph: GraphPlan, reading: Reading, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = verdict(graph).description
    assert "nobody" in told
    assert "`ftdm review demo --answers --of eval_scores` shows a random sample of 6" in told
    assert not decision(graph, reading, ("eval_scores",)).allowed
    file = tmp_path / "answers.jsonl"
    assert review(wanted(export=file), as_json=False) == 0
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    digest = reading.digest("eval_scores")
    drawn = draw(answers_in(reading, "eval_scores"), seed_of(digest), 6)
    assert [row["digest"] for row in rows] == [row["digest"] for row in drawn]
    by_id = {example.example_id: example for example in EXAMPLES}
    for row in rows:
        asked = by_id[row["record_id"]]
        assert (row["input"], row["expected"]) == (asked.input, asked.output)
        assert row["answered"] == ANSWERED[row["record_id"]]
        assert row["scores"] == digest
    filled(file, wrong=2)
    assert review(wanted(filled_in=file, by="jane"), as_json=False) == 1
    assert "refused by jane on 20" in verdict(graph).description
    assert not decision(graph, reading, ("eval_scores",)).allowed
    filled(file, wrong=1)
    assert review(wanted(filled_in=file, by="joe"), as_json=False) == 0
    # The verdict from before the word is stale; a new one lets the candidate on.
    assert not decision(graph, reading, ("eval_scores",)).allowed
    found = verdict(graph)
    assert found.passed
    assert found.metadata["by"].value == "joe"
    assert found.metadata["signed_at"].value
    assert decision(graph, reading, ("eval_scores",)).allowed
    # With another golden set other answers have to be looked at.
    golden_file = graph.model.resolve("golden.jsonl")
    kept = golden_file.read_text()
    golden_file.write_text(kept.replace("text 1", "text one"))
    assert not decision(graph, reading, ("eval_scores",)).allowed
    golden_file.write_text(kept)
    capsys.readouterr()
    assert verify("demo", False, None, as_json=True) == 0
    assert json.loads(capsys.readouterr().out)["sign_offs"] == 2


def test_the_newest_answers_are_shown_at_a_terminal_and_every_week_anew(
    graph: GraphPlan, reading: Reading, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    shown: list[str] = []
    typed = iter(["w", "too short", "?", *["r"] * 3, *["s"] * 2, "y"] * 2)

    def typing(question: str) -> str:
        shown.append(question)
        return next(typed)

    monkeypatch.setattr("builtins.input", typing)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    for week in (3, 4):
        scored(reading, "canary_scores", week, asked_at=MINUTE.format(week))
        assert "nobody" in verdict(graph, "canary_scores").description
        # One of the four that were judged is wrong, a fifth is allowed.
        assert review(wanted(), as_json=True) == 1
        told = capsys.readouterr()
        assert "answers of canary_scores" in told.err
        assert "expected: " in told.out
        predicate = json.loads(told.out[told.out.index("{\n") :])["predicate"]
        assert (predicate["by"], predicate["judged"], predicate["errors"]) == ("jane", 4, 1)
        assert predicate["answers"][0]["note"] == "too short"
        assert "refused by jane" in verdict(graph, "canary_scores").description
    assert shown[0] == "[r]ight, [w]rong, [s]kip? "
    assert len(reading.store.sign_offs("demo", "eval_scores", reading.digest("eval_scores"))) == 0


def test_a_trace_names_who_looked_at_the_answers(graph: GraphPlan, reading: Reading) -> None:
    given = {"accept_all": True, "by": "jane", "reason": "seen elsewhere"}
    assert review(wanted(**given), as_json=False) == 0
    version = reading.store.put_document("version", {"version": "demo-v0001"})
    made = put(reading, "registered_version", version, 3, "eval_scores")
    made = replace(made, facts={"version": "demo-v0001"})
    reading.store.set_head("demo", "registered_version", reading.store.add_manifest(made))
    deployed = reading.store.put_document("deployment", {"version": "demo-v0001"})
    put(reading, "deployed_version", deployed, 4, "registered_version")
    scored(reading, "canary_scores", 5, "deployed_version", asked_at=MINUTE.format(5))
    assert review(wanted(**given, of="canary_scores"), as_json=False) == 0
    document = trace_document(reading.store, "demo-v0001")
    (production,) = document["answer_reviews"]
    (candidate,) = next(n for n in document["ancestors"] if n["asset"] == "eval_scores")[
        "sign_offs"
    ]
    for one in (production, candidate):
        assert (one["by"], one["how"], one["judged"], one["errors"]) == ("jane", "accept_all", 6, 0)
        assert one["accepted"]
    assert production["digest"] == reading.digest("canary_scores")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"answers": False, "of": "canary_scores"}, "--of chooses among scores"),
        ({"of": "adapter", "export": Path("x")}, "adapter has no answers; use one of eval_scores"),
    ],
)
def test_what_cannot_be_shown_is_said(graph: GraphPlan, changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ReviewError, match=told):
        review(wanted(**changes), as_json=False)


def test_without_scores_there_is_nothing_to_look_at(graph: GraphPlan) -> None:
    with pytest.raises(StoreError, match="demo has no scores yet, so no answers; `ftdm run demo`"):
        review(wanted(export=Path("x")), as_json=False)


def test_as_many_errors_as_the_target_leaves_are_allowed(graph: GraphPlan) -> None:
    def level(**changes: Any) -> float:
        given = {**graph.model.settings.model_dump(by_alias=True, exclude_unset=True), **changes}
        model = replace(graph.model, settings=parse_settings(given, "test"))
        return terms(model).maximum_error_share

    assert level() == 0.2
    assert level(answer_review={}, gates={"target_accuracy": 0.9}) == 0.1
    assert not terms(
        replace(graph.model, settings=parse_settings(
            {"name": "demo", "task": {"instruction": "Sort.", "taxonomy": ["a"]},
             "labels": {"path": "x"}, "golden": {"path": "x"}}, "test"))
    ).required  # fmt: skip
