"""How far each annotator can be trusted, and what their votes on one input add up to.

The model is Dawid and Skene's with one coin an annotator: with probability r the right label, else
a wrong one. Right labels and reliabilities are estimated together (EM), from the inputs that two
annotators or more have labelled. A vote for a label then weighs log(r / (1 - r)), and a label's
confidence is its share of the exponentiated sums. Wrong votes are taken to fall on one rival, not
on any of forty: annotators err between neighbours, and the other way two of them who make the same
mistake would count as near certainty.

Invariants:
* The result depends on the votes only, never on their order.
* Few votes prove little: an annotator starts as if seen on ``_PRIOR_ITEMS`` inputs already.
* A label that nobody gave cannot win; confidences are within 0-1 and never NaN.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

UNKNOWN = 0.9
_PRIOR_ITEMS = 10
_ROUNDS = 100
_SETTLED = 1e-9
_DIGITS = 6


class Ballot(NamedTuple):
    """One annotation: which record it stands in, who gave which label."""

    record_id: str
    annotator: str
    label: str


@dataclass(frozen=True)
class Reliability:
    """The probability that an annotator's label is right, 0-1; ``UNKNOWN`` for who met nobody.

    Attributes:
        by_annotator: those who labelled an input that another has labelled too.
        items: on how many such inputs each was seen.
    """

    by_annotator: Mapping[str, float] = field(default_factory=dict)
    items: Mapping[str, int] = field(default_factory=dict)

    def of(self, annotator: str) -> float:
        """Return an annotator's reliability."""
        return self.by_annotator.get(annotator, UNKNOWN)

    def confidences(self, ballots: Iterable[Ballot]) -> dict[str, float]:
        """Return the probability of each label that was given, by label; with a rest for none."""
        sums: dict[str, list[float]] = defaultdict(list)
        for ballot in ballots:
            sums[ballot.label].append(_weight(self.of(ballot.annotator)))
        # fsum is exact, so that no order of the votes can change a last digit.
        scores = {label: math.fsum(weights) for label, weights in sorted(sums.items())}
        # As in the estimation, one label alone has its rival: the label that nobody gave.
        rest = [0.0] if len(scores) == 1 else []
        top = max([*scores.values(), *rest], default=0.0)
        total = math.fsum(math.exp(score - top) for score in [*scores.values(), *rest])
        return {
            label: round(math.exp(score - top) / total, _DIGITS) for label, score in scores.items()
        }


def _weight(reliability: float) -> float:
    return math.log(reliability / (1 - reliability))


def reliabilities(items: Iterable[Mapping[str, str]]) -> Reliability:
    """Estimate reliabilities from inputs, each a mapping of annotator to label."""
    shared = [item for item in items if len(item) > 1]
    names = sorted({name for item in shared for name in item})
    if not names:
        return Reliability()
    numbers = {name: number for number, name in enumerate(names)}
    # In the order of their content: sums of floats depend on the order of their terms.
    votes = _Votes.of(sorted(sorted(item.items()) for item in shared), numbers)
    rates = np.full(len(names), UNKNOWN)
    for _ in range(_ROUNDS):
        before, rates = rates, votes.rates(rates)
        if float(np.abs(rates - before).max()) < _SETTLED:
            break
    counts = np.bincount(votes.annotators, minlength=len(names))
    return Reliability(
        {name: round(float(rate), _DIGITS) for name, rate in zip(names, rates, strict=True)},
        {name: int(count) for name, count in zip(names, counts, strict=True)},
    )


@dataclass(frozen=True)
class _Votes:
    """Votes as numbers: who gave each, and for which candidate; candidates lie by their input."""

    annotators: NDArray[np.int64]
    candidates: NDArray[np.int64]
    starts: NDArray[np.int64]
    inputs: NDArray[np.int64]

    @staticmethod
    def of(items: Sequence[Sequence[tuple[str, str]]], numbers: Mapping[str, int]) -> "_Votes":
        annotators: list[int] = []
        candidates: list[int] = []
        starts: list[int] = []
        inputs: list[int] = []
        for place, item in enumerate(items):
            starts.append(len(inputs))
            labels: dict[str, int] = {}
            for name, label in item:
                number = labels.setdefault(label, starts[-1] + len(labels))
                annotators.append(numbers[name])
                candidates.append(number)
            # One label alone still has its rival: the label that nobody gave.
            inputs.extend([place] * max(2, len(labels)))
        return _Votes(*(np.array(part) for part in (annotators, candidates, starts, inputs)))

    def rates(self, rates: NDArray[np.float64]) -> NDArray[np.float64]:
        """One round: candidates' probabilities by the rates, then rates by the probabilities."""
        weights = np.log(rates / (1 - rates))[self.annotators]
        scores = np.bincount(self.candidates, weights, minlength=len(self.inputs))
        scores -= np.maximum.reduceat(scores, self.starts)[self.inputs]
        shares = np.exp(scores)
        shares /= np.add.reduceat(shares, self.starts)[self.inputs]
        right = np.bincount(self.annotators, shares[self.candidates], minlength=len(rates))
        seen = np.bincount(self.annotators, minlength=len(rates))
        return (right + UNKNOWN * _PRIOR_ITEMS) / (seen + _PRIOR_ITEMS)
