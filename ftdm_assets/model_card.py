"""The model card: what a person should know before they rely on a version."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ftdm_assets.provenance.lineage import Node


def model_card(
    *, name: str, version: str, description: str, nodes: Sequence[Node],
    scores: Mapping[str, Any], baseline: Mapping[str, Any],
) -> str:  # fmt: skip
    """Return the card as Markdown.

    Args:
        name: the domain model.
        version: its version.
        description: what it is for.
        nodes: the lineage of the version, nearest first.
        scores: the evaluation's document.
        baseline: the baselines' document.
    """
    facts = {node.asset: node.manifest for node in reversed(nodes)}
    task, general = scores["task"], scores["general"]
    parts = _extraction(task, baseline) if "fields" in task else _classification(task, baseline)
    lines = [
        f"# {version}",
        "",
        description or f"The domain model `{name}`.",
        "",
        "## Use",
        "",
        f"{parts.does} Send "
        "the text alone as the user message: the chat template carries the instruction. It was "
        "made for this task only; anything else it answers is not covered by its scores.",
        "",
        "## Scores on the golden set",
        "",
        *parts.table,
        "",
        f"{parts.headline} General questions {general['accuracy']:.1%} (base "
        f"model {baseline['general']['accuracy']:.1%}).",
        "",
        parts.weakest,
        "",
        "## Made from",
        "",
        "| asset | digest | rows |",
        "|---|---|---|",
        *(_made(asset, manifest) for asset, manifest in facts.items()),
        "",
    ]
    return "\n".join(lines)


@dataclass(frozen=True)
class _Parts:
    """What a card says differently for each kind of task."""

    does: str
    table: list[str]
    headline: str
    weakest: str


def _classification(task: Mapping[str, Any], baseline: Mapping[str, Any]) -> _Parts:
    worst = sorted(task["per_class"].items(), key=lambda item: (item[1]["recall"], item[0]))[:5]
    return _Parts(
        f"Sorts a text into one of {len(task['labels'])} labels and answers with the label's name.",
        [
            "| | accuracy | right |",
            "|---|---|---|",
            f"| this version | {task['accuracy']:.1%} | {task['correct']} of {task['total']} |",
            _row("prompted base model", baseline["prompted"]),
            _row("linear probe", baseline["probe"]),
        ],
        f"Macro-F1 {task['macro_f1']:.3f}.",
        "Weakest classes: " + ", ".join(f"{k} (recall {v['recall']:.0%})" for k, v in worst) + ".",
    )


def _extraction(task: Mapping[str, Any], baseline: Mapping[str, Any]) -> _Parts:
    worst = sorted(task["per_field"].items(), key=lambda item: (item[1]["f1"], item[0]))[:5]
    fields = task["fields"]
    return _Parts(
        "Extracts one JSON value by its schema from a text and answers with the JSON alone.",
        [
            "| | field F1 | right as a whole | valid by the schema |",
            "|---|---|---|---|",
            _extracted("this version", task),
            _extracted("prompted base model", baseline["prompted"]),
        ],
        f"Field precision {fields['precision']:.1%}, recall {fields['recall']:.1%}.",
        "Weakest fields: " + ", ".join(f"`{k}` (F1 {v['f1']:.0%})" for k, v in worst) + ".",
    )


def _extracted(title: str, task: Mapping[str, Any]) -> str:
    valid = task["total"] - task["invalid"]
    return (
        f"| {title} | {task['fields']['f1']:.1%} | {task['correct']} of {task['total']} | "
        f"{valid} of {task['total']} |"
    )


def _row(title: str, scores: Mapping[str, Any]) -> str:
    return f"| {title} | {scores['accuracy']:.1%} | {scores['correct']} of {scores['total']} |"


def _made(asset: str, manifest: Any) -> str:
    return f"| {asset} | `{manifest.digest}` | {manifest.facts.get('rows', '')} |"
