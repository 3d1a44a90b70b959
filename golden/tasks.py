"""What every kind of task gives: scores to the example, one headline number, evidence to compare.

Invariants:
* The asset, the canary and pytest score through one function of one kind, so the same answers get
  the same scores wherever they are asked, to the example.
* ``correct`` is decided for every example, whatever the kind: McNemar's test and the gates that
  count need no more than that.
* What two models are compared by is computed from the stored scores alone.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from golden.examples import Example

Answers = Mapping[str, str | None]
Document = Mapping[str, Any]
Counts = NDArray[np.float64]

S_co = TypeVar("S_co", covariant=True)


class Scores(Protocol):
    """Scores of one model on one golden set."""

    @property
    def accuracy(self) -> float:
        """Return the share of examples answered right."""

    @property
    def correct(self) -> int:
        """Return how many examples were answered right."""

    @property
    def total(self) -> int:
        """Return how many examples there are."""

    @property
    def invalid(self) -> int:
        """Return how many answers are not of the form that the task asks for."""

    @property
    def headline(self) -> float:
        """Return the number that the kind is known by, 0-1."""

    def as_dict(self) -> dict[str, Any]:
        """Return the scores as plain JSON values: the document that is stored."""

    def correctness(self) -> dict[str, bool]:
        """Return by example id whether it was answered right, for a paired test."""


class TaskKind(Protocol[S_co]):
    """A kind of task: how answers are scored, and what two models are compared by."""

    @property
    def name(self) -> str:
        """Return the kind's name."""

    @property
    def headline(self) -> str:
        """Return the name of the headline number."""

    def score(self, examples: Sequence[Example], predictions: Answers) -> S_co:
        """Score answers by example id (None says "no answer").

        Raises:
            ValueError: if there are no examples, an answer is missing, or an example is no example
                of this kind.
        """

    def counts(self, document: Document) -> Counts:
        """Return one row an example, in the order of their ids, of what the headline sums up."""

    def headline_of(self, sums: Counts) -> Counts:
        """Return the headline number of each row of summed counts."""


def require_answers(examples: Sequence[Example], predictions: Answers) -> None:
    """Refuse to score less than everything.

    Raises:
        ValueError: if there are no examples, or one has no prediction.
    """
    if not examples:
        raise ValueError("there are no examples to score; check the golden set")
    missing = [e.example_id for e in examples if e.example_id not in predictions]
    if missing:
        raise ValueError(
            f"{len(missing)} examples have no prediction, the first is {missing[0]}; "
            "ask the model for all of them"
        )


def rows_of(document: Document) -> list[dict[str, Any]]:
    """Return the stored examples in the order of their ids."""
    return sorted(document["per_example"], key=lambda row: str(row["example_id"]))


def correctness_of(document: Document) -> dict[str, bool]:
    """Return by example id whether it was answered right."""
    return {row["example_id"]: bool(row["correct"]) for row in document["per_example"]}


def ratio(top: Counts, bottom: Counts) -> Counts:
    """Return top / bottom, 0 where the bottom is."""
    shares: Counts = np.divide(top, bottom, out=np.zeros_like(top, dtype=float), where=bottom > 0)
    return shares
