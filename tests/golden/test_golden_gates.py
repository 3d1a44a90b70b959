"""The gates: exact at the threshold, each kind's own, and when one model is better than another."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from golden.examples import Example
from golden.extraction import Extraction
from golden.gates import better, every_class, fields_right, needs_told, not_worse
from golden.generation import Generation
from golden.json_schema import AnswerSchema
from golden.metrics import Classification
from golden.standard_gates import Levels, standard_gates
from golden.tasks import Scores, TaskKind

LABELS = ["a", "b", "c"]
TASK = Classification(LABELS, abstain_label="unsure")


def scored(right: list[bool], wrong: str = "nonsense") -> dict[str, Any]:
    examples = [Example(f"e{n:03d}", str(n), LABELS[n % 3], "") for n in range(len(right))]
    answers = {
        e.example_id: e.output if ok else wrong for e, ok in zip(examples, right, strict=True)
    }
    return TASK.score(examples, answers).as_dict()


def gate(kind: TaskKind[Scores], name: str, task: dict[str, Any], **levels: Any) -> Any:
    [found] = [g for g in standard_gates(kind, Levels(**levels)) if g.name == name]
    return found.judge(task)


@given(st.integers(1, 60), st.integers(0, 60), st.integers(0, 100))
def test_a_target_is_reached_exactly(total: int, correct: int, percent: int) -> None:
    correct = min(correct, total)
    task = scored([n < correct for n in range(total)])
    judged = gate(TASK, "target_reached", task, target_accuracy=percent / 100)
    assert judged.passed == (100 * correct >= percent * total)


def test_abstaining_is_told_apart_from_answering_wrong() -> None:
    examples = [Example(f"e{n}", str(n), "a", "") for n in range(5)]
    answers = {"e0": "a", "e1": "unsure", "e2": " ", "e3": None, "e4": "b"}
    scores = TASK.score(examples, answers)
    assert (scores.correct, scores.invalid, scores.abstained) == (1, 2, 3)
    plain = Classification(LABELS).score(examples, answers)
    assert (plain.correct, plain.invalid, plain.abstained) == (1, 3, 2)
    judged = gate(TASK, "output_valid", scores.as_dict(), output_valid=0.6)
    assert judged.passed
    assert judged.reason == "2 of 5 answers are no label of the taxonomy; 3 abstained"
    assert not gate(TASK, "output_valid", scores.as_dict(), output_valid=0.61).passed


def test_a_class_floor_can_be_corrected_for_the_number_of_classes() -> None:
    # 2 of 4 examples of class b are right.
    task = scored([n % 3 != 1 or n < 6 for n in range(12)])
    assert task["per_class"]["b"]["recall"] == 0.5
    plain = every_class(task, 0.7, "none", 0.05)
    assert not plain.passed
    assert plain.measured == {"below": {"b": 0.5}}
    assert plain.reason == "1 of 3 classes are below a recall of 70%: b 50%"
    corrected = every_class(task, 0.7, "holm", 0.05)
    assert corrected.passed
    assert "corrected by Holm" in corrected.reason


def test_a_threshold_without_a_correction_is_recorded_as_it_always_was() -> None:
    plain, corrected = (
        next(g for g in standard_gates(TASK, levels) if g.name == "class_floor").threshold
        for levels in (Levels(), Levels(class_floor_correction="holm"))
    )
    assert plain == {"minimum_recall": 0.5}
    assert corrected == {"minimum_recall": 0.5, "correction": "holm", "alpha": 0.05}


def test_not_worse_is_exact_at_the_margin() -> None:
    before = scored([True] * 80 + [False] * 20)
    after = scored([True] * 75 + [False] * 25)
    assert not_worse(before, after, 5).passed
    judged = not_worse(before, after, 4.9)
    assert not judged.passed
    assert judged.reason.startswith("-5.0 points against production on the same 100 examples")


def test_better_asks_for_more_than_not_worse() -> None:
    before = scored([n % 4 != 0 for n in range(100)])
    hardly = scored([n % 4 != 0 or n < 8 for n in range(100)])
    surely = scored([n % 4 != 0 or n < 60 for n in range(100)])
    assert not better(TASK, before, hardly, 0.05, 1).passed
    judged = better(TASK, before, surely, 0.05, 1)
    assert judged.passed, judged.reason
    assert judged.measured["gained"] == 15
    assert not better(TASK, surely, before, 0.05, 1).passed
    assert not better(TASK, before, before, 0.05, 1).passed


def test_the_gates_of_an_extraction() -> None:
    task = Extraction(AnswerSchema({"type": "object"}))
    examples = [Example(f"e{n}", str(n), '{"a":1,"b":2}', "") for n in range(4)]
    answers = {"e0": '{"b":2,"a":1}', "e1": '{"a":1}', "e2": "[]", "e3": '{"a":1,"b":2}'}
    document = task.score(examples, answers).as_dict()
    # 5 hits, 8 expected, 5 predicted.
    assert fields_right(document, 0.7692).passed
    assert not fields_right(document, 0.77).passed
    assert gate(task, "exact_match", document, target_exact_match=0.5).passed
    assert not gate(task, "exact_match", document, target_exact_match=0.51).passed
    judged = gate(task, "output_valid", document)
    assert judged.reason == (
        "1 of 4 answers are no JSON that keeps the schema; the first, e2: $: [] is not of type "
        "'object'"
    )
    worse = task.score(examples, {**answers, "e3": "{}"}).as_dict()
    assert not better(task, worse, document, 0.05, 1).passed


def test_the_gates_of_generated_texts() -> None:
    task = Generation(maximum_words=3)
    document = task.score([Example("e0", "i", "a b", "")], {"e0": "a b c d"}).as_dict()
    names = {g.name: g.judge(document).passed for g in standard_gates(task, Levels())}
    assert names == {"target_reached": True, "answers_pass": False, "output_valid": False}


def test_a_golden_set_that_is_too_small_is_told_the_size() -> None:
    assert needs_told([("target", 100), ("floor", 50)], 100, "verify more").passed
    judged = needs_told([("target", 100), ("floor", 50)], 99, "verify more")
    assert not judged.passed
    assert judged.reason == "99 golden examples; needed: target 100, floor 50; verify more"


def test_an_unknown_kind_is_refused() -> None:
    class Odd:
        name, headline = "odd", "odd"

    with pytest.raises(ValueError, match="no kind of task 'odd'"):
        standard_gates(Odd(), Levels())  # type: ignore[arg-type]
