"""The canary's check and the sensor behind it: exact at the limit, one request a drop."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from ftdm_assets.graph.build import build_plan, definitions_of
from ftdm_assets.graph.monitoring import canary_schedule, retraining_sensor
from ftdm_assets.graph.plan import GraphPlan
from ftdm_assets.graph.shell import judge, reading_of
from ftdm_assets.provenance.lineage import CANARY, CANARY_CHECK
from ftdm_assets.provenance.statements import InputRef
from tests.graph.samples import model_folder
from tests.provenance.samples import manifest

TOTAL = 1000


@pytest.fixture
def graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> GraphPlan:
    monkeypatch.setenv("FTDM_HOME", str(tmp_path / "home"))
    return build_plan(model_folder(tmp_path / "demo"))


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


def put(graph: GraphPlan, asset: str, document: dict[str, Any], inputs: dict[str, str]) -> str:
    """Store a document as the head of an asset."""
    store = reading_of(graph).store
    artifact = store.put_document("document", document)
    made = manifest(asset, artifact.digest)
    refs = tuple(InputRef(name, digest, digest) for name, digest in inputs.items())
    made = type(made)(**{**vars(made), "inputs": refs})
    store.set_head("demo", asset, store.add_manifest(made))
    return artifact.digest


def canary(
    graph: GraphPlan, correct: int, *, deployment: str = "d1", at_deployment: int = 900
) -> bool:
    """Score the canary with so many right answers, judge it, and return the verdict."""
    store = reading_of(graph).store
    golden = store.put_records("golden", [{"example_id": "g1"}])
    store.set_head("demo", "golden_set", store.add_manifest(manifest("golden_set", golden.digest)))
    document = {
        "version": "demo-v0001",
        "answered_by": ["demo-v0001"],
        "at_deployment": {"correct": at_deployment, "total": TOTAL},
        "task": {"correct": correct, "total": TOTAL, "accuracy": correct / TOTAL},
    }
    inputs = {"deployed_version": deployment, "golden_set": golden.digest}
    put(graph, CANARY, document, inputs)
    check = next(check for check in graph.checks if check.name == CANARY_CHECK)
    return bool(judge(graph, check, "run-1").passed)


def tick(graph: GraphPlan, instance: dg.DagsterInstance, cursor: str | None = None) -> Any:
    context = dg.build_sensor_context(
        instance=instance, cursor=cursor, definitions=definitions_of(graph)
    )
    return retraining_sensor(graph)(context)


def test_4_9_points_down_requests_nothing(graph: GraphPlan, instance: dg.DagsterInstance) -> None:
    assert canary(graph, 851)
    assert isinstance(tick(graph, instance), dg.SkipReason)


def test_5_0_points_down_requests_one_retraining(
    graph: GraphPlan, instance: dg.DagsterInstance
) -> None:
    assert not canary(graph, 850)
    first = tick(graph, instance)
    assert [request.run_key for request in first.run_requests] == ["retrain-d1"]
    names = {key.path[-1] for key in first.run_requests[0].asset_selection}
    assert {"raw_labels", "adapter", "deployed_version", "canary_scores"} <= names
    assert "5.0 points down" in first.run_requests[0].tags["ftdm/canary"]
    assert isinstance(tick(graph, instance, first.cursor), dg.SkipReason)


def test_a_second_bad_week_of_one_deployment_requests_nothing_more(
    graph: GraphPlan, instance: dg.DagsterInstance
) -> None:
    canary(graph, 850)
    cursor = tick(graph, instance).cursor
    canary(graph, 700)
    assert isinstance(tick(graph, instance, cursor), dg.SkipReason)


def test_a_drop_of_the_next_deployment_is_a_new_request(
    graph: GraphPlan, instance: dg.DagsterInstance
) -> None:
    canary(graph, 850)
    cursor = tick(graph, instance).cursor
    canary(graph, 800, deployment="d2")
    assert [r.run_key for r in tick(graph, instance, cursor).run_requests] == ["retrain-d2"]


def test_a_canary_that_recovered_requests_nothing(
    graph: GraphPlan, instance: dg.DagsterInstance
) -> None:
    canary(graph, 800)
    canary(graph, 890)
    assert isinstance(tick(graph, instance), dg.SkipReason)


def test_without_a_canary_the_sensor_waits(graph: GraphPlan, instance: dg.DagsterInstance) -> None:
    assert isinstance(tick(graph, instance), dg.SkipReason)


def test_answers_of_another_version_fail_the_canary(graph: GraphPlan) -> None:
    assert canary(graph, 900)
    store = reading_of(graph).store
    document = reading_of(graph).document(CANARY)
    artifact = store.put_document("document", {**document, "answered_by": ["demo-v0002"]})
    changed = replace(reading_of(graph).manifest(CANARY), digest=artifact.digest)
    store.set_head("demo", CANARY, store.add_manifest(changed))
    check = next(check for check in graph.checks if check.name == CANARY_CHECK)
    assert not judge(graph, check, "run-1").passed


def test_the_schedule_is_weekly_and_scores_the_canary(graph: GraphPlan) -> None:
    schedule = canary_schedule(graph)
    assert schedule.cron_schedule == "0 6 * * 1"
    assert schedule.default_status == dg.DefaultScheduleStatus.RUNNING
