"""What is known of a version when it is registered: what card and ML-BOM are written from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ftdm_assets.provenance.gate import Decision
from ftdm_assets.provenance.lineage import Node
from ftdm_assets.provenance.statements import Manifest, SignOff
from ftdm_assets.records.data_classes import DATA_CLASSES

# Assets that are data: what a bill of materials calls a dataset.
DATASETS = ("raw_labels", "golden_set", "cleaned_dataset", "training_set")


@dataclass(frozen=True)
class VersionFacts:
    """A version before it has a number.

    Attributes:
        model: the domain model.
        description: what it is for, in its owner's words.
        labels: the labels that it answers with.
        nodes: the lineage of the version, nearest first.
        merged: the merged model's digest.
        scores: the evaluation's document.
        baseline: the baselines' document.
        decision: what the gate said, if it was asked.
        sign_off: the latest sign-off of the cleaned dataset, if there is one.
        allowed_data_class: the highest data class that the model may learn from.
        licence: the base model's licence; blank if nobody stated it.
        packages: the packages that trained it, ``name==version`` a line.
    """

    model: str
    description: str
    labels: Sequence[str]
    nodes: Sequence[Node]
    merged: str
    scores: Mapping[str, Any]
    baseline: Mapping[str, Any]
    decision: Decision | None
    sign_off: SignOff | None
    allowed_data_class: str
    licence: str
    packages: str

    def manifest(self, asset: str) -> Manifest | None:
        """Return the manifest of an asset in the lineage, or None."""
        return next((n.manifest for n in self.nodes if n.asset == asset), None)

    def facts(self, asset: str) -> Mapping[str, Any]:
        """Return what was counted or measured for an asset; nothing if the lineage lacks it."""
        manifest = self.manifest(asset)
        return {} if manifest is None else manifest.facts

    @property
    def data_class(self) -> str:
        """Return the highest data class of a raw record, else the highest that is allowed."""
        counted = self.facts("raw_labels").get("data_classes") or {}
        found = [name for name in DATA_CLASSES if name in counted]
        return found[-1] if found else self.allowed_data_class

    @property
    def prompted(self) -> str:
        """Return what the prompted baseline was: the base model, or an endpoint's model."""
        endpoint = self.baseline.get("endpoint")
        return f"prompted {endpoint['model']}" if endpoint else "prompted base model"

    @property
    def form(self) -> str:
        """Return what its answers were held to: ``choice``, ``json``, or nothing (blank)."""
        return next(iter(self.scores.get("form", {})), "")

    @property
    def task(self) -> Mapping[str, Any]:
        """Return the scores on the golden set."""
        task: Mapping[str, Any] = self.scores["task"]
        return task
