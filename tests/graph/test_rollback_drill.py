"""The drill as an asset: what it measures, what it says without a previous version, its check."""

from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from ftdm_assets.graph.build import build_plan, definitions_of
from ftdm_assets.graph.evidence import DEPLOYED
from ftdm_assets.graph.plan import Built, Outcome
from ftdm_assets.graph.rollback_drill import DRILL, drilled, schedules
from serving.pointer import PointerStore
from tests.graph.samples import model_folder
from tests.graph.stage import Stage
from tests.serving.as_replica import version_at
from tests.serving.serving_support import VOUCHED, unasked
from tests.serving.warm_replica import warm_replica

PREVIOUS, CURRENT = "demo-v0001", "demo-v0002"


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    made = Stage(tmp_path, serving={"drill": {"maximum_seconds": 4}})
    store = made.reading.store
    row = {"example_id": "g1", "input": "hello", "output": "a", "verified_by": "jane"}
    made.put("golden_set", Built(store.put_records("golden", [row])))
    made.put(DEPLOYED, Built(store.put_document("deployment", {"version": CURRENT})))
    return made


def in_production(stage: Stage, url: str, *versions: str) -> None:
    with PointerStore(stage.reading.home) as store:
        for full in versions:
            store.record_version(version_at(url, "demo", full, "served"))
            store.promote("demo", full, by="t", reason="r", admit=unasked)


def judged(stage: Stage, document: dict[str, Any]) -> Outcome:
    stage.put(DRILL, Built(stage.reading.store.put_document("drill", document)))
    return stage.judge(DRILL, "within_seconds")


def test_a_drill_is_measured_with_a_golden_example(stage: Stage) -> None:
    with warm_replica() as replica:
        in_production(stage, replica.url, PREVIOUS, CURRENT)
        document = drilled(stage.reading, VOUCHED)
    assert (document["outcome"], document["version"]) == ("measured", CURRENT)
    assert [body["messages"] for body in replica.asked] == [
        [{"role": "user", "content": "hello"}]
    ] * 2
    outcome = judged(stage, document)
    assert outcome.passed
    assert outcome.reason.startswith(f"{PREVIOUS} answered ")
    assert not judged(stage, {**document, "seconds": 4.1}).passed
    assert judged(stage, {**document, "seconds": 4.0}).passed


def test_without_a_previous_version_the_drill_says_so_and_passes(stage: Stage) -> None:
    made = stage.build(DRILL)
    assert made.facts["outcome"] == "nothing_to_drill"
    outcome = stage.judge(DRILL, "within_seconds")
    assert outcome.passed
    assert outcome.reason.startswith("not drilled: demo has no previous version yet")


def test_a_rollback_that_would_have_failed_fails_the_check(stage: Stage) -> None:
    with warm_replica() as replica:
        in_production(stage, replica.url, PREVIOUS, CURRENT)
        made = stage.build(DRILL)
    assert made.facts["outcome"] == "failed"
    outcome = stage.judge(DRILL, "within_seconds")
    assert not outcome.passed
    assert "a rollback would have failed" in outcome.reason
    assert f"{PREVIOUS} is not served" in outcome.reason


def test_the_schedule_and_how_to_switch_the_drill_off(tmp_path: Path) -> None:
    (schedule,) = schedules(build_plan(model_folder(tmp_path / "on")))
    assert (schedule.name, schedule.cron_schedule) == ("demo_rollback_drill", "30 6 * * 1")
    assert schedule.default_status == dg.DefaultScheduleStatus.RUNNING
    off = build_plan(model_folder(tmp_path / "off", serving={"drill": {"enabled": False}}))
    assert DRILL not in {plan.name for plan in off.assets}
    assert [one.name for one in definitions_of(off).schedules or []] == ["demo_weekly_canary"]


def test_the_drill_s_settings_redeploy_nothing(tmp_path: Path) -> None:
    plans = [
        build_plan(model_folder(tmp_path / "m", serving={"drill": {"maximum_seconds": seconds}}))
        for seconds in (5, 6)
    ]
    assert len({plan.asset(DEPLOYED).code_version for plan in plans}) == 1
