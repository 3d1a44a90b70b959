"""A person's sign-off on real Dagster runs: it gates, it is seen, it counts for one digest."""

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from ftdm_assets.graph import protection, sign_off
from ftdm_assets.graph.execute import Work, execute, work_to_do
from ftdm_assets.graph.plan import AssetPlan, Built, GraphPlan, Reading, Tools
from ftdm_assets.graph.shell import judge, reading_of
from ftdm_assets.graph.sign_off import DATASET
from ftdm_assets.model_folder import ModelFolder
from ftdm_assets.provenance.access_log import Reader
from ftdm_assets.records.review import Answered
from tests.graph.samples import model_folder
from tests.provenance.samples import manifest

RECORDS = [
    {"record_id": f"r{n}", "input": f"text {n}", "output": "a", "data_class": "internal"}
    for n in range(30)
]


@pytest.fixture
def instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    monkeypatch.setenv("FTDM_HOME", str(tmp_path / "home"))
    with dg.DagsterInstance.local_temp(str(tmp_path)) as made:
        yield made


def small(model: ModelFolder) -> GraphPlan:
    """Return cleaned_dataset → training_set → (gated) adapter, with the sign-off's check."""

    def cleaned(reading: Reading, tools: Tools) -> Built:
        count = int(reading.model.resolve("labels.jsonl").read_text().split()[0])
        return Built(reading.store.put_records("dataset", RECORDS[:count]))

    def training(reading: Reading, tools: Tools) -> Built:
        rows = reading.records("cleaned_dataset")
        return Built(reading.store.put_records("training_set", rows))

    def adapter(reading: Reading, tools: Tools) -> Built:
        rows = len(reading.records("training_set"))
        return Built(reading.store.put_document("adapter", {"rows": rows}))

    return GraphPlan(
        model,
        (
            AssetPlan(
                "cleaned_dataset", "dataset", "", cleaned, "1", {},
                sources=lambda m: {"label_source": m.file_digest("labels.jsonl", "labels.path")},
                source_names=("label_source",),
            ),
            AssetPlan("training_set", "dataset", "", training, "1", {}, deps=("cleaned_dataset",)),
            AssetPlan(
                "adapter", "training", "", adapter, "1", {}, deps=("training_set",), gated=True
            ),
        ),
        (sign_off.check(model),),
    )  # fmt: skip


def model_of(tmp_path: Path, **settings: Any) -> ModelFolder:
    model = model_folder(tmp_path / "demo", sign_off={"sample": 10, "required": True, **settings})
    model.resolve("labels.jsonl").write_text("20\n")
    return model


def run(graph: GraphPlan, instance: dg.DagsterInstance) -> tuple[Work, str]:
    """Do what ``ftdm run`` does; return what there was to do, and what stopped it."""
    work, problem = work_to_do(graph, instance, None), ""
    for part in work.in_order():
        problem = execute(graph, instance, part, str(uuid.uuid4())) or problem
    return work, problem


def answers(reading: Reading, wrong: int = 0, skipped: int = 0) -> list[Answered]:
    kinds = ["wrong_label"] * wrong + ["skip"] * skipped
    kinds += ["accept"] * (10 - len(kinds))
    return [
        Answered(row["record_id"], row["digest"], kind)
        for row, kind in zip(DATASET.sample(reading), kinds, strict=True)
    ]


def made(graph: GraphPlan) -> set[str]:
    return {path.name for path in (reading_of(graph).store.root / "heads" / "demo").iterdir()}


def test_training_waits_for_the_sign_off_and_sees_it(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    graph = small(model_of(tmp_path))
    run(graph, instance)
    assert made(graph) == {"cleaned_dataset"}
    # A later run goes past the check's own run, and meets the gate.
    assert "adapter is refused: cleaned_dataset.signed_off failed" in run(graph, instance)[1]
    assert made(graph) == {"cleaned_dataset", "training_set"}
    reading = reading_of(graph, Reader("review"))
    digest = reading.digest("cleaned_dataset")
    sign_off.sign(reading, DATASET, answers(reading), by="jane", how="import", accepted=True)
    work, problem = run(graph, instance)
    assert problem == ""
    assert work.checks == frozenset({("cleaned_dataset", "signed_off")})
    assert reading.digest("cleaned_dataset") == digest
    assert "adapter" in made(graph)
    assert run(graph, instance)[0].nothing
    # Another dataset needs a sign-off of its own.
    graph.model.resolve("labels.jsonl").write_text("25\n")
    run(graph, instance)
    assert not verdict(graph).passed
    # Every read is in the record, with asset or check and run; manifests keep its head.
    entries = [entry["content"] for entry in reading.store.access_log.chain.entries()]
    assert {"asset demo/training_set", "asset demo/adapter", "review"} <= {
        entry["why"] for entry in entries
    }
    checks = [entry for entry in entries if entry["why"] == "check demo/cleaned_dataset.signed_off"]
    assert {entry["digest"] for entry in checks if entry["run_id"]} >= {digest}
    kept = str(reading.manifest("adapter").run["access_log"])
    assert 0 < int(kept.split(":")[0]) <= len(entries)


def verdict(graph: GraphPlan) -> Any:
    return judge(graph, graph.checks[0], "run-1")


@pytest.fixture
def graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> GraphPlan:
    """Return the graph with a dataset of 20 records, without a run."""
    monkeypatch.setenv("FTDM_HOME", str(tmp_path / "home"))
    graph = small(model_of(tmp_path, maximum_error_share=0.1))
    store = reading_of(graph).store
    artifact = store.put_records("dataset", RECORDS[:20])
    described = manifest("cleaned_dataset", artifact.digest, kind="dataset")
    store.set_head("demo", "cleaned_dataset", store.add_manifest(described))
    return graph


@pytest.mark.parametrize(
    ("wrong", "skipped", "accepted", "passes"),
    [
        (0, 0, True, True), (1, 0, True, True), (2, 0, True, False), (0, 5, True, True),
        (0, 6, True, False), (0, 10, True, False), (1, 1, True, False), (0, 0, False, False),
    ],
)  # fmt: skip
def test_what_is_accepted(
    graph: GraphPlan, wrong: int, skipped: int, accepted: bool, passes: bool
) -> None:
    reading = reading_of(graph)
    given = answers(reading, wrong, skipped)
    sign_off.sign(reading, DATASET, given, by="jane", how="import", accepted=accepted)
    result = verdict(graph)
    assert result.passed == passes
    assert "jane" in result.description
    assert result.metadata["seed"].value
    assert result.metadata["sample"].value == 10


def test_the_latest_sign_off_counts(graph: GraphPlan) -> None:
    reading = reading_of(graph)
    sign_off.sign(reading, DATASET, answers(reading), by="jane", how="import", accepted=True)
    assert verdict(graph).passed
    sign_off.sign(reading, DATASET, answers(reading, 4), by="joe", how="import", accepted=True)
    told = verdict(graph).description
    assert "refused by joe on 20" in told
    assert "4 of 10 judged records are wrong (40.0%" in told


def test_another_sample_or_a_stricter_level_does_not_count(
    graph: GraphPlan, tmp_path: Path
) -> None:
    reading = reading_of(graph)
    given = answers(reading, 1)
    sign_off.sign(reading, DATASET, given[:9], by="jane", how="import", accepted=True)
    assert "jane answered another sample" in verdict(graph).description
    sign_off.sign(reading, DATASET, given, by="jane", how="import", accepted=True)
    assert verdict(graph).passed
    assert not verdict(small(model_of(tmp_path, maximum_error_share=0.05))).passed


def raw(graph: GraphPlan, **classes: int) -> Reading:
    """Store a raw snapshot with so many rows of each data class."""
    import pandas as pd

    rows = [
        {"record_id": f"{name}-{n}", "input": f"write to {name}{n}@example.com", "output": "a",
         "data_class": name}
        for name, count in classes.items() for n in range(count)
    ]  # fmt: skip
    reading = reading_of(graph)
    artifact = reading.store.put_records("snapshot", rows)
    frame = pd.DataFrame(rows).assign(row=range(1, len(rows) + 1))
    facts = {
        "rows": len(rows),
        "source": "tickets.jsonl",
        "data_classes": protection.data_classes(frame),
    }
    described = manifest("raw_labels", artifact.digest, kind="snapshot", facts=facts)
    reading.store.set_head("demo", "raw_labels", reading.store.add_manifest(described))
    return reading


def test_a_restricted_record_is_named_and_blocks(graph: GraphPlan, tmp_path: Path) -> None:
    (check,) = protection.checks(graph.model)
    assert check.severity == "block"
    assert check.judge(raw(graph, public=3, internal=4)).passed
    found = check.judge(raw(graph, internal=4, restricted=7, secret=1))
    assert not found.passed
    for part in ("tickets.jsonl", "7 of data class restricted: row 5 (restricted-0)", "and more",
                 "1 of data class unknown: row 12 (secret-0)", "allowed_data_class"):  # fmt: skip
        assert part in found.reason
    wider = model_folder(tmp_path / "demo", cleaning={"allowed_data_class": "restricted"})
    assert protection.checks(wider)[0].judge(raw(graph, restricted=1)).passed


def test_refused_personal_data_is_named_by_its_class(graph: GraphPlan, tmp_path: Path) -> None:
    model = model_folder(
        tmp_path / "demo", cleaning={"personal_data_by_class": {"public": "refuse"}}
    )
    check = protection.checks(model)[1]
    assert check.severity == "block"
    assert check.judge(raw(graph, internal=3)).passed
    found = check.judge(raw(graph, internal=3, public=1))
    assert not found.passed
    assert "public-0 (email)" in found.reason
    assert "internal-" not in found.reason
