"""What is deployed, and how the lineage hears of moves that were made outside of Dagster."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from ftdm_assets.graph.build import definitions_of
from ftdm_assets.graph.evidence import DEPLOYED
from ftdm_assets.graph.move_records import by_run, moves_sensor, tell_moves
from ftdm_assets.graph.plan import CheckPlan, Outcome, Reading
from ftdm_assets.graph.release import cache_terms
from ftdm_assets.graph.rollback import rollback_job
from ftdm_assets.provenance.gate import EVIDENCE
from ftdm_assets.provenance.lineage import REGISTERED
from ftdm_assets.provenance.statements import InputRef, Manifest
from ftdm_assets.registries.mlflow_registry import RegistryError
from ftdm_assets.settings import parse_settings
from serving.admission import AdmissionError
from serving.deployment import start_version
from serving.health import answering
from serving.names import served_name
from serving.platform import VersionSpec
from serving.pointer import PointerStore
from serving.supervised import Supervised
from serving.supervision import Supervisor
from serving.versions import CacheTerms, Version
from tests.graph.stage import Stage
from tests.provenance.samples import manifest, verdict
from tests.serving.serving_support import VOUCHED, digest_of, fake_engine, unasked
from tests.test_settings import GOOD

FIRST, SECOND = "demo-v0001", "demo-v0002"


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    monkeypatch.setenv("FTDM_HOME", str(tmp_path))
    return Stage(tmp_path)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


def register(stage: Stage, version: str, failed: str = "") -> Manifest:
    """Make a version and all that it is made from current, judged well but for one check."""
    graph, store = stage.graph, stage.reading.store
    made: dict[str, Manifest] = {}
    plans = [graph.asset(name) for name in graph.upstream(REGISTERED)]
    order = TopologicalSorter({one.name: (*one.deps, *one.gate_deps) for one in plans})
    for plan in map(graph.asset, order.static_order()):
        task = {"correct": 9, "total": 10}
        document = {"asset": plan.name, "version": version, "digest": version, "task": task}
        kind = {"eval_scores": "scores", REGISTERED: "version"}.get(plan.name, "document")
        artifact = store.put_document(kind, document)
        inputs = tuple(
            InputRef(name, made[name].digest, made[name].manifest_digest())
            for name in (*plan.deps, *plan.gate_deps)
        )
        one = manifest(plan.name, artifact.digest, kind=kind, facts={"version": version})
        made[plan.name] = replace(one, inputs=inputs)
        store.set_head("demo", plan.name, store.add_manifest(made[plan.name]))
    for check in graph.checks:
        if check.asset in made:
            _judge(stage, check, made[check.asset].digest, check.name != failed)
    return made[REGISTERED]


def _judge(stage: Stage, check: CheckPlan, digest: str, passed: bool) -> None:
    rests_on = {EVIDENCE: check.evidence(stage.reading, digest)} if check.evidence else {}
    stage.reading.store.add_verdict(
        verdict(
            check.asset, digest, check=check.name, passed=passed, threshold=check.threshold,
            against=rests_on, severity=check.severity,
        )
    )  # fmt: skip


def deploy(stage: Stage, registered: Manifest) -> None:
    ref = InputRef(REGISTERED, registered.digest, registered.manifest_digest())
    store = stage.reading.store
    artifact = store.put_document("deployment", {"version": registered.facts["version"]})
    made = replace(manifest(DEPLOYED, artifact.digest, kind="deployment"), inputs=(ref,))
    store.set_head("demo", DEPLOYED, store.add_manifest(made))


def all_verdicts(stage: Stage) -> Outcome:
    return stage.judge(DEPLOYED, "all_verdicts")


def test_all_verdicts_are_those_of_the_deployed_version_not_of_the_newest(stage: Stage) -> None:
    first = register(stage, FIRST)
    deploy(stage, first)
    assert all_verdicts(stage).passed
    second = register(stage, SECOND, failed="target_reached")
    assert all_verdicts(stage).passed, "the first is deployed; the second was never let through"
    deploy(stage, second)
    outcome = all_verdicts(stage)
    assert not outcome.passed
    assert "eval_scores.target_reached failed on" in outcome.reason
    deploy(stage, first)
    assert all_verdicts(stage).passed


def in_production(stage: Stage, *versions: str) -> None:
    with PointerStore(stage.reading.home) as store:
        for full in versions:
            store.record_version(
                Version(
                    *("demo", full, digest_of(full), Path("/models")),
                    *(served_name("demo", full, digest_of(full)), 2048, "bfloat16"),
                    state="ready",
                )
            )
            store.promote("demo", full, by="ana", reason="r", admit=unasked)


def roll_back(stage: Stage, by: str = "ana") -> None:
    with PointerStore(stage.reading.home) as store:
        store.rollback("demo", by=by, reason="worse", admit=unasked)


def deployments(stage: Stage) -> list[tuple[object, ...]]:
    made = stage.reading.store.manifests("demo", DEPLOYED)
    return [tuple(one.facts[name] for name in ("kind", "version", "by")) for one in made]


def test_a_move_at_the_gateway_is_told_once(
    stage: Stage, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(_: object) -> None:
        raise RegistryError("the registry does not answer")

    # A copy of the pointer in the registry: without it the lineage is told all the same.
    monkeypatch.setattr("ftdm_assets.graph.move_records.record_aliases", unreachable)
    register(stage, FIRST)
    register(stage, SECOND)
    assert tell_moves(stage.graph, stage.reading, instance) == []
    in_production(stage, FIRST, SECOND)
    told = tell_moves(stage.graph, stage.reading, instance)
    assert [move.to_version for move in told] == [FIRST, SECOND]
    roll_back(stage)
    context = dg.build_sensor_context(instance=instance, definitions=definitions_of(stage.graph))
    first = moves_sensor(stage.graph)(context)
    assert isinstance(first, dg.SkipReason)
    assert first.skip_message == f"deployed_version was materialised: rollback to {FIRST}."
    assert tell_moves(stage.graph, stage.reading, instance) == []
    promoted = [("promote", FIRST, "ana"), ("promote", SECOND, "ana")]
    assert deployments(stage) == [*promoted, ("rollback", FIRST, "ana")]
    assert stage.reading.document(DEPLOYED)["version"] == FIRST
    event = instance.get_latest_materialization_event(dg.AssetKey(["demo", DEPLOYED]))
    assert event is not None
    assert event.asset_materialization is not None
    assert event.asset_materialization.description == f"rollback to {FIRST}"


def test_a_move_of_a_run_is_left_to_it_until_it_has_ended(
    stage: Stage, instance: dg.DagsterInstance
) -> None:
    register(stage, FIRST)
    register(stage, SECOND)
    in_production(stage, FIRST, SECOND)
    tell_moves(stage.graph, stage.reading, instance)
    run = dg.DagsterRun(job_name="j", status=dg.DagsterRunStatus.STARTED)
    instance.add_run(run)
    roll_back(stage, by=f"ana (API key 12), {by_run(run.run_id)}")
    assert tell_moves(stage.graph, stage.reading, instance) == []
    instance.report_run_failed(run)
    (move,) = tell_moves(stage.graph, stage.reading, instance)
    assert move.to_version == FIRST


def test_a_run_tells_its_own_move(stage: Stage, instance: dg.DagsterInstance) -> None:
    register(stage, FIRST)
    in_production(stage, FIRST)
    register(stage, SECOND)
    in_production(stage, SECOND)
    run = dg.DagsterRun(job_name="j", status=dg.DagsterRunStatus.STARTED)
    instance.add_run(run)
    roll_back(stage, by=by_run(run.run_id))
    events: list[dg.AssetMaterialization] = []
    told = tell_moves(stage.graph, stage.reading, instance, run_id=run.run_id, report=events.append)
    assert len(told) == len(events) == 3


def test_the_job_starts_what_is_not_warm_and_tells_the_lineage(
    stage: Stage, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(stage, FIRST)
    register(stage, SECOND)
    in_production(stage, FIRST, SECOND)
    fake = partial(start_version, engine=fake_engine)
    monkeypatch.setattr("serving.cold.start_version", fake)
    local = partial(Supervised, engine=fake_engine)
    monkeypatch.setattr("ftdm_assets.graph.production.Supervised", local)
    monkeypatch.setattr("ftdm_assets.graph.rollback.StoreAdmission", lambda _: VOUCHED)
    monkeypatch.setattr("ftdm_assets.graph.rollback.record_aliases", lambda _: None)
    try:
        done = rollback_job(stage.graph).execute_in_process(instance=instance)
        with PointerStore(stage.reading.home) as pointers:
            current = pointers.resolve("demo")
        assert answering(current) == len(current.replicas) == 2
    finally:
        Supervisor(stage.reading.home).shutdown(timeout_s=0.5)
    assert done.success
    assert current.version == FIRST
    assert deployments(stage)[-1] == ("rollback", FIRST, by_run(done.run_id))
    (event,) = instance.get_records_for_run(
        done.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION
    ).records[-1:]
    assert event.event_log_entry.asset_materialization is not None
    assert event.event_log_entry.asset_materialization.description == f"rollback to {FIRST}"


def test_a_version_that_nobody_signed_is_not_deployed(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = stage.reading.store
    weights = store.put_files("model", {"model.safetensors": b"weights"})
    document = store.put_document("version", {"version": FIRST, "digest": weights.digest})
    facts = {"version": FIRST, "merged_digest": weights.digest}
    made = manifest(REGISTERED, document.digest, kind="version", facts=facts)
    store.set_head("demo", REGISTERED, store.add_manifest(made))
    # What stands in front of replicas: it is asked for nothing here.
    monkeypatch.setattr("serving.stack.up", lambda *_, **__: None)
    with pytest.raises(ValueError, match=f"{FIRST} is not served: {FIRST} is not signed"):
        stage.build(DEPLOYED)
    with PointerStore(stage.reading.home) as pointers:
        assert pointers.versions() == []


def register_weights(stage: Stage, beside: Mapping[str, object]) -> str:
    """Make a version current that nobody signed; returns its digest."""
    store = stage.reading.store
    weights = store.put_files("model", {"model.safetensors": b"weights"})
    known = {"version": FIRST, "number": 1, "digest": weights.digest, **beside}
    document = store.put_document("version", known)
    made = manifest(REGISTERED, document.digest, kind="version", facts={"version": FIRST})
    store.set_head("demo", REGISTERED, store.add_manifest(made))
    return weights.digest


@pytest.mark.parametrize("registered", [{"form": {"choice": ["b"]}}, {"form": {}}, {}])
def test_production_is_held_to_what_was_evaluated_not_to_the_settings_of_today(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, registered: dict[str, object]
) -> None:
    specs: list[VersionSpec] = []
    register_weights(stage, registered)

    def start(_: Path, spec: VersionSpec, **__: object) -> None:
        specs.append(spec)
        raise AdmissionError("not today")

    monkeypatch.setattr("serving.stack.up", lambda *_, **__: None)
    monkeypatch.setattr("serving.deployment.start_version", start)
    with pytest.raises(ValueError, match="not today"):
        stage.build(DEPLOYED)
    assert stage.graph.model.answer_form() == {"choice": ["a", "b"]}
    assert [spec.form for spec in specs] == [registered.get("form", {})]


def test_a_form_that_fails_its_smoke_test_is_taken_back(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = register_weights(stage, {"form": {"choice": ["b"]}})
    served = Version("demo", FIRST, digest, Path("/models"), "s", 2048, "bfloat16", state="ready")
    with PointerStore(stage.reading.home) as store:
        store.record_version(served)
        store.promote("demo", FIRST, by="ana", reason="r", admit=unasked)

    def start(home: Path, spec: VersionSpec, **_: object) -> None:
        with PointerStore(home) as store:
            store.record_version(replace(served, form=spec.form))

    def smoke(reading: Reading, name: str, *_: object) -> dict[str, Any]:
        with PointerStore(reading.home) as store:
            assert store.resolve(name).form == {"choice": ["b"]}
        return {"correct": 0, "examples": 10, "replicas": {}}

    monkeypatch.setattr("serving.stack.up", lambda *_, **__: None)
    monkeypatch.setattr("serving.deployment.start_version", start)
    monkeypatch.setattr("ftdm_assets.graph.registered_version.scores_of", lambda *_: {})
    monkeypatch.setattr("ftdm_assets.graph.release.smoke_test", smoke)
    with pytest.raises(ValueError, match="production was left as it was"):
        stage.build(DEPLOYED)
    with PointerStore(stage.reading.home) as store:
        assert store.version("demo", FIRST).form == {}


@pytest.mark.parametrize(
    ("allowed", "cache", "shared"),
    [
        ("confidential", {}, True),
        ("restricted", {}, False),
        ("restricted", {"shared": True}, True),
        ("internal", {"shared": False, "ttl_s": 5}, False),
    ],
)
def test_answers_of_restricted_models_are_not_shared_by_keys(
    allowed: str, cache: dict[str, object], shared: bool
) -> None:
    changes = {"cleaning": {"allowed_data_class": allowed}, "serving": {"cache": cache}}
    terms = cache_terms(parse_settings({**GOOD, **changes}, "defs.yaml"))
    assert terms == CacheTerms(True, cache.get("ttl_s", 86_400), shared)  # type: ignore[arg-type]


def test_a_previous_version_cannot_sleep_where_the_engine_cannot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = Stage(tmp_path, serving={"previous": "asleep"})
    store = stage.reading.store
    weights = store.put_files("model", {"model.safetensors": b"weights"})
    document = store.put_document("version", {"version": FIRST, "digest": weights.digest})
    made = manifest(REGISTERED, document.digest, kind="version", facts={"version": FIRST})
    store.set_head("demo", REGISTERED, store.add_manifest(made))
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho False\n", encoding="utf-8")
    python.chmod(0o755)
    monkeypatch.setenv("FTDM_SERVING_PYTHON", str(python))
    monkeypatch.setattr("serving.stack.up", lambda *_, **__: None)
    with pytest.raises(ValueError, match="has no sleep mode on this machine"):
        stage.build(DEPLOYED)
    with PointerStore(stage.reading.home) as pointers:
        assert pointers.versions() == []
