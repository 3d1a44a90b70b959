"""Scores of free text: likeness to the reference, length, phrases, and a judge if there is one.

Invariants:
* An answer is right when it passes every test that is asked of it, and each failed one is named.
* The judge never sees more than input, reference and answer, and cannot make a failed test good.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from golden.examples import Example
from golden.rouge import rouge_l, words
from golden.tasks import Answers, Counts, Document, require_answers, rows_of

Judge = Callable[[Sequence[Example], Answers], Mapping[str, bool]]


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
    """Each input is answered by a text; lengths are in words."""

    minimum_rouge_l: float = 0.0
    minimum_words: int = 1
    maximum_words: int | None = None
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
        form = self._problems_of_form(length)
        problems = [*form, *_phrases(example, answer)]
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

    def _problems_of_form(self, length: int) -> list[str]:
        if length < max(self.minimum_words, 1):
            return [f"{length} words, at least {max(self.minimum_words, 1)} asked for"]
        if self.maximum_words is not None and length > self.maximum_words:
            return [f"{length} words, at most {self.maximum_words} allowed"]
        return []


def _phrases(example: Example, answer: str) -> list[str]:
    said = _plain(answer)
    missing = [
        f"{phrase!r} is missing" for phrase in example.required if _plain(phrase) not in said
    ]
    banned = [f"{phrase!r} is forbidden" for phrase in example.forbidden if _plain(phrase) in said]
    return missing + banned


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())
