"""Scores of free text: likeness to the reference, length, phrases, and a judge if there is one.

Invariants:
* An answer is right when it passes every test that is asked of it, and each failed one is named.
* The judge never sees more than input, reference and answer, and cannot make a failed test good.
* The house style is asked of every answer; an example may ask for phrases of its own beside it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from golden.examples import Example
from golden.rouge import rouge_l, words
from golden.tasks import Answers, Counts, Document, require_answers, rows_of

Judge = Callable[[Sequence[Example], Answers], Mapping[str, bool]]
TEXT_TOKENS = 256


@dataclass(frozen=True)
class GenerationExample:
    """How one example was answered; ``problems`` says which tests it failed.

    ``judged`` is None where no judge was asked.
    """

    example_id: str
    expected: str
    predicted: str | None
    correct: bool
    valid: bool
    rouge_l: float
    words: int
    judged: bool | None
    problems: tuple[str, ...]


@dataclass(frozen=True)
class GenerationScores:
    """Scores of one model on one set.

    Attributes:
        accuracy: the share of answers that pass every test.
        rouge_l: the mean over the examples.
        invalid: how many answers are empty or of a length out of bounds.
    """

    accuracy: float
    correct: int
    total: int
    rouge_l: float
    invalid: int
    judged_good: int | None
    per_example: tuple[GenerationExample, ...]

    @property
    def headline(self) -> float:
        """Return the mean ROUGE-L."""
        return self.rouge_l

    def as_dict(self) -> dict[str, Any]:
        """Return the scores as plain JSON values."""
        return asdict(self)

    def correctness(self) -> dict[str, bool]:
        """Return by example id whether it was answered right, for a paired test."""
        return {score.example_id: score.correct for score in self.per_example}


@dataclass(frozen=True)
class Generation:
    """Each input is answered by a text of the house style.

    Attributes:
        minimum_rouge_l: how like the reference an answer must be, 0-1.
        minimum_words: the least length of an answer; ``maximum_words`` is the most.
        required_phrases: what every answer must hold, whatever the case of the letters.
        forbidden_phrases: what none may hold.
    """

    minimum_rouge_l: float = 0.0
    minimum_words: int = 1
    maximum_words: int | None = None
    required_phrases: tuple[str, ...] = ()
    forbidden_phrases: tuple[str, ...] = ()
    judge: Judge | None = None
    name = "generation"
    headline = "rouge_l"

    def score(self, examples: Sequence[Example], predictions: Answers) -> GenerationScores:
        """Score answers by example id."""
        require_answers(examples, predictions)
        verdicts = self.judge(examples, predictions) if self.judge else None
        scores = tuple(
            self._score(e, predictions[e.example_id], (verdicts or {}).get(e.example_id))
            for e in examples
        )
        correct = sum(score.correct for score in scores)
        return GenerationScores(
            accuracy=correct / len(scores),
            correct=correct,
            total=len(scores),
            rouge_l=sum(score.rouge_l for score in scores) / len(scores),
            invalid=sum(not score.valid for score in scores),
            judged_good=None if verdicts is None else sum(verdicts.values()),
            per_example=scores,
        )

    def counts(self, document: Document) -> Counts:
        """Return for each example its ROUGE-L, and 1."""
        rows = [[row["rouge_l"], 1.0] for row in rows_of(document)]
        return np.array(rows, dtype=float).reshape(-1, 2)

    def headline_of(self, sums: Counts) -> Counts:
        """Return the mean ROUGE-L."""
        mean: Counts = sums[:, 0] / sums[:, 1]
        return mean

    def _score(
        self, example: Example, predicted: str | None, judged: bool | None
    ) -> GenerationExample:
        answer = (predicted or "").strip()
        length, likeness = len(words(answer)), rouge_l(example.output, answer)
        form = self._problems_of_length(length)
        required = dict.fromkeys((*self.required_phrases, *example.required))
        forbidden = dict.fromkeys((*self.forbidden_phrases, *example.forbidden))
        problems = [*form, *_phrases(required, forbidden, answer)]
        if likeness < self.minimum_rouge_l:
            problems.append(f"ROUGE-L {likeness:.2f}, {self.minimum_rouge_l} asked for")
        if judged is False:
            problems.append("the judge says no")
        return GenerationExample(
            example_id=example.example_id,
            expected=example.output,
            predicted=None if predicted is None else answer,
            correct=not problems,
            valid=not form,
            rouge_l=likeness,
            words=length,
            judged=judged,
            problems=tuple(problems),
        )

    def problems_of_style(self, text: str) -> list[str]:
        """Say what of the house style a text breaks."""
        phrases = _phrases(self.required_phrases, self.forbidden_phrases, text)
        return [*self._problems_of_length(len(words(text))), *phrases]

    def _problems_of_length(self, length: int) -> list[str]:
        if length < max(self.minimum_words, 1):
            return [f"{length} words, at least {max(self.minimum_words, 1)} asked for"]
        if self.maximum_words is not None and length > self.maximum_words:
            return [f"{length} words, at most {self.maximum_words} allowed"]
        return []


def style_of(task: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the ``task`` of a ``defs.yaml`` says of the house style."""
    names = {one.name for one in fields(Generation)} - {"judge"}
    return {name: task[name] for name in sorted(names) if task.get(name) is not None}


def generation_of(style: Mapping[str, Any], judge: Judge | None = None) -> Generation:
    """Return the kind of task of a house style, see `style_of`."""
    phrases = {name: tuple(style.get(name, ())) for name in _PHRASES}
    return Generation(**{**style, **phrases}, judge=judge)


_PHRASES = ("required_phrases", "forbidden_phrases")


def _phrases(required: Iterable[str], forbidden: Iterable[str], answer: str) -> list[str]:
    said = _plain(answer)
    missing = [f"{phrase!r} is missing" for phrase in required if _plain(phrase) not in said]
    banned = [f"{phrase!r} is forbidden" for phrase in forbidden if _plain(phrase) in said]
    return missing + banned


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())
