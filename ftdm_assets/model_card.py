"""The model card: what a person should know before they rely on a version."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ftdm_assets.provenance.statements import Manifest
from ftdm_assets.version_facts import DATASETS, VersionFacts
from golden.statistics import wilson_interval

HEADINGS = (
    "Use", "Limits", "Data", "Training", "Scores", "Gate", "Made from", "Verify it", "Roll back"
)  # fmt: skip
_WEAKEST = 5
_HELD = {
    "choice": "; its answers were held to the labels, and without that are others",
    "json": "; its answers were held to the schema, and without that are others",
}
_SETTINGS = ("method", "epochs", "learning_rate", "batch_size", "scheduler", "seed")


def model_card(facts: VersionFacts) -> str:
    """Return the card as Markdown."""
    sections = (
        _use(facts), _limits(facts), _data(facts), _training(facts), _scores(facts), _gate(facts),
        _made_from(facts), _verify(facts), _roll_back(facts),
    )  # fmt: skip
    parts = [
        f"# {facts.model} ({facts.merged[:12]})",
        facts.description or f"The domain model `{facts.model}`.",
    ]
    for heading, text in zip(HEADINGS, sections, strict=True):
        parts += [f"## {heading}", text]
    return "\n\n".join(parts) + "\n"


def missing_parts(card: str) -> list[str]:
    """Return the headings that a card lacks."""
    lines = set(card.splitlines())
    return [heading for heading in HEADINGS if f"## {heading}" not in lines]


def _use(facts: VersionFacts) -> str:
    does = "Answers a text as it was trained to"
    if "fields" in facts.task:
        does = "Extracts one JSON value by its schema from a text and answers with the JSON alone"
    elif "rouge_l" in facts.task:
        does = "Answers a text with a text in the house style that it was trained on"
    elif facts.labels:
        does = f"Sorts a text into one of {len(facts.labels)} labels and answers with its name"
    return (
        f"{does}. Send the text alone as the user message: the chat template carries the "
        "instruction. Meant for the texts of this task, as they come, with a person or a rule "
        "behind it for answers that it gets wrong."
    )


def _limits(facts: VersionFacts) -> str:
    low = wilson_interval(facts.task["correct"], facts.task["total"]).low
    told = [
        "Anything but this task is not covered by its scores.",
        f"Up to {1 - low:.0%} of texts like those of the golden set may be answered wrong.",
        "Texts of another kind, language or time than its training data were not tried.",
        "It gives no confidence with its answers.",
        _hidden_instructions(facts.scores.get("injected")),
    ]
    weakest = _weakest(facts.task)
    if weakest:
        told.append(weakest)
    return "\n".join(f"- {line}" for line in told)


def _hidden_instructions(injected: Mapping[str, Any] | None) -> str:
    if injected is None:
        return "Inputs that hide an instruction were not tried."
    return (
        f"Of {injected['total']} inputs that hide an instruction it obeyed "
        f"{len(injected['obeyed'])}; {injected['right']} were answered right."
    )


def _weakest(task: Mapping[str, Any]) -> str:
    for key, measure, title in (
        ("per_class", "recall", "Weakest classes"), ("per_field", "f1", "Weakest fields")
    ):  # fmt: skip
        parts = (task.get(key) or {}).items()
        worst = sorted(parts, key=lambda item: (item[1][measure], item[0]))[:_WEAKEST]
        if worst:
            named = ", ".join(f"{name} ({measure} {one[measure]:.0%})" for name, one in worst)
            return f"{title}: {named}."
    return ""


def _data(facts: VersionFacts) -> str:
    rows = [
        (asset, manifest.facts.get("rows", ""), f"`{manifest.digest[:12]}`")
        for asset in DATASETS
        if (manifest := facts.manifest(asset)) is not None
    ]
    raw = facts.facts("raw_labels")
    counted = (raw.get("data_classes") or {}).items()
    classes = ", ".join(f"{entry['rows']} {name}" for name, entry in counted)
    source = f"Read from {raw['source']}. " if raw.get("source") else ""
    return "\n\n".join(
        [
            f"{source}Highest data class: **{facts.data_class}**"
            f"{f' ({classes})' if classes else ''}; up to {facts.allowed_data_class} was allowed. "
            f"{_signed_off(facts)}",
            _table(("dataset", "records", "digest"), rows),
        ]
    )


def _signed_off(facts: VersionFacts) -> str:
    last = facts.sign_off
    if last is None:
        return "No person has signed the cleaned dataset off."
    return (
        f"{last.by} {'signed the cleaned dataset off' if last.accepted else 'refused it'} on "
        f"{last.signed_at[:10]} after {last.judged} of {last.size} records drawn at random, "
        f"{last.errors} of them wrong."
    )


def _training(facts: VersionFacts) -> str:
    adapter, base = facts.manifest("adapter"), facts.facts("base_model")
    config = {} if adapter is None else adapter.config
    trained = facts.facts("adapter")
    decides = (trained.get("environment") or {}).get("decides", {})
    usage = trained.get("usage") or {}
    settings = ", ".join(
        f"{name.replace('_', ' ')} {config[name]}" for name in _SETTINGS if name in config
    )
    cost = f", {usage['cost']} {usage['currency']}" if "cost" in usage else ""
    versions = ", ".join(
        f"{name} {decides[name]}" for name in ("torch", "transformers", "trl", "peft")
        if decides.get(name)
    )  # fmt: skip
    told = [
        f"Base model {base.get('name', 'unknown')} ({base.get('source', 'unknown')}), licence "
        f"{facts.licence or 'not stated'}.",
        f"Settings: {settings}." if settings else "",
        f"Machine: {decides.get('gpu') or decides.get('cpu') or 'unknown'}; "
        f"{float(usage.get('hours', 0)):.2f} hours{cost}.",
        f"With {versions}; all packages are in the ML-BOM." if versions else "",
    ]
    return " ".join(line for line in told if line)


def _scores(facts: VersionFacts) -> str:
    task, general = facts.task, facts.scores.get("general")
    rows = [_score("this version", task)]
    for title, name in ((facts.prompted, "prompted"), ("linear probe", "probe")):
        if facts.baseline.get(name):
            rows.append(_score(title, facts.baseline[name]))
    if general:
        rows.append(_score("general questions", general))
    if facts.baseline.get("general"):
        rows.append(_score("general questions, base model", facts.baseline["general"]))
    table = _table(("", "right", "accuracy", "95 % interval"), rows)
    golden = facts.manifest("golden_set")
    on = f"On golden set `{golden.digest[:12]}`. " if golden else ""
    macro = f"Macro-F1 {task['macro_f1']:.3f}. " if "macro_f1" in task else ""
    if "fields" in task:
        macro = (
            f"Right means the whole answer. Fields: F1 {task['fields']['f1']:.1%}, precision "
            f"{task['fields']['precision']:.1%}, recall {task['fields']['recall']:.1%}. "
        )
    return (
        f"{table}\n\n{on}{macro}Scored on the merged model, through the engine that serves it"
        f"{_HELD.get(facts.form, '')}."
    )


def _score(title: str, scores: Mapping[str, Any]) -> tuple[str, ...]:
    interval = wilson_interval(scores["correct"], scores["total"])
    return (
        title,
        f"{scores['correct']} of {scores['total']}",
        f"{scores['accuracy']:.1%}",
        f"{interval.low:.1%} to {interval.high:.1%}",
    )


def _gate(facts: VersionFacts) -> str:
    if facts.decision is None:
        return "The gate was not asked."
    findings = facts.decision.findings
    gating = [one for one in findings if one.severity == "block"]
    passed = [one for one in gating if one.state == "passed"]
    lines = [
        f"{len(passed)} of {len(gating)} gating checks of the model and its ancestors have passed."
    ]
    lines += [
        f"- **overridden**: {one.asset}.{one.check} on `{one.digest[:12]}`, by {one.override.by} "
        f"until {one.override.until[:16]}: {_line(one.override.reason)}"
        for one in findings
        if one.override is not None
    ]
    lines += [
        f"- warning: {one.asset}.{one.check}: {_line(one.reason)}"
        for one in findings
        if one.severity == "warn" and one.state != "passed"
    ]
    return "\n".join([lines[0], "", *lines[1:]]).rstrip()


def _made_from(facts: VersionFacts) -> str:
    manifests: dict[str, Manifest] = {n.asset: n.manifest for n in reversed(facts.nodes)}
    rows = [(asset, f"`{one.digest}`", one.run.get("finished_at", "")[:16])
            for asset, one in manifests.items()]  # fmt: skip
    return _table(("asset", "digest", "made"), rows)


def _verify(facts: VersionFacts) -> str:
    return (
        f"`ftdm verify {facts.model}-vNNNN` computes every digest anew and checks every signature, "
        "without a network. The weights alone, with OpenSSF's own tool and the signer's public "
        "key: `model_signing verify key FOLDER --signature model.sig --public-key KEY.pem`. "
        f"`ftdm trace {facts.model}-vNNNN` shows every record's way into it."
    )


def _roll_back(facts: VersionFacts) -> str:
    return (
        f"`ftdm rollback {facts.model} --reason WHY` puts production back to the version before, "
        "which is kept warm, in seconds; `--to VERSION` to another one."
    )


def _table(headings: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = [list(headings), ["---"] * len(headings), *([_line(c) for c in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _line(value: Any) -> str:
    return " ".join(str(value).split()).replace("|", "\\|")
