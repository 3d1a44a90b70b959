"""Asks a model a whole golden set and scores the answers: the canary's way, and pytest's.

The evaluation asset sends the same requests (`golden.client.chat_body`) to an engine of its own,
with the form of the answers that the gateway adds to these, and scores by the same
``TaskKind.score``, so that one model has one set of scores.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from golden.client import Answers, AskSettings, ask_blocking
from golden.examples import Example
from golden.tasks import Scores, TaskKind


@dataclass(frozen=True)
class Examination:
    """Scores, and the answers that they were computed from."""

    scores: Scores
    answers: Answers

    @property
    def latency(self) -> dict[str, float]:
        """Return how long an answer took; see `latency_of`."""
        return latency_of(self.answers.latencies.values())


def latency_of(seconds: Iterable[float]) -> dict[str, float]:
    """Return how long an answer took: half of them, and 95 of 100, took no longer (seconds)."""
    times = sorted(seconds)
    return {"p50_s": times[len(times) // 2], "p95_s": times[int(len(times) * 0.95)]}


def examine(
    kind: TaskKind[Scores],
    examples: Sequence[Example],
    settings: AskSettings,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Examination:
    """Ask an endpoint all examples and score the answers.

    Raises:
        EndpointError: if an example stays without an answer.
        ValueError: if the golden set is none of this kind.
    """
    answers = ask_blocking(examples, settings, progress=progress)
    return Examination(kind.score(examples, answers.predictions), answers)
