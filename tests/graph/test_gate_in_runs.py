"""The gate through separate Dagster runs: whatever happened between the check and the promotion.

Each refusal names the check, and the digest on which it does not hold.
"""

import json
import shutil
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from ftdm_assets.graph.execute import Work, execute, work_to_do
from ftdm_assets.graph.plan import CheckPlan, GraphPlan, Outcome, Reading
from ftdm_assets.graph.shell import judge, reading_of
from ftdm_assets.provenance.overrides import Override, add_override
from ftdm_assets.signing import HOME_KEY, signing_key
from serving.pointer import PointerStore
from serving.versions import Move
from tests.graph.gated import (
    TEXTS,
    cleaned_graph,
    gated_graph,
    ready_version,
    train_on,
    write_golden,
    write_labels,
)
from tests.serving.serving_support import unasked

SCORED = ("merged_model", "eval_scores")
TARGET = ("eval_scores", "target_reached")


def run(
    graph: GraphPlan,
    instance: dg.DagsterInstance,
    *assets: str,
    checks: frozenset[tuple[str, str]] = frozenset(),
) -> str:
    """Materialise assets with their checks, and judge others, in one run; return its problem."""
    return execute(graph, instance, Work(frozenset(assets), checks), str(uuid.uuid4()))


def unchecked(graph: GraphPlan) -> GraphPlan:
    return GraphPlan(graph.model, graph.assets, ())


def moves(reading: Reading) -> list[Move]:
    with PointerStore(reading.home) as pointers:
        return pointers.moves(reading.model.name)


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dg.DagsterInstance]:
    # Two runs at once in one process would each take the other's output for its own.
    module = "dagster._core.storage.noop_compute_log_manager"
    silent = {"module": module, "class": "NoOpComputeLogManager"}
    folder = str(tmp_path_factory.mktemp("dagster"))
    with dg.DagsterInstance.local_temp(folder, {"compute_logs": silent}) as made:
        yield made


@pytest.fixture(scope="module")
def registered(tmp_path_factory: pytest.TempPathFactory, instance: dg.DagsterInstance) -> Path:
    """A model that answers three of four right, passed every check and is registered."""
    folder = tmp_path_factory.mktemp("registered")
    (folder / "demo").mkdir()
    write_golden(folder / "demo")
    train_on(folder / "demo", right=3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FTDM_HOME", str(folder / "home"))
        graph = gated_graph(folder / "demo")
        assert run(graph, instance, "golden_set", *SCORED, "registered_version") == ""
    return folder


@pytest.fixture
def folder(registered: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that model's folder and home, the home in use."""
    for name in ("demo", "home"):
        shutil.copytree(registered / name, tmp_path / name)
    monkeypatch.setenv("FTDM_HOME", str(tmp_path / "home"))
    return tmp_path / "demo"


def test_a_check_that_failed_refuses_a_later_promotion_alone(
    folder: Path, instance: dg.DagsterInstance
) -> None:
    graph = gated_graph(folder, target=0.9)
    reading = reading_of(graph)
    run(graph, instance, checks=frozenset({TARGET}))
    told = run(graph, instance, "deployed_version")
    digest = reading.digest("eval_scores")[:12]
    assert told.startswith(
        f"deployed_version is refused: eval_scores.target_reached failed on {digest} (3 of 4 right"
    )
    assert moves(reading) == []


def test_a_verdict_that_was_deleted_refuses(folder: Path, instance: dg.DagsterInstance) -> None:
    graph = gated_graph(folder)
    reading = reading_of(graph)
    digest = reading.digest("eval_scores")
    for path in (reading.store.root / "verdicts" / "demo" / "eval_scores" / digest).iterdir():
        if json.loads(path.read_bytes())["predicate"]["check"] == "target_reached":
            path.unlink()
    told = run(graph, instance, "deployed_version")
    assert f"eval_scores.target_reached missing on {digest[:12]} (was never judged" in told
    assert "not_worse_than_production" not in told
    assert moves(reading) == []


def test_a_check_that_was_run_again_on_another_digest_does_not_count(
    folder: Path, instance: dg.DagsterInstance
) -> None:
    graph = gated_graph(folder)
    reading = reading_of(graph)
    train_on(folder, right=1)
    run(graph, instance, *SCORED)
    failed = reading.digest("eval_scores")
    train_on(folder, right=4)
    assert run(graph, instance, *SCORED) == ""
    assert reading.digest("eval_scores") != failed
    train_on(folder, right=1)
    run(unchecked(graph), instance, *SCORED)
    assert reading.digest("eval_scores") == failed
    told = run(graph, instance, "registered_version")
    assert f"registered_version is refused: eval_scores.target_reached failed on {failed[:12]}" in (
        told
    )


def test_a_candidate_that_was_trained_again_after_the_check_is_refused(
    folder: Path, instance: dg.DagsterInstance
) -> None:
    graph = gated_graph(folder)
    reading = reading_of(graph)
    scores, merged = reading.digest("eval_scores")[:12], reading.digest("merged_model")[:12]
    train_on(folder, right=4)
    # The new model's own checks have passed; its evaluation is still the one of the model before.
    assert run(graph, instance, "merged_model") == ""
    told = run(graph, instance, "registered_version")
    assert f"eval_scores.target_reached stale on {scores} (was judged against another " in told
    assert f"merged_model ({merged})" in told

    assert run(unchecked(graph), instance, "eval_scores") == ""
    told = run(graph, instance, "registered_version")
    assert f"eval_scores.target_reached missing on {reading.digest('eval_scores')[:12]}" in told

    # What was registered before may still be deployed, with the scores that were its own.
    assert run(graph, instance, "deployed_version") == ""
    deployed = reading.document("deployed_version")
    assert deployed["version"] == "demo-v0001"
    assert deployed["accuracy_at_deployment"] == {"correct": 3, "total": 4}


def test_a_golden_set_that_changed_after_the_evaluation_refuses(
    folder: Path, instance: dg.DagsterInstance
) -> None:
    graph = gated_graph(folder)
    reading = reading_of(graph)
    scores, golden = reading.digest("eval_scores")[:12], reading.digest("golden_set")[:12]
    refused = (
        f"eval_scores.target_reached stale on {scores} (was judged against another golden_set "
        f"({golden})"
    )
    write_golden(folder, verified_by="bob")
    assert refused in run(graph, instance, "deployed_version")
    # Judging the old scores again does not make them scores on the new set.
    assert run(graph, instance, "golden_set", checks=frozenset({TARGET})) == ""
    assert reading.digest("golden_set")[:12] != golden
    assert refused in run(graph, instance, "deployed_version")
    assert moves(reading) == []


def test_of_two_promotions_at_once_exactly_one_wins(
    folder: Path, instance: dg.DagsterInstance
) -> None:
    graph, both = gated_graph(folder), threading.Barrier(2, timeout=120)
    waiting = gated_graph(folder, before_taking_over=both.wait)
    reading = reading_of(graph)
    digests = {"demo-v0001": reading.digest("merged_model")}
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(run, waiting, instance, "deployed_version")
        while not both.n_waiting:
            assert not first.done(), first.result()
            time.sleep(0.01)
        train_on(folder, right=4)
        assert run(graph, instance, *SCORED, "registered_version") == ""
        digests["demo-v0002"] = reading.digest("merged_model")
        second = run(waiting, instance, "deployed_version")
        told = {"demo-v0001": first.result(), "demo-v0002": second}
    (won,) = [version for version, problem in told.items() if not problem]
    (lost,) = [version for version, problem in told.items() if problem]
    assert [(move.from_version, move.to_version) for move in moves(reading)] == [(None, won)]
    assert told[lost].startswith(
        f"{lost} ({digests[lost][:12]}) is refused: production moved to {won} "
        f"({digests[won][:12]}) after the gate had decided over nothing; "
        "eval_scores.not_worse_than_production was judged against another"
    )
    assert reading.document("deployed_version")["version"] == won


def test_a_comparison_with_nothing_counts_only_while_nothing_is_in_production(
    folder: Path, instance: dg.DagsterInstance
) -> None:
    graph = gated_graph(folder)
    reading = reading_of(graph)
    before = reading.document("registered_version")
    train_on(folder, right=4)
    assert run(graph, instance, *SCORED, "registered_version") == ""
    with PointerStore(reading.home) as pointers:
        pointers.record_version(ready_version(reading, before))
        pointers.promote("demo", before["version"], by="ana", reason="meanwhile", admit=unasked)
    told = run(graph, instance, "deployed_version")
    digest = reading.digest("eval_scores")[:12]
    assert f"eval_scores.not_worse_than_production stale on {digest} (was judged against " in told
    assert "another production (none)" in told


def test_an_override_that_expired_refuses_and_one_that_runs_passes(
    folder: Path, instance: dg.DagsterInstance
) -> None:
    graph = gated_graph(folder, target=0.9)
    reading = reading_of(graph)
    digest, key = reading.digest("eval_scores"), signing_key(HOME_KEY, reading.home)
    run(graph, instance, checks=frozenset({TARGET}))
    today = datetime.now(UTC)
    ended = Override(
        *("eval_scores", "demo", digest, "target_reached", "jane", "root", "urgent"),
        signed_at=(today - timedelta(days=2)).isoformat(),
        until=(today - timedelta(days=1)).isoformat(),
    )
    add_override(reading.store, ended, key)
    told = run(graph, instance, "deployed_version")
    assert f"eval_scores.target_reached failed on {digest[:12]}" in told
    assert f"the override by jane expired on {ended.until}" in told
    assert moves(reading) == []

    add_override(reading.store, replace(ended, until=(today + timedelta(days=1)).isoformat()), key)
    assert run(graph, instance, "deployed_version") == ""
    assert [move.to_version for move in moves(reading)] == ["demo-v0001"]


def test_what_another_run_makes_current_meanwhile_is_not_what_is_judged(folder: Path) -> None:
    graph = gated_graph(folder)
    reading = reading_of(graph)
    digest, manifest = reading.digest("merged_model"), reading.manifest("merged_model")

    def trained_meanwhile(pinned: Reading) -> Outcome:
        other = reading.store.put_files("model", {"answers.json": b"{}"})
        made = reading.store.add_manifest(replace(manifest, digest=other.digest))
        reading.store.set_head("demo", "merged_model", made)
        return Outcome(True, "measured", {"digest": pinned.artifact("merged_model").digest})

    judge(graph, CheckPlan("merged_model", "slow", "", trained_meanwhile), "a run")
    (verdict,) = [
        one for one in reading.store.verdicts("demo", "merged_model", digest) if one.check == "slow"
    ]
    assert verdict.measured == {"digest": digest}
    assert reading.digest("merged_model") != digest


def test_labels_that_the_cleaning_drops_leave_a_release_allowed_without_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FTDM_HOME", str(tmp_path / "home"))
    folder = tmp_path / "demo"
    folder.mkdir()
    write_golden(folder)
    write_labels(folder)
    graph = cleaned_graph(folder)
    reading = reading_of(graph)
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        made = ("raw_labels", "golden_set", "cleaned_dataset", *SCORED, "registered_version")
        assert work_to_do(graph, instance, None).assets >= set(made)
        assert run(graph, instance, *made) == ""
        before = {name: reading.digest(name) for name in made}
        write_labels(folder, (next(iter(TEXTS)), "b"))
        # As the UI does it: what Dagster calls stale, one after the other.
        for name in ("raw_labels", "cleaned_dataset"):
            assert work_to_do(graph, instance, None).assets >= {name}
            assert run(graph, instance, name) == ""
        changed = {name for name in made if reading.digest(name) != before[name]}
        assert changed == {"raw_labels"}
        assert reading.manifest("cleaned_dataset").facts["golden_overlaps"]
        work = work_to_do(graph, instance, None)
        assert work == Work(frozenset({"deployed_version"}), frozenset())
        assert run(graph, instance, "deployed_version") == ""
    assert [move.to_version for move in moves(reading)] == ["demo-v0001"]
