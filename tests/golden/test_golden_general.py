"""General questions: reading, requests for the likelihood of each choice, scoring."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from golden.examples import GoldenError
from golden.general import (
    Question,
    answer_text,
    likeliest,
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


def test_a_request_a_choice_asks_for_the_likelihood_of_the_whole_answer() -> None:
    rows = request_rows([OCEAN], "m", lambda prompt, answer: f"<user>{prompt}</user>{answer}<end>")
    assert [row["id"] for row in rows] == ["q2:0", "q2:1", "q2:2"]
    body = rows[2]["body"]
    assert rows[2]["path"] == "/v1/completions"
    assert body["prompt"].startswith("<user>Largest ocean?")
    assert body["prompt"].endswith("</user>Indian<end>")
    assert (body["prompt_logprobs"], body["add_special_tokens"]) == (0, False)


def told(*tokens: tuple[int, float]) -> dict[str, Any]:
    """A response that tells these prompt tokens and their log-probabilities, after a first."""
    rest = [{str(token): {"logprob": logprob, "rank": 1}} for token, logprob in tokens]
    return {"choices": [{"text": "x", "prompt_logprobs": [None, *rest]}]}


def test_the_likeliest_choice_a_byte_is_picked_and_what_all_share_does_not_count() -> None:
    # Rome, Paris: the shared token would favour the shorter answer if it counted.
    rome = told((7, -90.0), (1, -4.0), (9, -0.4))
    paris = told((7, -90.0), (2, -4.0), (3, -0.4), (9, -0.1))
    assert likeliest(PARIS, [rome, paris]) == 1
    # One answer is the beginning of another: its end of turn tells them apart.
    begins = Question("q4", "?", ("a", "a b"), 0, "x")
    short, long = told((7, -1.0), (9, -3.0)), told((7, -1.0), (5, -0.5), (9, -0.5))
    assert likeliest(begins, [short, long]) == 1
    # Equal ones: the first.
    assert likeliest(begins, [told((7, -1.0)), told((7, -1.0))]) == 0


@given(st.lists(st.lists(st.floats(-20, 0), min_size=1, max_size=5), min_size=2, max_size=5))
def test_the_pick_is_the_best_mean_whatever_the_question_before_it(rows: list[list[float]]) -> None:
    question = Question("q", "?", tuple(f"answer {n}" for n in range(len(rows))), 0, "x")
    responses = [
        told((1, -5.0), (2, -7.0), *((100 * n + at, value) for at, value in enumerate(row, 10)))
        for n, row in enumerate(rows)
    ]
    means = [sum(row) / len(question.choices[n].encode()) for n, row in enumerate(rows)]
    assert means[likeliest(question, responses)] == max(means)


@pytest.mark.parametrize(
    "response", [{}, {"choices": []}, {"choices": [{"text": "x"}]},
                 {"choices": [{"prompt_logprobs": [None, {}]}]}],
)  # fmt: skip
def test_an_engine_that_tells_no_log_probabilities_is_named(response: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="tells no log-probabilities of the prompt"):
        likeliest(PARIS, [response, response])


def test_answers_are_taken_from_both_kinds_of_response() -> None:
    assert answer_text({"choices": [{"message": {"content": "A"}}]}) == "A"
    assert answer_text({"choices": [{"text": " B"}]}) == " B"
    assert answer_text({"choices": [{"message": {"content": None}}]}) == ""
    with pytest.raises(ValueError, match="no completion"):
        answer_text({"choices": []})


def test_scores_are_counted_by_subject() -> None:
    scores = score_general([PARIS, OCEAN, SUM], {"q1": 1, "q2": 2, "q3": 0})
    assert (scores.correct, scores.total) == (1, 3)
    assert scores.per_subject == {"arithmetic": (0, 1), "geography": (1, 2)}
    assert scores.per_example == {"q1": True, "q2": False, "q3": False}
    assert scores.as_dict()["accuracy"] == pytest.approx(1 / 3)


def test_a_question_that_was_not_asked_is_an_error() -> None:
    with pytest.raises(ValueError, match="1 of 2 questions have no answer, the first is q2"):
        score_general([PARIS, OCEAN], {"q1": 1})
    with pytest.raises(ValueError, match="0 of 0 questions"):
        score_general([], {})


@pytest.mark.skipif(not DATA.exists(), reason="the MMLU questions are not beside the repository")
def test_mmlu_is_read_whole() -> None:
    questions = read_questions(DATA)
    assert len(questions) == 1531
    scores = score_general(questions, {q.question_id: q.answer for q in questions})
    assert scores.accuracy == 1
    assert len(scores.per_subject) == 57
