"""What of `golden.lm_harness` needs the harness: its model, whose answers are a function's."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from lm_eval import simple_evaluate
from lm_eval.api.model import LM
from lm_eval.tasks import TaskManager

if TYPE_CHECKING:
    from golden.lm_harness import Tasks

Answer = Callable[[str, tuple[Any, ...]], Any]


class _Asked(LM):  # type: ignore[misc, unused-ignore]
    """A model that is asked through a function."""

    def __init__(self, answer: Answer) -> None:
        super().__init__()
        self._answer = answer

    def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
        return [self._answer("loglikelihood", one.args) for one in requests]

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        return [self._answer("generate_until", one.args) for one in requests]

    def loglikelihood_rolling(self, requests: Sequence[Any]) -> list[float]:
        raise NotImplementedError("a perplexity is no share of right answers")


def evaluate(tasks: "Tasks", answer: Answer) -> dict[str, Any]:
    """Let the harness ask all examples through a function, and return what it makes of them."""
    found = simple_evaluate(
        model=_Asked(answer),
        tasks=list(tasks.names),
        limit=tasks.limit,
        task_manager=TaskManager(include_path=str(tasks.folder) if tasks.folder else None),
        bootstrap_iters=0,
        log_samples=True,
    )
    return dict(found or {})
