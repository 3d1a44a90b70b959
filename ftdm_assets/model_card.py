"""The model card: what a person should know before they rely on a version."""

from collections.abc import Mapping, Sequence
from typing import Any

from ftdm_assets.provenance.lineage import Node


def model_card(
    *, name: str, version: str, description: str, labels: Sequence[str], nodes: Sequence[Node],
    scores: Mapping[str, Any], baseline: Mapping[str, Any],
) -> str:  # fmt: skip
    """Return the card as Markdown.

    Args:
        name: the domain model.
        version: its version.
        description: what it is for.
        labels: the labels that it answers with.
        nodes: the lineage of the version, nearest first.
        scores: the evaluation's document.
        baseline: the baselines' document.
    """
    facts = {node.asset: node.manifest for node in reversed(nodes)}
    task, general = scores["task"], scores["general"]
    weakest = sorted(task["per_class"].items(), key=lambda item: (item[1]["recall"], item[0]))[:5]
    lines = [
        f"# {version}",
        "",
        description or f"The domain model `{name}`.",
        "",
        "## Use",
        "",
        f"Sorts a text into one of {len(labels)} labels and answers with the label's name. Send "
        "the text alone as the user message: the chat template carries the instruction. It was "
        "made for this task only; anything else it answers is not covered by its scores.",
        "",
        "## Scores on the golden set",
        "",
        "| | accuracy | right |",
        "|---|---|---|",
        f"| this version | {task['accuracy']:.1%} | {task['correct']} of {task['total']} |",
        _row("prompted base model", baseline["prompted"]),
        _row("linear probe", baseline["probe"]),
        "",
        f"Macro-F1 {task['macro_f1']:.3f}. General questions {general['accuracy']:.1%} (base "
        f"model {baseline['general']['accuracy']:.1%}).",
        "",
        "Weakest classes: "
        + ", ".join(f"{k} (recall {v['recall']:.0%})" for k, v in weakest)
        + ".",
        "",
        "## Made from",
        "",
        "| asset | digest | rows |",
        "|---|---|---|",
        *(_made(asset, manifest) for asset, manifest in facts.items()),
        "",
    ]
    return "\n".join(lines)


def _row(title: str, scores: Mapping[str, Any]) -> str:
    return f"| {title} | {scores['accuracy']:.1%} | {scores['correct']} of {scores['total']} |"


def _made(asset: str, manifest: Any) -> str:
    return f"| {asset} | `{manifest.digest}` | {manifest.facts.get('rows', '')} |"
