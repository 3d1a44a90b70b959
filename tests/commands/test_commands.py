"""What the commands write: models for people's files, reports, traces."""

from pathlib import Path

import pandas as pd
import pytest

from ftdm_assets.commands.trace import trace_document
from ftdm_assets.model_folder import load_folder
from ftdm_assets.provenance.store import ArtifactStore, StoreError
from tests.commands.helpers import Place, jsonl, labelled
from tests.provenance.samples import manifest, verdict


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_new_takes_every_file_format(place: Place, tmp_path: Path, suffix: str) -> None:
    frame = pd.DataFrame(labelled(60))
    for name in ("labels", "golden"):
        path = tmp_path / f"{name}.{suffix}"
        if suffix == "csv":
            frame.to_csv(path, index=False)
        elif suffix == "parquet":
            frame.to_parquet(path, index=False)
        else:
            path.write_text(jsonl(labelled(60)))
    files = [str(tmp_path / f"{name}.{suffix}") for name in ("labels", "golden")]
    done = place.ftdm("new", "demo", "--labels", files[0], "--golden", files[1])
    assert done.code == 0, done.err
    model = load_folder(place.models / "demo" / "defs.yaml")
    assert model.labels() == ["a", "b"]
    assert model.settings.labels.path is not None
    assert model.resolve(model.settings.labels.path) == Path(files[0]).resolve()
    assert not Path(model.settings.labels.path).is_absolute()


def test_new_leaves_room_for_the_longest_label(place: Place, tmp_path: Path) -> None:
    label = "balance_not_updated_after_cheque_or_cash_deposit_of_last_week"
    path = tmp_path / "labels.jsonl"
    path.write_text(jsonl(labelled(60, label)))
    done = place.ftdm("new", "demo", "--labels", str(path), "--golden", str(path))
    assert done.code == 0, done.err
    settings = load_folder(place.models / "demo" / "defs.yaml").settings
    assert settings.task.max_new_tokens == len(label) + 1


def test_new_takes_columns_by_flag_and_the_most_frequent_classes(
    place: Place, tmp_path: Path
) -> None:
    rows = [{"said": f"text {n}", "desk": "a" if n % 3 else "b", "text": "-"} for n in range(30)]
    rows += [{"said": "rare", "desk": "c", "text": "-"}]
    (tmp_path / "l.jsonl").write_text(jsonl(rows))
    (tmp_path / "g.jsonl").write_text(jsonl(rows))
    done = place.ftdm(
        "new", "demo", "--labels", str(tmp_path / "l.jsonl"), "--golden", str(tmp_path / "g.jsonl"),
        "--input-column", "said", "--output-column", "desk", "--classes", "2",
    )  # fmt: skip
    assert done.code == 0, done.err
    model = load_folder(place.models / "demo" / "defs.yaml")
    assert model.labels() == ["a", "b"]
    assert model.settings.labels.columns.input == "said"


def test_a_part_of_the_graph_runs_and_a_second_run_finds_it_current(place: Place) -> None:
    chosen = ("run", "support_tickets", "--select", "raw_labels,golden_set", "--json")
    first = place.ftdm(*chosen)
    rows = {row["asset"]: row for row in first.document["assets"]}
    assert rows["raw_labels"]["passed"] == rows["raw_labels"]["checks"] == 7
    assert len(rows["golden_set"]["digest"]) == 64
    again = {row["asset"]: row for row in place.ftdm(*chosen).document["assets"]}
    assert again["raw_labels"]["digest"] == rows["raw_labels"]["digest"]


def test_doctor_looks_at_everything(place: Place) -> None:
    found = {entry["what"]: entry for entry in place.ftdm("doctor", "--json").document}
    assert {"Python", "vLLM", "free disk", "ports", "model support_tickets"} <= set(found)


def test_status_of_nothing(place: Place) -> None:
    done = place.ftdm("status")
    assert done.code == 3
    assert "nothing runs" in done.out


def traced(store: ArtifactStore) -> None:
    """Store a version of ``demo`` made from a model made from records."""
    raw = manifest("raw_labels", "1" * 64, facts={"rows": 1663})
    raw_digest = store.add_manifest(raw)
    merged = manifest(
        "merged_model", "2" * 64,
        inputs={"raw_labels": "1" * 64}, input_manifests={"raw_labels": raw_digest},
    )  # fmt: skip
    merged_digest = store.add_manifest(merged)
    registered = manifest(
        "registered_version", "3" * 64,
        inputs={"merged_model": "2" * 64}, input_manifests={"merged_model": merged_digest},
        facts={"version": "demo-v0001", "merged_digest": "2" * 64},
    )  # fmt: skip
    store.add_manifest(registered)
    store.add_verdict(verdict("raw_labels", "1" * 64, check="schema"))


def test_a_trace_leads_from_the_version_to_the_raw_snapshot(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    traced(store)
    document = trace_document(store, "demo-v0001")
    found = {node["asset"]: node for node in document["ancestors"]}
    assert list(found) == ["registered_version", "merged_model", "raw_labels"]
    assert found["raw_labels"]["rows"] == 1663
    assert found["raw_labels"]["checks"][0]["check"] == "schema"
    assert found["raw_labels"]["run"]["dagster_run_id"] == "run-1"
    assert document["merged_digest"] == "2" * 64


def test_a_trace_with_a_missing_manifest_says_which(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    traced(store)
    next((store.root / "manifests" / "demo" / "raw_labels").glob("*.json")).unlink()
    with pytest.raises(StoreError, match=r"of demo/raw_labels is missing"):
        trace_document(store, "demo-v0001")
