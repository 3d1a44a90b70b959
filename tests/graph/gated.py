"""A graph to promote through: real golden set, scoring, gates, overrides and production pointer.

What takes a GPU is left out: the "model" is a table of answers, and a version is ready at once.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ftdm_assets.graph import registered_version, release
from ftdm_assets.graph.build import build_plan
from ftdm_assets.graph.plan import (
    AssetPlan,
    Built,
    CheckPlan,
    GraphPlan,
    Outcome,
    Reading,
    Tools,
    no_sources,
)
from ftdm_assets.graph.prediction import examples_of
from ftdm_assets.model_folder import ModelFolder
from serving.pointer import PointerStore
from serving.versions import Version
from tests.graph.samples import model_folder
from tests.serving.as_replica import version_at
from tests.serving.serving_support import VOUCHED
from tests.serving.warm_replica import warm_replica

CHECKS = {
    ("golden_set", "verified"),
    ("eval_scores", "target_reached"),
    ("eval_scores", "not_worse_than_production"),
}
CLEANED_CHECKS = {("raw_labels", "schema"), ("cleaned_dataset", "ledger_complete")}
TEXTS = {"parcel late": "a", "lamp broken": "a", "charged twice": "b", "cannot log in": "b"}


def write_golden(folder: Path, verified_by: str = "ana") -> None:
    """Write four golden examples that a person vouches for."""
    rows = [
        {"id": f"g{n}", "text": text, "label": label, "verified_by": verified_by}
        for n, (text, label) in enumerate(TEXTS.items())
    ]
    (folder / "golden.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))


def train_on(folder: Path, right: int, note: str = "") -> None:
    """Write labels from which a model learns to answer so many golden examples right."""
    answers = {text: label if n < right else "x" for n, (text, label) in enumerate(TEXTS.items())}
    (folder / "labels.jsonl").write_text(json.dumps({**answers, "note": note}))


def gated_graph(
    folder: Path, *, target: float = 0.7, before_taking_over: Callable[[], Any] = lambda: None
) -> GraphPlan:
    """Return golden_set, merged_model → eval_scores → registered_version → deployed_version."""
    gates = {"target_accuracy": target, "worse_than_production_points": 5}
    model = model_folder(folder, gates=gates)
    real = build_plan(model)
    checks = [check for check in real.checks if (check.asset, check.name) in CHECKS]
    return GraphPlan(
        model,
        (
            real.asset("golden_set"),
            AssetPlan(
                "merged_model", "training", "A table of answers.", _train, "1", {},
                sources=_labels, source_names=("label_source",),
            ),
            AssetPlan(
                "eval_scores", "evaluation", "Its scores.", _score, "1", {},
                deps=("merged_model", "golden_set"),
            ),
            AssetPlan(
                "registered_version", "release", "Registered.", _register, "1", {},
                deps=("merged_model", "eval_scores"), gated=True,
            ),
            AssetPlan(
                "deployed_version", "release", "Deployed.",
                lambda r, t: _deploy(r, t, before_taking_over), "1", {},
                deps=("registered_version",), memoised=False, gated=True,
            ),
        ),
        (*checks, CheckPlan("merged_model", "answers", "It has answers.", _has_answers)),
    )  # fmt: skip


def write_labels(folder: Path, *more: tuple[str, str]) -> None:
    """Write a label for the first word of each golden example, and more rows."""
    rows = [(f"{text.split()[0]} {said}", label) for (text, label), said in zip(
        TEXTS.items(), ("was never brought to me", "does not shine", "two sums for one", "is my"),
        strict=True,
    )]  # fmt: skip
    lines = [
        json.dumps({"id": f"r{n}", "text": text, "label": label, "annotator": "ana"})
        for n, (text, label) in enumerate((*rows, *more))
    ]
    (folder / "labels.jsonl").write_text("".join(f"{line}\n" for line in lines))


def cleaned_graph(folder: Path) -> GraphPlan:
    """Return `gated_graph` with the real labels and cleaning before it; its model learns words."""
    gated = gated_graph(folder)
    real = build_plan(gated.model)
    stages = ("raw_labels", "cleaned_dataset")
    trained = replace(
        gated.asset("merged_model"), build=_train_on_cleaned, deps=("cleaned_dataset",),
        sources=no_sources, source_names=(),
    )  # fmt: skip
    rest = [plan for plan in gated.assets if plan.name != "merged_model"]
    checks = [check for check in real.checks if (check.asset, check.name) in CLEANED_CHECKS]
    return GraphPlan(
        gated.model,
        (*(real.asset(name) for name in stages), trained, *rest),
        (*checks, *gated.checks),
    )


def _train_on_cleaned(reading: Reading, tools: Tools) -> Built:
    rows = reading.records("cleaned_dataset")
    learned = {row["input"].split()[0]: row["output"] for row in rows}
    answers = {text: learned[text.split()[0]] for text in TEXTS}
    content = json.dumps({**answers, "note": ""}).encode()
    return Built(reading.store.put_files("model", {"answers.json": content}))


def _labels(model: ModelFolder) -> dict[str, str]:
    return {"label_source": model.file_digest("labels.jsonl", "labels.path")}


def _train(reading: Reading, tools: Tools) -> Built:
    weights = reading.model.resolve("labels.jsonl").read_bytes()
    return Built(reading.store.put_files("model", {"answers.json": weights}))


def _answers(reading: Reading) -> dict[str, Any]:
    folder = reading.artifact("merged_model").path
    answers: dict[str, Any] = json.loads((folder / "answers.json").read_bytes())
    return answers


def _has_answers(reading: Reading) -> Outcome:
    return Outcome(bool(_answers(reading)), "a table of answers")


def _score(reading: Reading, tools: Tools) -> Built:
    answers, examples = _answers(reading), examples_of(reading)
    predictions = {one.example_id: answers[one.input] for one in examples}
    task = reading.model.task_kind().score(examples, predictions).as_dict()
    return Built(reading.store.put_document("scores", {"task": task, "note": answers["note"]}))


def _register(reading: Reading, tools: Tools) -> Built:
    merged, name = reading.digest("merged_model"), reading.model.name
    before = [one.facts["merged"] for one in reading.store.manifests(name, "registered_version")]
    version = f"{name}-v{len({*before, merged}):04d}"
    document = reading.store.put_document("version", {"version": version, "digest": merged})
    return Built(document, facts={"version": version, "merged": merged})


def ready_version(reading: Reading, document: Mapping[str, Any], url: str = "") -> Version:
    """Return a registered version as one whose replicas answer."""
    folder, name = reading.store.find("model", document["digest"]).path, reading.model.name
    version, digest = document["version"], document["digest"]
    made = version_at(url, name, version, name, folder=folder)
    return replace(made, digest=digest, replicas=made.replicas if url else ())


def _deploy(reading: Reading, tools: Tools, before_taking_over: Callable[[], Any]) -> Built:
    registered = reading.document("registered_version")
    with warm_replica() as replica:
        with PointerStore(reading.home) as pointers:
            pointers.record_version(ready_version(reading, registered, replica.url))
        before_taking_over()
        move = release.take_over(reading, tools, registered["version"], VOUCHED)
    task = registered_version.scores_of(reading, reading.manifest("registered_version"))["task"]
    document = release.deployment_document(registered, move, None, task)
    return Built(reading.store.put_document("deployment", document))
