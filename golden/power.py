"""Power: what a golden set of a size can tell apart, and which size a gate needs.

Both are exact, summed over binomial probabilities; no normal approximation.

*Two models on the same examples* (`paired_power`). Of n examples a share c is answered right by one
model only; the later model is better by d, so it wins (c + d) / 2 and loses (c - d) / 2. The number
of changed examples is m ~ Bin(n, c), and of them w ~ Bin(m, (c + d) / 2c) are won. The exact
McNemar test at level alpha says "different" when w >= k(m), the smallest k with
P(Bin(m, 1/2) >= k) <= alpha / 2. Power is the sum over m of P(m) P(w >= k(m)). Where d > c, all
changes are for the better: c = d.

*One model against a level* (`share_power`). A model whose true share is d below the level t is
refused by a gate that asks for k = ceil(t n) right answers; power is P(Bin(n, t - d) < k).

*A gate with a margin* (`margin_power`) refuses when more than the margin is lost on the same
examples; the same sum, with "lost minus gained is more than the margin" for the test.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from math import ceil, floor, log, log1p

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from golden.statistics import exact

_STEPS = 1000
_LARGEST = 1 << 17


@dataclass(frozen=True)
class PowerSettings:
    """What "detect" means.

    Attributes:
        alpha: how often a difference may be seen where there is none (two-sided).
        power: how often a difference must be seen where there is one.
        changed: the share of examples that two versions are expected to answer differently well.
    """

    alpha: float = 0.05
    power: float = 0.8
    changed: float = 0.1

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        for name in ("alpha", "power", "changed"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; use a number between 0 and 1")


def paired_power(total: int, difference: float, settings: PowerSettings) -> float:
    """Return how often the exact paired test finds a difference (0-1) on so many examples."""
    changed, won = _rates(difference, settings.changed)
    sizes = np.arange(total + 1)
    found = stats.binom.sf(_critical(total, settings.alpha) - 1, sizes, won)
    return float(stats.binom.pmf(sizes, total, changed) @ found)


def detectable_difference(total: int, settings: PowerSettings) -> float | None:
    """Return the smallest difference (0-1) that the exact paired test finds, or None.

    In steps of a thousandth; power never falls as the difference grows. None: not even a model that
    is right everywhere would be told from one that is wrong everywhere.
    """

    def found(step: int) -> bool:
        return paired_power(total, step / _STEPS, settings) >= settings.power

    return None if not found(_STEPS) else _first(found, 0, _STEPS) / _STEPS


def paired_size(difference: float, settings: PowerSettings) -> int:
    """Return how many examples the exact paired test needs to find a difference (0-1).

    Exact tests on more examples are sometimes a little weaker; the size returned is one from which
    bisection found no smaller one that suffices.
    """
    return _size(lambda n: paired_power(n, difference, settings) >= settings.power)


def margin_power(total: int, drop: float, margin: float, settings: PowerSettings) -> float:
    """Return how often a gate refuses a model that is truly worse by ``drop`` (0-1).

    The gate refuses when the observed drop on the same examples is more than ``margin``.
    """
    changed, lost = _rates(drop, settings.changed)
    allowed = exact(margin) * total
    # Of m changed examples l are lost, a drop of 2 l - m; refused when it is more than allowed.
    needed = [floor((allowed + size) / 2) + 1 for size in range(total + 1)]
    sizes = np.arange(total + 1)
    refused = stats.binom.sf(np.array(needed) - 1, sizes, lost)
    return float(stats.binom.pmf(sizes, total, changed) @ refused)


def share_power(total: int, level: float, below: float) -> float:
    """Return how often a gate at ``level`` refuses a model whose true share is that much below."""
    needed = ceil(exact(level) * total)
    return float(stats.binom.cdf(needed - 1, total, max(0.0, level - below)))


def share_size(level: float, below: float, power: float) -> int:
    """Return how many examples a gate at ``level`` needs to refuse a model that much below."""
    return _size(lambda n: share_power(n, level, below) >= power)


def margin_size(drop: float, margin: float, settings: PowerSettings) -> int:
    """Return how many examples a gate with a margin needs.

    Enough to refuse what is truly worse by ``drop``, and to let pass what is as good, both as often
    as the power asks.

    Raises:
        ValueError: if the drop is no greater than the margin, or there is no margin: no size is
            enough.
    """
    if not 0 < margin < drop:
        raise ValueError(f"a margin of {margin} cannot tell a drop of {drop} from none")

    def enough(total: int) -> bool:
        refused = margin_power(total, drop, margin, settings)
        refused_wrongly = margin_power(total, 0, margin, settings)
        return refused >= settings.power and refused_wrongly <= 1 - settings.power

    return _size(enough)


def lost_class_size(level: float, alpha: float) -> int:
    """Return how many examples a class needs so that none right is below its floor at alpha."""
    if level >= 1:
        return 1
    if level <= 0:
        raise ValueError("no class is below a floor of 0; use a floor above it")
    return ceil(log(alpha) / log1p(-level) - 1e-12)


def _size(enough: Callable[[int], bool]) -> int:
    high = 1
    while not enough(high):
        if high >= _LARGEST:
            raise ValueError(f"more than {_LARGEST} examples would be needed")
        high *= 2
    return _first(enough, high // 2, high)


def _first(enough: Callable[[int], bool], low: int, high: int) -> int:
    """Bisect between a number that is not enough and one that is."""
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def _rates(difference: float, changed: float) -> tuple[float, float]:
    """Return the share of changed examples, and of them the share that goes one way."""
    share = max(changed, difference)
    return share, (share + difference) / (2 * share)


@lru_cache(maxsize=64)
def _critical(total: int, alpha: float) -> NDArray[np.float64]:
    """Return for each number of changes the smallest k with P(Bin(m, 1/2) >= k) <= alpha / 2."""
    sizes = np.arange(total + 1)
    # isf gives the smallest k with P(> k) <= alpha / 2.
    critical: NDArray[np.float64] = stats.binom.isf(alpha / 2, sizes, 0.5) + 1
    return critical
