"""How fast answers came, and with how many tokens, at a number of requests at a time."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from golden.completion import Usage, mean_usage
from golden.harness import latency_of


@dataclass(frozen=True)
class Pace:
    """What answering took.

    Attributes:
        latency: seconds that half of the answers, and 95 of 100, took no longer than.
        concurrency: requests that were open at a time.
        per_second: answers a second while that many were open: their number by the mean latency
            (Little's law), which leaves start and end out.
        usage: tokens of a request in the mean; None where they were not told.
    """

    latency: Mapping[str, float]
    concurrency: int
    per_second: float
    usage: Usage | None = None

    def facts(self) -> dict[str, Any]:
        """Return it as plain JSON values, for a manifest."""
        return {
            "latency": dict(self.latency),
            "concurrency": self.concurrency,
            "requests_per_second": self.per_second,
            **({} if self.usage is None else {"tokens_per_request": asdict(self.usage)}),
        }


def pace_of(seconds: Iterable[float], concurrency: int, usages: Iterable[Usage | None]) -> Pace:
    """Return the pace of answers that took these seconds.

    Raises:
        ValueError: if there is no answer.
    """
    times = list(seconds)
    if not times:
        raise ValueError("nothing was asked, so there is no pace; check the golden set")
    open_at_once = min(concurrency, len(times))
    mean = max(sum(times) / len(times), 1e-9)
    return Pace(latency_of(times), open_at_once, open_at_once / mean, mean_usage(usages))


def pace_from(facts: Mapping[str, Any]) -> Pace | None:
    """Return the pace that a manifest's facts tell, or None where they tell none."""
    if any(name not in facts for name in ("latency", "concurrency", "requests_per_second")):
        return None
    tokens = facts.get("tokens_per_request")
    usage = None if tokens is None else Usage(**tokens)
    return Pace(facts["latency"], facts["concurrency"], facts["requests_per_second"], usage)
