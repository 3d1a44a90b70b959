"""Scores of a classification, exact to the example.

Invariants:
* Every example is scored exactly once; an answer that is no label, or no answer, is wrong.
* An empty answer, and the label that stands for "I do not say", are counted as abstained beside
  that; only the label is also a valid answer.
* The scores carry what they were counted from: each example's expected and predicted answer.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from golden.examples import Example
from golden.tasks import Answers, Counts, Document, ratio, require_answers, rows_of


@dataclass(frozen=True)
class ClassScores:
    """Precision, recall and F1 of one class, 0-1; ``support`` examples belong to it."""

    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True)
class ExampleScore:
    """How one example was answered; ``predicted`` is None when no answer came."""

    example_id: str
    expected: str
    predicted: str | None
    correct: bool
    valid: bool
    abstained: bool


@dataclass(frozen=True)
class ClassificationScores:
    """Scores of one model on one set.

    Attributes:
        macro_f1: mean F1 over the classes that the set has examples of.
        labels: the labels in their given order: the rows of ``confusion`` (expected).
        confusion: counts; the columns are ``labels`` and one more, answers that are no label.
        invalid: how many answers were no label, missing answers included.
        abstained: how many answers were empty, or the label for "I do not say".
    """

    accuracy: float
    correct: int
    total: int
    macro_f1: float
    invalid: int
    abstained: int
    labels: tuple[str, ...]
    per_class: dict[str, ClassScores]
    confusion: tuple[tuple[int, ...], ...]
    per_example: tuple[ExampleScore, ...]

    @property
    def headline(self) -> float:
        """Return the macro-F1."""
        return self.macro_f1

    def as_dict(self) -> dict[str, Any]:
        """Return the scores as plain JSON values."""
        return asdict(self)

    def correctness(self) -> dict[str, bool]:
        """Return by example id whether it was answered right, for a paired test."""
        return {score.example_id: score.correct for score in self.per_example}


@dataclass(frozen=True)
class Classification:
    """Each input belongs to one of the labels; ``abstain_label`` says "I do not say"."""

    labels: Sequence[str]
    abstain_label: str | None = None
    name = "classification"
    headline = "macro_f1"

    def score(self, examples: Sequence[Example], predictions: Answers) -> ClassificationScores:
        """Score answers by example id."""
        return score_classification(examples, predictions, self.labels, self.abstain_label)

    def counts(self, document: Document) -> Counts:
        """Return for each example and label: a hit, an example of it, an answer of it."""
        rows, place = rows_of(document), {label: at for at, label in enumerate(self.labels)}
        counts = np.zeros((len(rows), 3, len(place)))
        for at, row in enumerate(rows):
            counts[at, 0, place[row["expected"]]] = row["correct"]
            counts[at, 1, place[row["expected"]]] = 1
            if row["predicted"] in place:
                counts[at, 2, place[row["predicted"]]] = 1
        return counts.reshape(len(rows), -1)

    def headline_of(self, sums: Counts) -> Counts:
        """Return the macro-F1 over the labels that there are examples of."""
        hits, support, answered = np.moveaxis(sums.reshape(len(sums), 3, -1), 1, 0)
        present = support > 0
        scores = ratio(2 * hits, support + answered) * present
        means: Counts = scores.sum(axis=1) / np.maximum(present.sum(axis=1), 1)
        return means


def score_classification(
    examples: Sequence[Example],
    predictions: Answers,
    labels: Sequence[str],
    abstain_label: str | None = None,
) -> ClassificationScores:
    """Score predictions by example id against the examples.

    Raises:
        ValueError: if there are no examples, a prediction is missing (None says "no answer"), or
            an example expects something that is no label.
    """
    require_answers(examples, predictions)
    known = set(labels)
    _require_labels(examples, known)
    scores = tuple(
        _score(example, predictions[example.example_id], known, abstain_label)
        for example in examples
    )
    pairs = Counter(
        (score.expected, score.predicted if score.predicted in known else None) for score in scores
    )
    per_class = {label: _class_scores(label, pairs, labels) for label in labels}
    supported = [entry.f1 for entry in per_class.values() if entry.support]
    correct = sum(score.correct for score in scores)
    return ClassificationScores(
        accuracy=correct / len(scores),
        correct=correct,
        total=len(scores),
        macro_f1=sum(supported) / len(supported),
        invalid=sum(not score.valid for score in scores),
        abstained=sum(score.abstained for score in scores),
        labels=tuple(labels),
        per_class=per_class,
        confusion=tuple(tuple(pairs[row, column] for column in (*labels, None)) for row in labels),
        per_example=scores,
    )


def _require_labels(examples: Sequence[Example], known: set[str]) -> None:
    strange = [e for e in examples if e.output not in known]
    if strange:
        raise ValueError(
            f"example {strange[0].example_id} expects {strange[0].output!r}, which is no label; "
            "correct the golden set or the taxonomy"
        )


def _score(
    example: Example, predicted: str | None, known: set[str], abstain_label: str | None
) -> ExampleScore:
    answer = predicted.strip() if predicted is not None else None
    abstains = abstain_label is not None and answer == abstain_label
    return ExampleScore(
        example_id=example.example_id,
        expected=example.output,
        predicted=answer,
        correct=answer == example.output,
        valid=answer in known or abstains,
        abstained=not answer or abstains,
    )


def _class_scores(
    label: str, pairs: Counter[tuple[str, str | None]], labels: Sequence[str]
) -> ClassScores:
    hits = pairs[label, label]
    support = sum(pairs[label, column] for column in (*labels, None))
    predicted = sum(pairs[row, label] for row in labels)
    return ClassScores(
        precision=hits / predicted if predicted else 0.0,
        recall=hits / support if support else 0.0,
        f1=2 * hits / (support + predicted) if support + predicted else 0.0,
        support=support,
    )
