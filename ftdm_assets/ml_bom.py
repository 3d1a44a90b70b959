"""The bill of materials of a version: CycloneDX 1.6 with its model card (an ML-BOM).

Invariants:
* The same version gives the same document: no time, no random number.
* It names datasets by digest and data class and holds no record of them.

The document is written here, because CycloneDX's Python library has no model cards; a test holds
it against the schema that the library ships.
"""

import uuid
from collections.abc import Iterator
from typing import Any

from ftdm_assets.version_facts import DATASETS, VersionFacts
from golden.statistics import wilson_interval

SPEC_VERSION = "1.6"
_NAMESPACE = uuid.UUID("2f0e7d0c-4d43-5a6b-9d38-6f1f6f6fbb2a")
# Of SPDX's list, what open models are under; another licence is given by its name.
_SPDX = {
    "Apache-2.0", "MIT", "BSD-3-Clause", "CC-BY-4.0", "CC-BY-SA-4.0", "CC-BY-NC-4.0", "GPL-3.0-only"
}  # fmt: skip


def ml_bom(facts: VersionFacts) -> dict[str, Any]:
    """Return the bill of materials as a JSON document."""
    model = _model(facts)
    components = [*_datasets(facts), *_base_model(facts), *_packages(facts)]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": SPEC_VERSION,
        "serialNumber": f"urn:uuid:{uuid.uuid5(_NAMESPACE, facts.merged)}",
        "version": 1,
        "metadata": {"component": model},
        "components": components,
        "dependencies": [
            {"ref": model["bom-ref"], "dependsOn": [one["bom-ref"] for one in components]},
            *({"ref": one["bom-ref"]} for one in components),
        ],
    }


def _model(facts: VersionFacts) -> dict[str, Any]:
    return {
        "type": "machine-learning-model",
        "bom-ref": f"model:{facts.merged}",
        "name": facts.model,
        "version": facts.merged,
        "description": facts.description or f"The domain model {facts.model}.",
        "modelCard": {
            "modelParameters": {
                "approach": {"type": "supervised"},
                "task": "text-classification" if facts.labels else "text-generation",
                **_family(facts),
                "datasets": [{"ref": one["bom-ref"]} for one in _datasets(facts)],
                "inputs": [{"format": "text"}],
                "outputs": [{"format": "text"}],
            },
            "quantitativeAnalysis": {"performanceMetrics": list(_metrics(facts))},
            "considerations": {
                "useCases": [facts.description or f"The task of {facts.model}."],
                "technicalLimitations": [
                    "Scores cover this task only, on texts like those of the golden set."
                ],
            },
        },
        "properties": _properties(
            digest=facts.merged,
            training=", ".join(
                f"{name}={value}"
                for name, value in sorted(_training(facts).items())
                if isinstance(value, str | int | float)
            ),
        ),
    }


def _family(facts: VersionFacts) -> dict[str, str]:
    family = facts.facts("base_model").get("family")
    return {"architectureFamily": str(family)} if family else {}


def _training(facts: VersionFacts) -> dict[str, Any]:
    adapter = facts.manifest("adapter")
    return {} if adapter is None else dict(adapter.config)


def _metrics(facts: VersionFacts) -> Iterator[dict[str, Any]]:
    for name, scores in (
        ("golden set", facts.task),
        ("general questions", facts.scores.get("general")),
        (f"golden set, {facts.prompted}", facts.baseline.get("prompted")),
    ):
        if scores:
            interval = wilson_interval(scores["correct"], scores["total"])
            yield {
                "type": "accuracy",
                "value": str(scores["accuracy"]),
                "slice": name,
                "confidenceInterval": {
                    "lowerBound": str(interval.low),
                    "upperBound": str(interval.high),
                },
            }
    if "macro_f1" in facts.task:
        yield {"type": "macro-F1", "value": str(facts.task["macro_f1"]), "slice": "golden set"}
    for label, one in sorted((facts.task.get("per_class") or {}).items()):
        yield {"type": "recall", "value": str(one["recall"]), "slice": label}


def _datasets(facts: VersionFacts) -> list[dict[str, Any]]:
    found = []
    for asset in DATASETS:
        manifest = facts.manifest(asset)
        if manifest is not None:
            found.append(
                {
                    "type": "data",
                    "bom-ref": f"data:{manifest.digest}",
                    "name": f"{facts.model}/{asset}",
                    "version": manifest.digest,
                    "data": [
                        {
                            "type": "dataset",
                            "name": asset,
                            "classification": facts.data_class,
                        }
                    ],
                    "properties": _properties(
                        digest=manifest.digest, records=manifest.facts.get("rows", "")
                    ),
                }
            )
    return found


def _base_model(facts: VersionFacts) -> Iterator[dict[str, Any]]:
    manifest = facts.manifest("base_model")
    if manifest is None:
        return
    licence = {"license": {"id" if facts.licence in _SPDX else "name": facts.licence}}
    yield {
        "type": "machine-learning-model",
        "bom-ref": f"model:{manifest.digest}",
        "name": str(manifest.facts.get("name", "base model")),
        "version": manifest.digest,
        **({"licenses": [licence]} if facts.licence else {}),
        "properties": _properties(digest=manifest.digest, source=manifest.facts.get("source", "")),
    }


def _packages(facts: VersionFacts) -> Iterator[dict[str, Any]]:
    for line in facts.packages.splitlines():
        name, _, version = line.partition("==")
        if name and version:
            purl = f"pkg:pypi/{name}@{version.replace('+', '%2B')}"
            yield {
                "type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl
            }  # fmt: skip


def _properties(**values: Any) -> list[dict[str, str]]:
    return [
        {"name": f"ftdm:{name}", "value": str(value)}
        for name, value in values.items()
        if value not in ("", None)
    ]
