"""The training stage without Dagster and without an engine: real plans, real store, real steps."""

import importlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from ftdm_assets.graph.build import build_plan
from ftdm_assets.graph.plan import Built, GraphPlan, Outcome, Reading
from ftdm_assets.provenance.access_log import Reader
from ftdm_assets.provenance.statements import InputRef, Manifest
from ftdm_assets.provenance.store import Artifact, ArtifactStore, StoreError
from tests.graph.samples import model_folder


class StepsHere:
    """Tools whose GPU steps run in this process."""

    run_id = "test"
    decision = None

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, message: str) -> None:
        self.said.append(message)

    def step(self, program: str, config: Mapping[str, Any]) -> Mapping[str, Any]:
        from gpu_steps.config import parse
        from gpu_steps.reporting import RecordingReporter

        # Loaded by name: some need torch, predicting does not.
        module = importlib.import_module(f"gpu_steps.{program}")
        kind, run = {
            "prepare_base": ("PrepareBase", "prepare"),
            "train": ("Train", "train"),
            "merge": ("Merge", "merge"),
            "predict": ("Predict", "predict"),
        }[program]
        content = parse(dict(config), getattr(module, kind), program)
        getattr(module, run)(content, RecordingReporter())
        return {}


class Stage:
    """A domain model's graph whose assets are built one by one and can be tampered with."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.graph: GraphPlan = build_plan(model_folder(folder / "demo", **settings))
        store = ArtifactStore(folder / "store", Reader("test"))
        self.reading = Reading(self.graph.model, folder, store)
        self.tools = StepsHere()

    def build(self, name: str) -> Manifest:
        """Build an asset and make it current."""
        return self.put(name, self.graph.asset(name).build(self.reading, self.tools))

    def put(self, name: str, built: Built) -> Manifest:
        """Make what was built the current artifact of an asset."""
        attachments = {
            title: {"kind": item.kind, "digest": item.digest}
            for title, item in built.attachments.items()
        }
        return self._make_current(
            Manifest(
                asset=name, model=self.graph.model.name, digest=built.artifact.digest,
                kind=built.artifact.kind, recipe="", code_version="1", config={},
                inputs=tuple(self._inputs(name)), environment={}, run={}, facts=dict(built.facts),
                attachments=attachments,
            )
        )  # fmt: skip

    def tamper(self, name: str, artifact: Artifact | None = None, **changes: Any) -> Manifest:
        """Make another artifact, other facts or other attachments current."""
        manifest = self.reading.manifest(name)
        digest = manifest.digest if artifact is None else artifact.digest
        return self._make_current(replace(manifest, digest=digest, **changes))

    def judge(self, asset: str, check: str) -> Outcome:
        """Judge the current artifact of an asset."""
        plan = next(c for c in self.graph.checks if (c.asset, c.name) == (asset, check))
        return plan.judge(self.reading)

    def _inputs(self, name: str) -> Iterator[InputRef]:
        for asset in self.graph.asset(name).deps:
            with suppress(StoreError):
                digest, made = self.reading.head(asset)
                yield InputRef(asset, made.digest, digest)

    def _make_current(self, manifest: Manifest) -> Manifest:
        digest = self.reading.store.add_manifest(manifest)
        self.reading.store.set_head(manifest.model, manifest.asset, digest)
        return manifest
