"""From plans to Dagster: materialise with a manifest, judge with a verdict.

Invariants:
* An asset's data version is its artifact's digest; its manifest is written before Dagster is told.
* A recipe that was already made is not made again: its artifact is taken from the store.
* Every check leaves a verdict bound to the digest that it judged.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import dagster as dg

from ftdm_assets import home as homes
from ftdm_assets import pictures
from ftdm_assets.compute.chosen import run_step
from ftdm_assets.graph.evidence import RefusedError, require
from ftdm_assets.graph.pinned import PinnedReading
from ftdm_assets.graph.plan import AssetPlan, Built, CheckPlan, GraphPlan, Outcome, Reading
from ftdm_assets.graph.recipe import recipe_of
from ftdm_assets.provenance.access_log import Reader
from ftdm_assets.provenance.environment import environment, now
from ftdm_assets.provenance.gate import EVIDENCE, Decision
from ftdm_assets.provenance.statements import ACCESS_LOG, InputRef, Manifest, Verdict
from ftdm_assets.provenance.store import StoreError
from ftdm_assets.settings import DomainModelSettings, SettingsError
from ftdm_assets.sources.tables import SourceError

GPU_POOL = "gpu"


class StepTools:
    """Gives a building asset its log and its GPU steps."""

    def __init__(
        self,
        context: dg.AssetExecutionContext,
        settings: DomainModelSettings,
        decision: Decision | None = None,
    ) -> None:
        self._context = context
        self._settings = settings
        self._decision = decision

    @property
    def run_id(self) -> str:
        """Return the id of the Dagster run."""
        return str(self._context.run.run_id)

    @property
    def decision(self) -> Decision | None:
        """Return what the gate said before; None for an asset that is not gated."""
        return self._decision

    def say(self, message: str) -> None:
        """Write a line to the asset's log."""
        self._context.log.info(message)

    def step(self, program: str, config: Mapping[str, Any]) -> Mapping[str, Any]:
        """Run a GPU step through Dagster Pipes, where the settings say."""
        compute, model = self._settings.compute, self._settings.name
        return run_step(self._context, compute, model, program, config, homes.work())


def reading_of(graph: GraphPlan, reader: Reader | None = None) -> Reading:
    """Return what the assets and checks of a graph read from; ``reader`` says who and why."""
    return Reading(graph.model, homes.home(), homes.store(reader))


def asset_key(graph: GraphPlan, name: str) -> dg.AssetKey:
    """Return the key of an asset under the model's prefix."""
    return dg.AssetKey([graph.model.name, name])


def asset_definition(graph: GraphPlan, plan: AssetPlan) -> dg.AssetsDefinition:
    """Return the Dagster asset of a plan."""

    @dg.asset(
        key=asset_key(graph, plan.name),
        deps=[asset_key(graph, name) for name in _upstream(plan)],
        group_name=plan.group,
        description=plan.description,
        code_version=plan.code_version,
        kinds=set(plan.kinds),
        pool=GPU_POOL if plan.gpu else None,
    )
    def _asset(context: dg.AssetExecutionContext) -> dg.MaterializeResult[None]:
        try:
            return _materialise(graph, plan, context)
        except (RefusedError, ValueError) as error:
            raise dg.Failure(description=str(error), allow_retries=False) from error

    return _asset


def check_definition(graph: GraphPlan, plan: CheckPlan) -> dg.AssetChecksDefinition:
    """Return the Dagster asset check of a plan."""

    @dg.asset_check(
        asset=asset_key(graph, plan.asset),
        name=plan.name,
        description=plan.description,
        blocking=plan.severity == "block",
    )
    def _check(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        try:
            return judge(graph, plan, context.run.run_id)
        except (StoreError, SettingsError, SourceError) as error:
            raise dg.Failure(description=str(error), allow_retries=False) from error

    return _check


def _upstream(plan: AssetPlan) -> list[str]:
    return [*plan.deps, *plan.gate_deps, *plan.source_names]


def _materialise(
    graph: GraphPlan, plan: AssetPlan, context: dg.AssetExecutionContext
) -> dg.MaterializeResult[None]:
    run_id = str(context.run.run_id)
    reader = Reader(f"asset {graph.model.name}/{plan.name}", run_id)
    reading = PinnedReading(reading_of(graph, reader))
    started = now()
    inputs = [
        _input(reading, name, name in plan.gate_deps) for name in (*plan.deps, *plan.gate_deps)
    ]
    decision = None
    if plan.gated:
        decision = require(graph, reading, (*plan.deps, *plan.gate_deps), plan.name)
    tools = StepTools(context, graph.model.settings, decision)
    sources = dict(plan.sources(graph.model))
    recipe = recipe_of(plan, inputs, sources)
    made = None
    if plan.memoised:
        made = reading.store.manifest_for_recipe(graph.model.name, plan.name, recipe)
    run = {"dagster_run_id": run_id, "started_at": started}
    if made is not None:
        context.log.info("This recipe was made before: the artifact is taken from the store.")
        manifest = (
            made
            if made.inputs == tuple(inputs)
            else _renewed(made, inputs, {**run, **ended(reading)})
        )
    else:
        built = plan.build(reading, tools)
        # A source may have moved on since it was asked: what was read is what the recipe names.
        sources.update(built.sources)
        recipe = recipe_of(plan, inputs, sources)
        built = replace(built, facts={**built.facts, "sources": sources})
        manifest = _manifest(graph, plan, inputs, recipe, built, {**run, **ended(reading)})
        manifest = _with_shown(reading, manifest, built)
    digest = reading.store.add_manifest(manifest)
    if plan.seal is not None:
        plan.seal(reading, tools, digest)
    reading.store.set_head(graph.model.name, plan.name, digest)
    metadata = result_metadata(reading, manifest, digest, reused=made is not None)
    return dg.MaterializeResult(data_version=dg.DataVersion(manifest.digest), metadata=metadata)


def _input(reading: Reading, name: str, gate_only: bool) -> InputRef:
    digest, manifest = reading.head(name)
    return InputRef(name, manifest.digest, digest, gate_only)


def _manifest(
    graph: GraphPlan,
    plan: AssetPlan,
    inputs: list[InputRef],
    recipe: str,
    built: Built,
    run: Mapping[str, Any],
) -> Manifest:
    attachments = {
        name: {"kind": item.kind, "digest": item.digest} for name, item in built.attachments.items()
    }
    return Manifest(
        asset=plan.name,
        model=graph.model.name,
        digest=built.artifact.digest,
        kind=built.artifact.kind,
        recipe=recipe,
        code_version=plan.code_version,
        config=dict(plan.config),
        inputs=tuple(inputs),
        environment=environment(),
        run=run,
        facts=dict(built.facts),
        attachments=attachments,
    )


def ended(reading: Reading) -> dict[str, Any]:
    """Return when the run ended, and the access record's head then: the manifest keeps it."""
    return {"finished_at": now(), ACCESS_LOG: str(reading.store.access_log.chain.head())}


def _renewed(made: Manifest, inputs: list[InputRef], run: Mapping[str, Any]) -> Manifest:
    reused = made.run.get("reused_from") or made.manifest_digest()
    return replace(made, inputs=tuple(inputs), run={**run, "reused_from": reused})


def _with_shown(reading: Reading, manifest: Manifest, built: Built) -> Manifest:
    """Return the manifest with the pictures and tables stored, as attachments by their titles."""
    attachments = dict(manifest.attachments)
    for title, text in built.tables.items():
        stored = reading.store.put_files("table", {"table.md": text.encode()})
        attachments[f"table: {title}"] = {"kind": stored.kind, "digest": stored.digest}
    for title, png in built.pictures.items():
        stored = reading.store.put_files("picture", {"picture.png": png})
        attachments[f"picture: {title}"] = {"kind": stored.kind, "digest": stored.digest}
    return replace(manifest, attachments=attachments)


def result_metadata(
    reading: Reading, manifest: Manifest, digest: str, *, reused: bool
) -> dict[str, dg.MetadataValue[Any]]:
    """Return what the UI shows beside a materialization: digests, counts, pictures."""
    metadata: dict[str, dg.MetadataValue[Any]] = {
        "digest": dg.MetadataValue.text(manifest.digest),
        "manifest": dg.MetadataValue.text(digest),
        "reused": dg.MetadataValue.bool(reused),
    }
    metadata.update(_all_shown(manifest.facts))
    if "rows" in metadata:
        metadata["dagster/row_count"] = metadata.pop("rows")
    for name, item in manifest.attachments.items():
        if name.startswith("picture: "):
            png = (reading.store.find(**item).path / "picture.png").read_bytes()
            title = name.removeprefix("picture: ")
            metadata[title] = dg.MetadataValue.md(pictures.markdown(png, title))
        elif name.startswith("table: "):
            text = (reading.store.find(**item).path / "table.md").read_text(encoding="utf-8")
            metadata[name.removeprefix("table: ")] = dg.MetadataValue.md(text)
        else:
            metadata[name] = dg.MetadataValue.text(item["digest"])
    return metadata


def _all_shown(values: Mapping[str, Any]) -> dict[str, dg.MetadataValue[Any]]:
    shown = {name: _shown(value) for name, value in values.items()}
    return {name: value for name, value in shown.items() if value is not None}


def _shown(value: Any) -> dg.MetadataValue[Any] | None:
    if isinstance(value, bool):
        return dg.MetadataValue.bool(value)
    if isinstance(value, int):
        return dg.MetadataValue.int(value)
    if isinstance(value, float):
        return dg.MetadataValue.float(round(value, 4))
    if isinstance(value, str) and value.startswith(("http://", "https://")):
        return dg.MetadataValue.url(value)
    if isinstance(value, str):
        return dg.MetadataValue.text(value)
    return dg.MetadataValue.json(value) if value else None


def judge(graph: GraphPlan, plan: CheckPlan, run_id: str) -> dg.AssetCheckResult:
    """Judge the current artifact, write the verdict, and return what Dagster shows."""
    reader = Reader(f"check {graph.model.name}/{plan.asset}.{plan.name}", run_id)
    reading = PinnedReading(reading_of(graph, reader))
    manifest = reading.manifest(plan.asset)
    # The evidence is named before it is judged: what comes in meanwhile makes the verdict stale.
    rests_on = {} if plan.evidence is None else {EVIDENCE: plan.evidence(reading, manifest.digest)}
    outcome = plan.judge(reading)
    outcome = replace(outcome, against={**outcome.against, **rests_on})
    verdict = _verdict(graph, plan, manifest.digest, outcome, run_id)
    digest = reading.store.add_verdict(verdict)
    return dg.AssetCheckResult(
        passed=outcome.passed,
        severity=dg.AssetCheckSeverity.ERROR
        if plan.severity == "block"
        else dg.AssetCheckSeverity.WARN,
        description=outcome.reason,
        metadata={
            **_all_shown(outcome.measured),
            **{title: dg.MetadataValue.md(text) for title, text in outcome.tables.items()},
            "threshold": dg.MetadataValue.json(dict(plan.threshold)),
            "judged_digest": dg.MetadataValue.text(manifest.digest),
            "verdict": dg.MetadataValue.text(digest),
        },
    )


def _verdict(
    graph: GraphPlan, plan: CheckPlan, digest: str, outcome: Outcome, run_id: str
) -> Verdict:
    return Verdict(
        check=plan.name,
        asset=plan.asset,
        model=graph.model.name,
        digest=digest,
        passed=outcome.passed,
        severity=plan.severity,
        measured=outcome.measured,
        threshold=plan.threshold,
        reason=outcome.reason,
        judged_at=now(),
        code_version=plan.version,
        run={"dagster_run_id": run_id},
        against=outcome.against,
    )
