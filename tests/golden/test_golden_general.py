"""General questions: reading, requests that allow the choices only, scoring."""

import json
from pathlib import Path

import pytest

from golden.examples import GoldenError
from golden.general import (
    Question,
    answer_text,
    read_questions,
    request_rows,
    score_general,
)

DATA = Path(__file__).resolve().parents[3] / "shared/data/mmlu/validation.jsonl"
PARIS = Question("q1", "What is the capital of France?", ("Rome", "Paris"), 1, "geography")
OCEAN = Question("q2", "Largest ocean?", ("Pacific", "Arctic", "Indian"), 0, "geography")
SUM = Question("q3", "1 + 1?", ("1", "2"), 1, "arithmetic")


def test_questions_are_read(tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    row = {"question": "Largest ocean?", "choices": ["Pacific", "Arctic"], "answer": 0}
    path.write_text(json.dumps({**row, "id": "q9"}) + "\n" + json.dumps(row) + "\n")
    first, second = read_questions(path)
    assert first == Question("q9", "Largest ocean?", ("Pacific", "Arctic"), 0, "general")
    assert second.question_id.startswith("golden-")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"choices": ["one"]}, "choices must be a list of 2 to 10"),
        ({"choices": "AB"}, "choices must be a list"),
        ({"answer": 2}, "answer must be the index of a choice, 0 to 1"),
        ({"answer": True}, "answer must be the index"),
        ({"answer": "A"}, "answer must be the index"),
        ({"question": ""}, "question must be a text"),
    ],
)
def test_a_defect_is_named(tmp_path: Path, change: dict[str, object], message: str) -> None:
    row = {"question": "Q?", "choices": ["a", "b"], "answer": 0, **change}
    path = tmp_path / "q.jsonl"
    path.write_text(json.dumps(row))
    with pytest.raises(GoldenError, match=message):
        read_questions(path)


def test_a_repeated_question_is_refused(tmp_path: Path) -> None:
    row = json.dumps({"question": "Q?", "choices": ["a", "b"], "answer": 0})
    path = tmp_path / "q.jsonl"
    path.write_text(f"{row}\n{row}\n")
    with pytest.raises(GoldenError, match="row 2: a question again"):
        read_questions(path)


def test_requests_allow_nothing_but_a_choice() -> None:
    [chat] = request_rows([OCEAN], "m")
    assert (chat["id"], chat["path"]) == ("q2", "/v1/chat/completions")
    assert chat["body"]["structured_outputs"] == {"choice": ["Pacific", "Arctic", "Indian"]}
    assert chat["body"]["messages"][0]["content"].startswith("Largest ocean?")
    [plain] = request_rows([OCEAN], "m", render=lambda prompt: f"<user>{prompt}</user>")
    assert plain["path"] == "/v1/completions"
    assert plain["body"]["prompt"].startswith("<user>Largest ocean?")
    assert plain["body"]["add_special_tokens"] is False
    assert "messages" not in plain["body"]


def test_answers_are_taken_from_both_kinds_of_response() -> None:
    assert answer_text({"choices": [{"message": {"content": "A"}}]}) == "A"
    assert answer_text({"choices": [{"text": " B"}]}) == " B"
    assert answer_text({"choices": [{"message": {"content": None}}]}) == ""
    with pytest.raises(ValueError, match="no completion"):
        answer_text({"choices": []})


def test_scores_are_counted_by_subject() -> None:
    scores = score_general(
        [PARIS, OCEAN, SUM], {"q1": f" {PARIS.choices[PARIS.answer]} ", "q2": "Indian", "q3": None}
    )
    assert (scores.correct, scores.total, scores.invalid) == (1, 3, 1)
    assert scores.per_subject == {"arithmetic": (0, 1), "geography": (1, 2)}
    assert scores.per_example == {"q1": True, "q2": False, "q3": False}
    assert scores.as_dict()["accuracy"] == pytest.approx(1 / 3)


def test_a_question_that_was_not_asked_is_an_error() -> None:
    with pytest.raises(ValueError, match="1 of 2 questions have no answer, the first is q2"):
        score_general([PARIS, OCEAN], {"q1": "B"})
    with pytest.raises(ValueError, match="0 of 0 questions"):
        score_general([], {})


@pytest.mark.skipif(not DATA.exists(), reason="the MMLU questions are not beside the repository")
def test_mmlu_is_read_whole() -> None:
    questions = read_questions(DATA)
    assert len(questions) == 1531
    perfect = {q.question_id: q.choices[q.answer] for q in questions}
    scores = score_general(questions, dict(perfect))
    assert scores.accuracy == 1
    assert len(scores.per_subject) == 57
