"""A floor under every class, corrected for how many classes there are.

Of forty classes that are all as good as they should be, one or two fall below a floor by chance. A
class is below its floor for certain only when so few right answers would be rarer than alpha at a
recall of exactly the floor (one-sided exact binomial test), after a correction for the number of
classes. A correction costs sight: a class of few examples can then not fail at all, which
`golden.power.lost_class_size` tells.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from golden.statistics import exact

Correction = Literal["none", "bonferroni", "holm"]


@dataclass(frozen=True)
class ClassBelow:
    """A class below its floor; ``p_value`` is adjusted, and None where nothing was tested."""

    name: str
    right: int
    total: int
    p_value: float | None

    @property
    def recall(self) -> float:
        """Return the observed recall."""
        return self.right / self.total


def classes_below(
    counts: Mapping[str, tuple[int, int]],
    floor: float,
    correction: Correction = "none",
    alpha: float = 0.05,
) -> list[ClassBelow]:
    """Return the classes below the floor, worst first; ``counts`` maps a class to right and total.

    Without a correction every class whose observed recall is below the floor; with one, those for
    which it is significant. Classes without examples are left out.
    """
    seen = {name: pair for name, pair in counts.items() if pair[1]}
    below = [n for n, (right, total) in seen.items() if right < exact(floor) * total]
    adjusted: dict[str, float | None] = dict.fromkeys(below)
    if correction != "none":
        from scipy import stats  # Half a second, which most commands have no use for.

        rights, totals = np.array([*seen.values()], dtype=int).reshape(-1, 2).T
        p_values = adjusted_p_values(stats.binom.cdf(rights, totals, floor).tolist(), correction)
        tested = dict(zip(seen, p_values, strict=True))
        adjusted = {name: tested[name] for name in below if tested[name] <= alpha}
    found = [ClassBelow(name, *seen[name], p_value) for name, p_value in adjusted.items()]
    return sorted(found, key=lambda one: (one.recall, one.name))


def adjusted_p_values(p_values: Sequence[float], correction: Correction) -> list[float]:
    """Return p-values that may be compared with alpha although so many were computed."""
    count = len(p_values)
    if correction == "none":
        return list(p_values)
    if correction == "bonferroni":
        return [min(1.0, count * p) for p in p_values]
    order = np.argsort(p_values, kind="stable")
    stepped = np.asarray(p_values, dtype=float)[order] * (count - np.arange(count))
    adjusted = np.empty(count)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(stepped))
    values: list[float] = adjusted.tolist()
    return values
