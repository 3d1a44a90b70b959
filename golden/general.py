"""General ability by multiple choice: how much a model forgot while it learned its own task.

Invariants:
* A request lets the engine answer with nothing but the text of one of the choices, so a score
  measures knowledge and not obedience to a format. (Very small models cannot map an answer to a
  letter: by letters they score at chance, and a drop could not be seen.)
* The same questions, prompt and decoding settings are used before and after training.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from golden.examples import content_id
from golden.tables import GoldenError, field, read_rows, required_text

MOST_CHOICES = 10
_ANSWER_TOKENS = 48


@dataclass(frozen=True)
class Question:
    """One multiple-choice question; ``answer`` is the index of the right choice."""

    question_id: str
    question: str
    choices: tuple[str, ...]
    answer: int
    subject: str

    def prompt(self) -> str:
        """Return the question as a person would ask it; the choices are what may be answered."""
        return f"{self.question}\nAnswer in a few words."


@dataclass(frozen=True)
class GeneralScores:
    """Scores on general questions; ``per_example`` maps the question id to right or wrong."""

    accuracy: float
    correct: int
    total: int
    invalid: int
    per_subject: dict[str, tuple[int, int]]
    per_example: dict[str, bool]

    def as_dict(self) -> dict[str, Any]:
        """Return the scores as plain JSON values."""
        return asdict(self)


def read_questions(path: Path) -> list[Question]:
    """Read questions with the fields question, choices, answer (index) and subject.

    Raises:
        GoldenError: one sentence that names the file, the row and the remedy.
    """
    questions: dict[str, Question] = {}
    for number, row in read_rows(path):
        question = _question(path, number, row)
        if question.question_id in questions:
            raise GoldenError(f"{path}, row {number}: a question again; remove one of the two")
        questions[question.question_id] = question
    return list(questions.values())


def _question(path: Path, number: int, row: dict[str, Any]) -> Question:
    text = required_text(path, number, row, ("question",))
    choices, answer = field(row, ("choices",)), field(row, ("answer",))
    if not isinstance(choices, list) or not 2 <= len(choices) <= MOST_CHOICES:
        raise GoldenError(
            f"{path}, row {number}: choices must be a list of 2 to {MOST_CHOICES} texts"
        )
    if isinstance(answer, bool) or not isinstance(answer, int) or not 0 <= answer < len(choices):
        raise GoldenError(
            f"{path}, row {number}: answer must be the index of a choice, 0 to {len(choices) - 1}"
        )
    subject = str(field(row, ("subject",)) or "general")
    texts = tuple(str(choice) for choice in choices)
    given = field(row, ("question_id", "id"))
    question_id = (
        str(given) if given is not None else content_id("\n".join([subject, text, *texts]))
    )
    return Question(question_id, text, texts, answer, subject)


def request_rows(
    questions: Sequence[Question],
    model: str,
    *,
    render: Callable[[str], str] | None = None,
) -> list[dict[str, Any]]:
    """Return one request a question: ``{"id", "path", "body"}``.

    With ``render`` (question prompt → whole prompt text) the requests go to /v1/completions, past
    the served chat template, whose instruction belongs to the model's own task and not to these
    questions; without it they go to /v1/chat/completions.
    """
    return [_request(question, model, render) for question in questions]


def _request(question: Question, model: str, render: Callable[[str], str] | None) -> dict[str, Any]:
    body: dict[str, Any] = {
        "model": model,
        "temperature": 0,
        "max_tokens": _ANSWER_TOKENS,
        "structured_outputs": {"choice": list(question.choices)},
    }
    if render is None:
        body["messages"] = [{"role": "user", "content": question.prompt()}]
        path = "/v1/chat/completions"
    else:
        body["prompt"] = render(question.prompt())
        # The template has written the beginning-of-text token already, where there is one.
        body["add_special_tokens"] = False
        path = "/v1/completions"
    return {"id": question.question_id, "path": path, "body": body}


def answer_text(response: Mapping[str, Any]) -> str:
    """Return the answer of a chat completion or completion response.

    Raises:
        ValueError: if it is neither.
    """
    try:
        choice = response["choices"][0]
        content = choice["message"]["content"] if "message" in choice else choice["text"]
    except (KeyError, IndexError, TypeError) as error:
        raise ValueError("the response is no completion; check the engine's log") from error
    return "" if content is None else str(content)


def score_general(
    questions: Sequence[Question], answers: Mapping[str, str | None]
) -> GeneralScores:
    """Score answers by question id; anything but a choice's text is invalid, and wrong.

    Raises:
        ValueError: if there are no questions or an answer is missing (None says "no answer").
    """
    missing = [q.question_id for q in questions if q.question_id not in answers]
    if missing or not questions:
        first = f", the first is {missing[0]}" if missing else ""
        raise ValueError(
            f"{len(missing)} of {len(questions)} questions have no answer{first}; ask them all"
        )
    per_example: dict[str, bool] = {}
    right: Counter[str] = Counter()
    asked: Counter[str] = Counter()
    invalid = 0
    for question in questions:
        answer = (answers[question.question_id] or "").strip()
        invalid += answer not in {choice.strip() for choice in question.choices}
        correct = answer == question.choices[question.answer].strip()
        per_example[question.question_id] = correct
        right[question.subject] += correct
        asked[question.subject] += 1
    correct_count = sum(per_example.values())
    subjects = {subject: (right[subject], count) for subject, count in sorted(asked.items())}
    return GeneralScores(
        accuracy=correct_count / len(questions),
        correct=correct_count,
        total=len(questions),
        invalid=invalid,
        per_subject=subjects,
        per_example=per_example,
    )
