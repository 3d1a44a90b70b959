"""What a stage says of its assets and checks; the shell turns it into Dagster definitions.

An ``AssetPlan`` is made again only when its recipe is new: its code version, the part of the
settings that shapes it, and its inputs' digests. A ``CheckPlan`` is judged again only when the
artifact, its threshold or the evidence that it rests on is new.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from ftdm_assets.model_folder import ModelFolder
from ftdm_assets.provenance.digests import json_digest
from ftdm_assets.provenance.gate import Decision, Requirement
from ftdm_assets.provenance.statements import Manifest, Severity
from ftdm_assets.provenance.store import Artifact, ArtifactStore


@dataclass(frozen=True)
class Built:
    """What building an asset gave.

    Attributes:
        artifact: the stored artifact; its digest becomes the data version.
        facts: what was counted or measured, for the manifest, the UI and the checks.
        attachments: artifacts that were made beside it, by name.
        pictures: PNG files by title, shown in the UI.
        tables: markdown by title, shown in the UI.
        sources: digests of what was really read from outside, where building has seen it.
    """

    artifact: Artifact
    facts: Mapping[str, Any] = field(default_factory=dict)
    attachments: Mapping[str, Artifact] = field(default_factory=dict)
    pictures: Mapping[str, bytes] = field(default_factory=dict)
    tables: Mapping[str, str] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """What a check found; ``tables`` are markdown by title, shown in the UI."""

    passed: bool
    reason: str
    measured: Mapping[str, Any] = field(default_factory=dict)
    against: Mapping[str, str] = field(default_factory=dict)
    tables: Mapping[str, str] = field(default_factory=dict)


class Reading:
    """What a check or an asset may read: its inputs' manifests and artifacts."""

    def __init__(self, model: ModelFolder, home: Path, store: ArtifactStore) -> None:
        self.model = model
        self.home = home
        self.store = store

    def head(self, asset: str) -> tuple[str, Manifest]:
        """Return the current manifest of an asset with the manifest's digest."""
        return self.store.head(self.model.name, asset)

    def manifest(self, asset: str) -> Manifest:
        """Return the current manifest of an asset."""
        return self.head(asset)[1]

    def digest(self, asset: str) -> str:
        """Return the digest of an asset's current artifact."""
        return self.manifest(asset).digest

    def artifact(self, asset: str) -> Artifact:
        """Return the current artifact of an asset."""
        manifest = self.manifest(asset)
        return self.store.find(manifest.kind, manifest.digest)

    def records(self, asset: str) -> list[dict[str, Any]]:
        """Return the rows of a dataset asset."""
        manifest = self.manifest(asset)
        return self.store.read_records(manifest.kind, manifest.digest)

    def document(self, asset: str) -> dict[str, Any]:
        """Return the document of an asset that is one JSON document."""
        manifest = self.manifest(asset)
        return self.store.read_document(manifest.kind, manifest.digest)

    def attachment(self, asset: str, name: str) -> Artifact:
        """Return an artifact that was made beside an asset."""
        entry = self.manifest(asset).attachments[name]
        return self.store.find(entry["kind"], entry["digest"])

    def attached_records(self, asset: str, name: str) -> list[dict[str, Any]]:
        """Return the rows of an attached dataset."""
        entry = self.manifest(asset).attachments[name]
        return self.store.read_records(entry["kind"], entry["digest"])


class Tools(Protocol):
    """What building an asset may do besides reading."""

    @property
    def run_id(self) -> str:
        """Return the id of the Dagster run."""

    @property
    def decision(self) -> Decision | None:
        """Return what the gate said before; None for an asset that is not gated."""

    def say(self, message: str) -> None:
        """Write a line to the asset's log."""

    def step(self, program: str, config: Mapping[str, Any]) -> Mapping[str, Any]:
        """Run a GPU step (``gpu_steps.PROGRAM``) out of process, its progress in the log.

        Returns:
            What a remote machine's operator says of it (``billable_seconds`` and more), or nothing.
        """


Build = Callable[[Reading, Tools], Built]
Seal = Callable[[Reading, Tools, str], None]
Judge = Callable[[Reading], Outcome]


def no_sources(_: ModelFolder) -> Mapping[str, str]:
    """Say that an asset reads nothing from outside the graph."""
    return {}


@dataclass(frozen=True)
class AssetPlan:
    """One asset of the graph.

    Attributes:
        deps: assets whose content it is made from.
        gate_deps: assets that it waits for, and whose verdicts it needs, without using their
            content (training waits for the baseline).
        sources: digests of what it reads from outside, by name of the external asset.
        config: the part of the settings that shapes its content.
        memoised: whether one recipe always gives one artifact; no for what depends on the time or
            on what runs (deployment, canary).
        gated: whether it refuses to start while a gating check upstream has not passed.
        gpu: whether it runs in the pool of GPU steps.
        seal: signs the manifest with the digest given, before the asset is current.
    """

    name: str
    group: str
    description: str
    build: Build
    version: str
    config: Mapping[str, Any]
    deps: tuple[str, ...] = ()
    gate_deps: tuple[str, ...] = ()
    sources: Callable[[ModelFolder], Mapping[str, str]] = no_sources
    source_names: tuple[str, ...] = ()
    memoised: bool = True
    gated: bool = False
    gpu: bool = False
    kinds: tuple[str, ...] = ()
    seal: Seal | None = None

    @property
    def code_version(self) -> str:
        """Return the version that Dagster compares: of the code and of the settings."""
        return f"{self.version}-{json_digest(dict(self.config))[:12]}"


@dataclass(frozen=True)
class CheckPlan:
    """One check of an asset, with the threshold in force.

    Attributes:
        evidence: digest of what the check rests on besides artifacts (people's sign-offs), for the
            artifact with the digest given; a verdict on other evidence is stale.
        overridable: whether a person may pass over it; no where it judges integrity.
    """

    asset: str
    name: str
    description: str
    judge: Judge
    threshold: Mapping[str, Any] = field(default_factory=dict)
    severity: Severity = "block"
    version: str = "1"
    evidence: Callable[[Reading, str], str] | None = None
    overridable: bool = True

    @property
    def requirement(self) -> Requirement:
        """Return what the gate asks for."""
        return Requirement(self.asset, self.name, self.threshold, self.severity, self.overridable)


@dataclass(frozen=True)
class GraphPlan:
    """All assets and checks of one domain model."""

    model: ModelFolder
    assets: tuple[AssetPlan, ...]
    checks: tuple[CheckPlan, ...]

    def asset(self, name: str) -> AssetPlan:
        """Return an asset's plan."""
        return next(plan for plan in self.assets if plan.name == name)

    def upstream(self, *names: str) -> set[str]:
        """Return the named assets and everything upstream of them."""
        found: set[str] = set()
        queue = list(names)
        while queue:
            name = queue.pop()
            if name not in found:
                found.add(name)
                plan = self.asset(name)
                queue.extend((*plan.deps, *plan.gate_deps))
        return found

    def downstream(self, *names: str) -> set[str]:
        """Return the named assets and everything downstream of them."""
        return {plan.name for plan in self.assets if self.upstream(plan.name) & set(names)}

    def requirements(self, assets: set[str]) -> list[Requirement]:
        """Return what the gate asks of these assets."""
        return [check.requirement for check in self.checks if check.asset in assets]
