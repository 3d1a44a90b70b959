"""The shell on real Dagster runs: digests, recipes, verdicts, and a gate that holds across runs."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from ftdm_assets.graph.execute import Work, execute, work_to_do
from ftdm_assets.graph.plan import GraphPlan
from ftdm_assets.graph.shell import asset_key, reading_of
from tests.graph.samples import Counting, model_folder, small_graph


@pytest.fixture
def instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    monkeypatch.setenv("FTDM_HOME", str(tmp_path / "home"))
    with dg.DagsterInstance.local_temp(str(tmp_path)) as made:
        yield made


@pytest.fixture
def counting() -> Counting:
    return Counting()


def run(graph: GraphPlan, instance: dg.DagsterInstance, *assets: str) -> str:
    return execute(graph, instance, Work(frozenset(assets), frozenset()), str(uuid.uuid4()))


def run_stale(graph: GraphPlan, instance: dg.DagsterInstance) -> Work:
    work = work_to_do(graph, instance, None)
    if not work.nothing:
        execute(graph, instance, work, str(uuid.uuid4()))
    return work


def data_version(graph: GraphPlan, instance: dg.DagsterInstance, name: str) -> str:
    event = instance.get_latest_materialization_event(asset_key(graph, name))
    assert event is not None
    assert event.asset_materialization is not None
    return str((event.asset_materialization.tags or {})["dagster/data_version"])


def test_the_data_version_is_the_digest(
    tmp_path: Path, instance: dg.DagsterInstance, counting: Counting
) -> None:
    graph = small_graph(model_folder(tmp_path / "demo"), counting)
    assert run(graph, instance, "numbers", "total", "release") == ""
    reading = reading_of(graph)
    for name in ("numbers", "total", "release"):
        assert data_version(graph, instance, name) == reading.digest(name)
    assert reading.store.recompute(reading.artifact("numbers")) == reading.digest("numbers")


def test_a_second_run_finds_everything_current(
    tmp_path: Path, instance: dg.DagsterInstance, counting: Counting
) -> None:
    graph = small_graph(model_folder(tmp_path / "demo"), counting)
    assert run_stale(graph, instance).assets == {"numbers", "total", "release"}
    assert run_stale(graph, instance).nothing


def test_a_changed_label_runs_from_the_labels_on(
    tmp_path: Path, instance: dg.DagsterInstance, counting: Counting
) -> None:
    model = model_folder(tmp_path / "demo")
    graph = small_graph(model, counting)
    run_stale(graph, instance)
    model.resolve("labels.jsonl").write_text("1\n2\n3\n")
    assert run_stale(graph, instance).assets == {"numbers", "total", "release"}
    assert counting.built == {"numbers": 2, "total": 2, "release": 2}
    assert reading_of(graph).document("release") == {"total": 6}


def test_a_recipe_that_was_made_is_not_made_again(
    tmp_path: Path, instance: dg.DagsterInstance, counting: Counting
) -> None:
    model = model_folder(tmp_path / "demo")
    graph = small_graph(model, counting)
    run_stale(graph, instance)
    model.resolve("labels.jsonl").write_text("1\n2\n3\n")
    run_stale(graph, instance)
    model.resolve("labels.jsonl").write_text("1\n2\n")
    run_stale(graph, instance)
    assert counting.built == {"numbers": 2, "total": 2, "release": 2}
    assert reading_of(graph).document("release") == {"total": 3}


def test_the_evidence_survives_the_loss_of_dagster(
    tmp_path: Path, instance: dg.DagsterInstance, counting: Counting
) -> None:
    graph = small_graph(model_folder(tmp_path / "demo"), counting)
    run_stale(graph, instance)
    with dg.DagsterInstance.ephemeral() as empty:
        assert run_stale(graph, empty).assets == {"numbers", "total", "release"}
    assert counting.built == {"numbers": 1, "total": 1, "release": 1}


def test_a_changed_threshold_judges_again_and_makes_nothing(
    tmp_path: Path, instance: dg.DagsterInstance, counting: Counting
) -> None:
    model = model_folder(tmp_path / "demo")
    run_stale(small_graph(model, counting), instance)
    stricter = small_graph(model, counting, minimum=2)
    work = run_stale(stricter, instance)
    assert work == Work(frozenset(), frozenset({("total", "enough")}))
    assert counting.built == {"numbers": 1, "total": 1, "release": 1}
    assert run_stale(stricter, instance).nothing


def test_a_changed_configuration_makes_again(
    tmp_path: Path, instance: dg.DagsterInstance, counting: Counting
) -> None:
    model = model_folder(tmp_path / "demo")
    run_stale(small_graph(model, counting), instance)
    work = run_stale(small_graph(model, counting, config={"sample": 3}), instance)
    assert "numbers" in work.assets
    assert counting.built["numbers"] == 2


def test_a_failed_check_stops_its_own_run(
    tmp_path: Path, instance: dg.DagsterInstance, counting: Counting
) -> None:
    graph = small_graph(model_folder(tmp_path / "demo"), counting, minimum=100)
    run(graph, instance, "numbers", "total", "release")
    assert "release" not in counting.built


def test_a_failed_check_stops_a_later_run_of_the_release_alone(
    tmp_path: Path, instance: dg.DagsterInstance, counting: Counting
) -> None:
    graph = small_graph(model_folder(tmp_path / "demo"), counting, minimum=100)
    run(graph, instance, "numbers", "total")
    problem = run(graph, instance, "release")
    assert "release is refused: total.enough failed" in problem
    assert reading_of(graph).digest("total")[:12] in problem
    assert "release" not in counting.built


def test_a_release_without_any_verdict_is_refused(
    tmp_path: Path, instance: dg.DagsterInstance, counting: Counting
) -> None:
    graph = small_graph(model_folder(tmp_path / "demo"), counting)
    run(graph, instance, "numbers", "total")
    for path in (reading_of(graph).store.root / "verdicts").rglob("*.json"):
        path.unlink()
    assert "total.enough missing" in run(graph, instance, "release")


def test_a_verdict_on_an_older_artifact_does_not_count(
    tmp_path: Path, instance: dg.DagsterInstance, counting: Counting
) -> None:
    model = model_folder(tmp_path / "demo")
    graph = small_graph(model, counting)
    run_stale(graph, instance)
    model.resolve("labels.jsonl").write_text("1\n2\n3\n")
    unchecked = GraphPlan(graph.model, graph.assets, ())
    run(unchecked, instance, "numbers", "total")
    assert "total.enough missing" in run(graph, instance, "release")


def test_a_passed_check_in_another_run_counts(
    tmp_path: Path, instance: dg.DagsterInstance, counting: Counting
) -> None:
    graph = small_graph(model_folder(tmp_path / "demo"), counting)
    assert run(graph, instance, "numbers", "total") == ""
    assert run(graph, instance, "release") == ""
    assert counting.built["release"] == 1


def test_a_missing_label_file_is_one_sentence(
    tmp_path: Path, instance: dg.DagsterInstance, counting: Counting
) -> None:
    model = model_folder(tmp_path / "demo")
    graph = small_graph(model, counting)
    model.resolve("labels.jsonl").unlink()
    problem = run(graph, instance, "numbers")
    assert "labels.path: there is no file" in problem
    assert "Traceback" not in problem
