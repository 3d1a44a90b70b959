"""Scores of a classification, exact to the example.

Invariants:
* Every example is scored exactly once; an answer that is no label, or no answer, is wrong.
* The scores carry what they were counted from: each example's expected and predicted answer.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from golden.examples import Example

OTHER = "other"


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


@dataclass(frozen=True)
class ClassificationScores:
    """Scores of one model on one set.

    Attributes:
        macro_f1: mean F1 over the classes that the set has examples of.
        labels: the labels in their given order: the rows of ``confusion`` (expected).
        confusion: counts; the columns are ``labels`` and one more, answers that are no label.
        invalid: how many answers were no label, missing answers included.
    """

    accuracy: float
    correct: int
    total: int
    macro_f1: float
    invalid: int
    labels: tuple[str, ...]
    per_class: dict[str, ClassScores]
    confusion: tuple[tuple[int, ...], ...]
    per_example: tuple[ExampleScore, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return the scores as plain JSON values."""
        return asdict(self)

    def correctness(self) -> dict[str, bool]:
        """Return by example id whether it was answered right, for a paired test."""
        return {score.example_id: score.correct for score in self.per_example}


def score_classification(
    examples: Sequence[Example],
    predictions: Mapping[str, str | None],
    labels: Sequence[str],
) -> ClassificationScores:
    """Score predictions by example id against the examples.

    Raises:
        ValueError: if there are no examples, a prediction is missing (None says "no answer"), or
            an example expects something that is no label.
    """
    _require(examples, predictions, labels)
    known = set(labels)
    scores = tuple(_score(example, predictions[example.example_id], known) for example in examples)
    pairs = Counter(
        (score.expected, score.predicted if score.valid and score.predicted else None)
        for score in scores
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
        labels=tuple(labels),
        per_class=per_class,
        confusion=tuple(tuple(pairs[row, column] for column in (*labels, None)) for row in labels),
        per_example=scores,
    )


def _require(
    examples: Sequence[Example], predictions: Mapping[str, str | None], labels: Sequence[str]
) -> None:
    if not examples:
        raise ValueError("there are no examples to score; check the golden set")
    missing = [e.example_id for e in examples if e.example_id not in predictions]
    if missing:
        raise ValueError(
            f"{len(missing)} examples have no prediction, the first is {missing[0]}; "
            "ask the model for all of them"
        )
    known = set(labels)
    strange = [e for e in examples if e.output not in known]
    if strange:
        raise ValueError(
            f"example {strange[0].example_id} expects {strange[0].output!r}, which is no label; "
            "correct the golden set or the taxonomy"
        )


def _score(example: Example, predicted: str | None, known: set[str]) -> ExampleScore:
    answer = predicted.strip() if predicted is not None else None
    return ExampleScore(
        example_id=example.example_id,
        expected=example.output,
        predicted=answer,
        correct=answer == example.output,
        valid=answer in known,
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
