"""General ability by multiple choice: how much a model forgot while it learned its own task.

Invariants:
* Nothing is generated. The answer is the choice whose text, up to its end of turn, the model finds
  likeliest after the question, by log-probability a byte (as lm-eval's `acc_norm` does for whole
  answers). So a score measures knowledge and not obedience to a format. (Very small models cannot
  map an answer to a letter: by letters they score at chance, and a drop could not be seen.)
* The same questions, prompt and choices are used before and after training.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from golden.examples import content_id
from golden.tables import GoldenError, field, read_rows, required_text

MOST_CHOICES = 10


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
    questions: Sequence[Question], model: str, render: Callable[[str, str], str]
) -> list[dict[str, Any]]:
    """Return one request a choice: ``{"id": QUESTION:NUMBER, "path", "body"}``.

    The engine is asked for the log-probabilities of the prompt's tokens (``prompt_logprobs`` of
    vLLM); the prompt is the question with this answer.

    Args:
        questions: what is asked.
        model: the name that the engine serves.
        render: question prompt and answer to the whole text, end of turn included. The served chat
            template does not do: its instruction belongs to the model's own task.
    """
    return [
        {
            "id": request_id(question, number),
            "path": "/v1/completions",
            "body": {
                "model": model,
                "prompt": render(question.prompt(), choice),
                "max_tokens": 1,
                "temperature": 0,
                "prompt_logprobs": 0,
                # The template has written the beginning-of-text token, where there is one.
                "add_special_tokens": False,
            },
        }
        for question in questions
        for number, choice in enumerate(question.choices)
    ]


def request_id(question: Question, number: int) -> str:
    """Return the id of the request for one choice."""
    return f"{question.question_id}:{number}"


def likeliest(question: Question, responses: Sequence[Mapping[str, Any]]) -> int:
    """Return the number of the choice that the model finds likeliest; the first of equals.

    Args:
        question: the question.
        responses: one completion response a choice.

    Raises:
        ValueError: if a response does not tell the prompt's log-probabilities.
    """
    told = [prompt_logprobs(response) for response in responses]
    # The question and what the answers begin with alike says nothing about which is likelier.
    ids = [[one.token for one in tokens] for tokens in told]
    shared = next(
        (at for at, column in enumerate(zip(*ids, strict=False)) if len(set(column)) > 1),
        min(map(len, ids)),
    )
    scores = [
        sum(one.logprob for one in tokens[shared:]) / len(choice.encode())
        for tokens, choice in zip(told, question.choices, strict=True)
    ]
    return scores.index(max(scores))


class TokenLogprob(NamedTuple):
    """A token of a prompt by its id: log-probability, and rank among all tokens (1: likeliest)."""

    token: str
    logprob: float
    rank: int | None


def prompt_logprobs(response: Mapping[str, Any]) -> list[TokenLogprob]:
    """Return what an engine tells of the prompt's tokens, but for the first, which has nothing.

    Raises:
        ValueError: if the response does not tell it.
    """
    try:
        _, *rest = response["choices"][0]["prompt_logprobs"]
        # With `prompt_logprobs` 0 a place tells of the prompt's own token and of no other.
        return [
            TokenLogprob(token, float(told["logprob"]), told.get("rank"))
            for ((token, told),) in (at.items() for at in rest)
        ]
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise ValueError(
            "the response tells no log-probabilities of the prompt; check that the engine is vLLM"
        ) from error


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


def score_general(questions: Sequence[Question], picked: Mapping[str, int]) -> GeneralScores:
    """Score the choices that were picked, by question id.

    Raises:
        ValueError: if there are no questions, or one has no choice.
    """
    missing = [q.question_id for q in questions if q.question_id not in picked]
    if missing or not questions:
        first = f", the first is {missing[0]}" if missing else ""
        raise ValueError(
            f"{len(missing)} of {len(questions)} questions have no answer{first}; ask them all"
        )
    per_example = {q.question_id: picked[q.question_id] == q.answer for q in questions}
    asked = Counter(q.subject for q in questions)
    right = Counter(q.subject for q in questions if per_example[q.question_id])
    correct = sum(per_example.values())
    return GeneralScores(
        accuracy=correct / len(questions),
        correct=correct,
        total=len(questions),
        per_subject={subject: (right[subject], asked[subject]) for subject in sorted(asked)},
        per_example=per_example,
    )
