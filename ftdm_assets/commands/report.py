"""The table that ends a run: assets, digests, checks, seconds; then scores and addresses."""

from dataclasses import dataclass
from typing import Any

from ftdm_assets.commands import output
from ftdm_assets.graph.evidence import finding, lifted, production_version
from ftdm_assets.graph.plan import GraphPlan, Reading
from ftdm_assets.graph.production import endpoint
from ftdm_assets.graph.shell import reading_of
from ftdm_assets.provenance.store import StoreError


@dataclass(frozen=True)
class Outcome:
    """What a run came to: seconds by asset, what it set out to make, what stopped it."""

    seconds: dict[str, float]
    wanted: frozenset[str]
    problem: str
    total: float


def report(graph: GraphPlan, outcome: Outcome, as_json: bool) -> int:
    """Write the table; return 0 if every asset is there and every gating check has passed."""
    reading = reading_of(graph)
    rows = [_row(graph, reading, plan.name, outcome) for plan in graph.assets]
    failed = [check for row in rows for check in row["failed"]]
    whole = all(row["digest"] for row in rows)
    summary = _summary(reading)
    if as_json:
        output.print_json(
            {
                "assets": rows,
                "problem": outcome.problem,
                "seconds": round(outcome.total, 1),
                **summary,
            }
        )
    else:
        _show(rows, summary, outcome)
    return output.DONE if not failed and not outcome.problem and whole else output.NO


def _row(graph: GraphPlan, reading: Reading, name: str, outcome: Outcome) -> dict[str, Any]:
    try:
        digest = reading.digest(name)
    except StoreError:
        digest = ""
    findings = []
    if digest:
        findings = [
            lifted(reading, check, finding(reading, check, digest, {}))
            for check in graph.checks
            if check.asset == name
        ]
    passed = sum(one.state == "passed" for one in findings)
    return {
        "asset": name,
        "digest": digest,
        "checks": len(findings),
        "passed": passed,
        "failed": [f"{name}.{f.check}: {f.reason}" for f in findings if f.refuses],
        "warned": [
            f"{name}.{f.check}: {f.reason}"
            for f in findings
            if not f.refuses and f.state != "passed"
        ],
        "seconds": round(outcome.seconds[name], 1) if name in outcome.seconds else None,
        "current": bool(digest) and name not in outcome.wanted,
    }


def _summary(reading: Reading) -> dict[str, Any]:
    found: dict[str, Any] = {}
    try:
        facts = reading.manifest("eval_scores").facts
        names = ("accuracy", "macro_f1", "field_f1", "rouge_l", "prompted_accuracy", "examples")
        found["scores"] = {key: facts[key] for key in names if key in facts}
        beside = reading.manifest("baseline_scores").facts
        if "probe_accuracy" in beside:
            found["scores"]["probe_accuracy"] = beside["probe_accuracy"]
    except StoreError:
        pass
    version = production_version(reading)
    if version is not None:
        found["production"] = version.version
        found["endpoint"] = endpoint(reading.model.settings.serving)
    return found


def _time(row: dict[str, Any]) -> str:
    if row["seconds"] is not None:
        return f"{row['seconds']:.1f} s"
    return "current" if row["current"] else "not made"


def _show(rows: list[dict[str, Any]], summary: dict[str, Any], outcome: Outcome) -> None:
    output.say("")
    cells = [
        (
            row["asset"],
            row["digest"][:12],
            f"{row['passed']} of {row['checks']}" if row["digest"] else "",
            _time(row),
        )
        for row in rows
    ]
    output.table(("asset", "digest", "checks passed", "time"), cells)
    output.say("")
    for row in rows:
        for text in row["failed"]:
            output.fail(text)
        for text in row["warned"]:
            output.say(f"warning: {text}")
    if outcome.problem:
        output.fail(outcome.problem)
    scores = summary.get("scores")
    if scores:
        output.say(_scores_told(scores))
    if "production" in summary:
        output.say(f"production: {summary['production']} at {summary['endpoint']}")
    output.say(f"{outcome.total:.0f} s in all")


def _scores_told(scores: dict[str, Any]) -> str:
    known = {"field_f1": "field F1", "rouge_l": "ROUGE-L", "macro_f1": "macro-F1"}
    key, name = next((key, name) for key, name in known.items() if key in scores)
    right = "accuracy" if key == "macro_f1" else "whole answers right"
    beside = f"prompted baseline {scores['prompted_accuracy']:.1%}"
    if "probe_accuracy" in scores:
        beside += f", linear probe {scores['probe_accuracy']:.1%}"
    return (
        f"{right} {scores['accuracy']:.1%} on {scores['examples']} golden examples ({beside}), "
        f"{name} {scores[key]:.3f}"
    )
