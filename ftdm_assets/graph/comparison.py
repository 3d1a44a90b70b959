"""What fine-tuning is compared with: scores, latency and cost of prompt, probe and candidate."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ftdm_assets.graph.task_view import task_view
from ftdm_assets.model_folder import ModelFolder
from ftdm_assets.request_cost import Cost, machine_cost, token_cost
from golden.bootstrap import bootstrap_interval
from golden.pace import Pace, pace_from
from golden.statistics import Interval, wilson_interval
from golden.tasks import Document

TITLE = "comparison"
_HEADINGS = ("asked", "p50, s", "p95, s", "at a time", "cost of 1,000 requests")
_NOTE = (
    "Cost: by the tokens that were counted, at `baseline.price`, or by the machine, at "
    "`compute.price` and kept as busy as while it was measured; without a price none is stated."
)


@dataclass(frozen=True)
class Contender:
    """One way to do the task; ``pace`` is None where it was not measured."""

    name: str
    task: Document
    pace: Pace | None
    cost: Cost | None


def prompted_cost(model: ModelFolder, pace: Pace) -> Cost | None:
    """Return the cost of the prompted baseline: by its tokens, or by this machine."""
    baseline, compute = model.settings.baseline, model.settings.compute
    by_tokens = token_cost(pace.usage, baseline.price)
    here = baseline.endpoint is None and by_tokens is None
    return machine_cost(pace, compute) if here else by_tokens


def measured(pace: Pace, cost: Cost | None) -> dict[str, Any]:
    """Return pace and cost as facts of a manifest."""
    priced = {} if cost is None else {"cost_per_thousand_requests": str(cost)}
    return {**pace.facts(), **priced}


def baseline_contenders(
    model: ModelFolder, document: Mapping[str, Any], facts: Mapping[str, Any]
) -> list[Contender]:
    """Return the baselines that there are, from their stored scores and facts."""
    pace, compute = pace_from(facts), model.settings.compute
    name = f"prompt: {facts.get('answered_by', 'the base model')}"
    cost = None if pace is None else prompted_cost(model, pace)
    found = [Contender(name, document["prompted"], pace, cost)]
    if document.get("probe"):
        pace = pace_from(facts.get("probe_pace", {}))
        cost = None if pace is None else machine_cost(pace, compute)
        found.append(Contender("linear probe", document["probe"], pace, cost))
    return found


def comparison(model: ModelFolder, contenders: Sequence[Contender]) -> str:
    """Return the table of contenders as markdown."""
    headings = ["", task_view(model).measure, "95 % interval", *_HEADINGS]
    lines = [headings, ["---"] * len(headings), *(_row(model, one) for one in contenders)]
    return "\n".join([*(f"| {' | '.join(line)} |" for line in lines), "", _NOTE])


def _row(model: ModelFolder, one: Contender) -> list[str]:
    score, interval = task_view(model).score(one.task), score_interval(model, one.task)
    row = [
        one.name.replace("|", "\\|"),
        f"{float(score):.1%}",
        f"{interval.low:.1%} to {interval.high:.1%}",
        str(one.task["total"]),
    ]
    if one.pace is None:
        return [*row, "-", "-", "-", "-"]
    latency = one.pace.latency
    times = [f"{latency[name]:.3g}" for name in ("p50_s", "p95_s")]
    return [*row, *times, str(one.pace.concurrency), "-" if one.cost is None else str(one.cost)]


def score_interval(model: ModelFolder, task: Document) -> Interval:
    """Return the 95 % interval of the score that has the target."""
    kind = model.task_kind()
    if kind.name == "classification":
        return wilson_interval(task["correct"], task["total"])
    return bootstrap_interval(kind.counts(task), kind.headline_of)
