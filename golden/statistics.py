"""Statistics that a gate may be built on: exact, paired, without rounding at a threshold.

Invariants:
* A threshold is compared with a fraction of whole numbers, never with a rounded percentage.
* Two models on the same examples are compared pairwise (McNemar), which finds differences that an
  unpaired test on the same numbers misses.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import sqrt


@dataclass(frozen=True)
class Interval:
    """A confidence interval of a share, 0-1."""

    low: float
    high: float
    confidence: float


@dataclass(frozen=True)
class McNemarResult:
    """Exact McNemar test of two models on the same examples.

    Attributes:
        gained: examples that only the later model answers right.
        lost: examples that only the earlier model answers right.
        p_value: two-sided: are the two different?
        p_better: one-sided: small when the later model is better.
        p_worse: one-sided: small when the later model is worse.
        total: examples compared.
    """

    gained: int
    lost: int
    p_value: float
    p_better: float
    p_worse: float
    total: int


def wilson_interval(correct: int, total: int, confidence: float = 0.95) -> Interval:
    """Return Wilson's score interval for ``correct`` of ``total``.

    Raises:
        ValueError: if the counts are impossible or the confidence is not between 0 and 1.
    """
    _require_counts(correct, total)
    if not 0 < confidence < 1:
        raise ValueError(f"a confidence of {confidence} is not between 0 and 1")
    from scipy import stats  # Half a second, which most commands have no use for.

    z = float(stats.norm.ppf((1 + confidence) / 2))
    share, shrink = correct / total, 1 + z * z / total
    centre = (share + z * z / (2 * total)) / shrink
    half = z * sqrt(share * (1 - share) / total + z * z / (4 * total * total)) / shrink
    low = 0.0 if correct == 0 else max(0.0, centre - half)
    high = 1.0 if correct == total else min(1.0, centre + half)
    return Interval(low, high, confidence)


def mcnemar(before: Mapping[str, bool], after: Mapping[str, bool]) -> McNemarResult:
    """Compare two models by whether each answered each example right (exact binomial test).

    Raises:
        ValueError: if the two were not scored on the same examples.
    """
    if before.keys() != after.keys():
        odd = sorted(before.keys() ^ after.keys())
        raise ValueError(
            f"{len(odd)} examples were scored for one model only, the first is {odd[0]}; "
            "score both on the same golden set"
        )
    gained = sum(after[key] and not before[key] for key in before)
    lost = sum(before[key] and not after[key] for key in before)
    changed = gained + lost
    if not changed:
        return McNemarResult(0, 0, 1.0, 1.0, 1.0, len(before))
    from scipy import stats

    better, worse, both = (
        float(stats.binomtest(gained, changed, 0.5, alternative=side).pvalue)
        for side in ("greater", "less", "two-sided")
    )
    return McNemarResult(gained, lost, both, better, worse, len(before))


def points_below(
    before_correct: int, before_total: int, now_correct: int, now_total: int
) -> Fraction:
    """Return by how many percentage points the accuracy fell, exactly; negative when it rose.

    ``points_below(450, 500, 425, 500) >= 5`` is true: the drop is 5 points and not 4.9999.
    """
    _require_counts(before_correct, before_total)
    _require_counts(now_correct, now_total)
    before, now = Fraction(before_correct, before_total), Fraction(now_correct, now_total)
    return 100 * (before - now)


def exact(number: int | float | str) -> Fraction:
    """Return a setting as the decimal number that a person wrote: 0.9 is 9/10 exactly."""
    return Fraction(str(number))


def _require_counts(correct: int, total: int) -> None:
    if total <= 0 or not 0 <= correct <= total:
        raise ValueError(f"{correct} correct of {total} is impossible; check the counts")
