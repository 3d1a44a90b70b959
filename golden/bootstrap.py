"""Paired bootstrap: intervals and tests of scores that are no simple share, such as F1.

Invariants:
* Examples are drawn, never fields or classes: what one example says stays together.
* Both models are given the same draws, so what they share cancels out.
* The same scores and seed give the same result, whatever the memory.

A score is a function of sums over examples (hits, expected, predicted …). A draw of n examples with
replacement is a row of weights, and all draws together are one matrix product.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from golden.statistics import Interval
from golden.tasks import Counts

ROUNDS = 10_000
SEED = 20_240_229
_CELLS = 4_000_000

Statistic = Callable[[Counts], Counts]


@dataclass(frozen=True)
class BootstrapResult:
    """The difference of two models' scores (later minus earlier) on the same examples.

    Attributes:
        low: lower end of the percentile interval; ``high`` is the upper one.
        p_better: small when the later model is better: the share of draws where it is not, counted
            with one draw more, so that it is never 0.
        p_worse: small when the later model is worse.
        p_value: two-sided.
    """

    before: float
    after: float
    difference: float
    low: float
    high: float
    confidence: float
    p_value: float
    p_better: float
    p_worse: float
    total: int
    rounds: int


def paired_bootstrap(
    before: Counts,
    after: Counts,
    statistic: Statistic,
    *,
    rounds: int = ROUNDS,
    seed: int = SEED,
    confidence: float = 0.95,
) -> BootstrapResult:
    """Compare two models on the same examples; a row of counts is an example.

    Raises:
        ValueError: if the two do not have the same examples, or there are none.
    """
    if before.shape != after.shape:
        raise ValueError(
            f"{len(before)} and {len(after)} examples cannot be paired; score both on the same "
            "golden set"
        )
    drawn = [
        statistic(weights @ after) - statistic(weights @ before)
        for weights in _draws(len(before), rounds, seed)
    ]
    differences = np.concatenate(drawn)
    was, now = (float(statistic(counts.sum(axis=0)[None])[0]) for counts in (before, after))
    low, high = _percentiles(differences, confidence)
    better = (1 + int((differences <= 0).sum())) / (rounds + 1)
    worse = (1 + int((differences >= 0).sum())) / (rounds + 1)
    both = min(1.0, 2 * min(better, worse))
    return BootstrapResult(
        was, now, now - was, low, high, confidence, both, better, worse, len(before), rounds
    )


def bootstrap_interval(
    counts: Counts,
    statistic: Statistic,
    *,
    rounds: int = ROUNDS,
    seed: int = SEED,
    confidence: float = 0.95,
) -> Interval:
    """Return the percentile interval of one model's score.

    Raises:
        ValueError: if there are no examples.
    """
    drawn = [statistic(weights @ counts) for weights in _draws(len(counts), rounds, seed)]
    low, high = _percentiles(np.concatenate(drawn), confidence)
    return Interval(low, high, confidence)


def _percentiles(values: Counts, confidence: float) -> tuple[float, float]:
    if not 0 < confidence < 1:
        raise ValueError(f"a confidence of {confidence} is not between 0 and 1")
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def _draws(examples: int, rounds: int, seed: int) -> Iterator[Counts]:
    if examples < 1 or rounds < 1:
        raise ValueError("there is nothing to draw from; score some examples")
    generator = np.random.default_rng(seed)
    even = np.full(examples, 1 / examples)
    step = max(1, _CELLS // examples)
    for start in range(0, rounds, step):
        size = min(step, rounds - start)
        yield generator.multinomial(examples, even, size=size).astype(float)
