"""Scores of an extraction: JSON answers against JSON, whole and field by field.

Invariants:
* An answer is right when its canonical JSON is that of the example; order of keys and white space
  never matter, order of a list does.
* Field scores are micro: hits over all fields of all examples. An answer that is no JSON has no
  fields; one that breaks the schema is invalid and still scored for the fields that it has.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from golden.examples import Example
from golden.json_schema import AnswerSchema
from golden.json_values import canonical_text, field_counts, field_hits, parse_json
from golden.tasks import Answers, Counts, Document, ratio, require_answers, rows_of


@dataclass(frozen=True)
class FieldScores:
    """Precision, recall and F1 of a field, 0-1, and the counts that they come from."""

    precision: float
    recall: float
    f1: float
    hits: int
    expected: int
    predicted: int


@dataclass(frozen=True)
class ExtractionExample:
    """How one example was answered.

    Attributes:
        expected: canonical JSON.
        predicted: canonical JSON, or the answer as it came where it is none; None is no answer.
        problem: why the answer is not valid; blank when it is.
        hits: fields that agree, of ``expected_fields`` and ``predicted_fields``.
    """

    example_id: str
    expected: str
    predicted: str | None
    correct: bool
    valid: bool
    problem: str
    hits: int
    expected_fields: int
    predicted_fields: int


@dataclass(frozen=True)
class ExtractionScores:
    """Scores of one model on one set.

    Attributes:
        accuracy: the share of answers that are right as a whole (exact match).
        fields: all fields together (micro).
        invalid: how many answers are no JSON, or break the schema.
        no_json: how many of them are no JSON at all.
        per_field: by the field's name; an item of a list is ``list[]``.
    """

    accuracy: float
    correct: int
    total: int
    fields: FieldScores
    invalid: int
    no_json: int
    per_field: dict[str, FieldScores]
    per_example: tuple[ExtractionExample, ...]

    @property
    def headline(self) -> float:
        """Return the F1 of all fields."""
        return self.fields.f1

    def as_dict(self) -> dict[str, Any]:
        """Return the scores as plain JSON values."""
        return asdict(self)

    def correctness(self) -> dict[str, bool]:
        """Return by example id whether it was answered right, for a paired test."""
        return {score.example_id: score.correct for score in self.per_example}


@dataclass(frozen=True)
class Extraction:
    """Each input is answered by one JSON value that keeps the schema."""

    schema: AnswerSchema
    name = "extraction"
    headline = "field_f1"

    def score(self, examples: Sequence[Example], predictions: Answers) -> ExtractionScores:
        """Score answers by example id."""
        require_answers(examples, predictions)
        hits: Counter[str] = Counter()
        expected: Counter[str] = Counter()
        predicted: Counter[str] = Counter()
        scores = []
        for example in examples:
            wanted = self._expected(example)
            answer = _Answer.of(predictions[example.example_id], self.schema)
            found = (
                field_hits(wanted, answer.value) if answer.is_json else Counter(),
                field_counts(wanted),
                field_counts(answer.value) if answer.is_json else Counter(),
            )
            for total, one in zip((hits, expected, predicted), found, strict=True):
                total.update(one)
            counts = (counter.total() for counter in found)
            scores.append(_example(example, canonical_text(wanted), answer, *counts))
        correct = sum(score.correct for score in scores)
        names = sorted({*expected, *predicted})
        return ExtractionScores(
            accuracy=correct / len(scores),
            correct=correct,
            total=len(scores),
            fields=_field(hits.total(), expected.total(), predicted.total()),
            invalid=sum(not score.valid for score in scores),
            no_json=sum(score.problem.startswith(_NO_JSON) for score in scores),
            per_field={n: _field(hits[n], expected[n], predicted[n]) for n in names},
            per_example=tuple(scores),
        )

    def counts(self, document: Document) -> Counts:
        """Return for each example: fields that agree, expected fields, predicted fields."""
        names = ("hits", "expected_fields", "predicted_fields")
        return np.array(
            [[row[name] for name in names] for row in rows_of(document)], dtype=float
        ).reshape(-1, len(names))

    def headline_of(self, sums: Counts) -> Counts:
        """Return the micro F1 of the fields."""
        hits, expected, predicted = sums.T
        both = expected + predicted
        return np.where(both > 0, ratio(2 * hits, both), 1.0)

    def _expected(self, example: Example) -> Any:
        try:
            value = parse_json(example.output)
        except ValueError as error:
            raise ValueError(
                f"example {example.example_id} expects what is no JSON ({error}); correct the "
                "golden set"
            ) from None
        if problem := self.schema.problem(value):
            raise ValueError(
                f"example {example.example_id} expects what breaks the schema ({problem}); correct "
                "the golden set or the schema"
            )
        return value


_NO_JSON = "no JSON"


@dataclass(frozen=True)
class _Answer:
    text: str | None
    value: Any
    problem: str

    @property
    def is_json(self) -> bool:
        return not self.problem.startswith(_NO_JSON)

    @staticmethod
    def of(text: str | None, schema: AnswerSchema) -> "_Answer":
        try:
            value = parse_json(text or "")
        except ValueError as error:
            return _Answer(text, None, f"{_NO_JSON} ({error})")
        return _Answer(canonical_text(value), value, schema.problem(value))


def _example(
    example: Example, wanted: str, answer: _Answer, hits: int, expected: int, predicted: int
) -> ExtractionExample:
    return ExtractionExample(
        example_id=example.example_id,
        expected=wanted,
        predicted=answer.text,
        correct=answer.is_json and answer.text == wanted,
        valid=not answer.problem,
        problem=answer.problem,
        hits=hits,
        expected_fields=expected,
        predicted_fields=predicted,
    )


def _field(hits: int, expected: int, predicted: int) -> FieldScores:
    nothing = not expected and not predicted
    return FieldScores(
        precision=hits / predicted if predicted else float(nothing),
        recall=hits / expected if expected else float(nothing),
        f1=2 * hits / (expected + predicted) if not nothing else 1.0,
        hits=hits,
        expected=expected,
        predicted=predicted,
    )


def canonical_output(text: str, schema: AnswerSchema) -> tuple[str, str]:
    """Return an output's canonical JSON and what is wrong with it; one of the two is blank."""
    answer = _Answer.of(text, schema)
    return ("", answer.problem) if answer.problem else (str(answer.text), "")
