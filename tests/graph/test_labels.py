"""The labels stage on real runs: when the number of examples refuses; one content, one digest."""

import csv
import json
import random
import uuid
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import dagster as dg
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ftdm_assets.graph.build import build_plan
from ftdm_assets.graph.evidence import decision
from ftdm_assets.graph.execute import Work, execute
from ftdm_assets.graph.shell import reading_of
from ftdm_assets.provenance.digests import merkle_root
from ftdm_assets.provenance.store import ArtifactStore, with_digest
from ftdm_assets.records.clean import clean
from ftdm_assets.records.frames import plain_rows
from ftdm_assets.sources.files import RecordDefaults, read_records
from tests.graph.samples import model_folder


@pytest.fixture
def instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    monkeypatch.setenv("FTDM_HOME", str(tmp_path / "home"))
    with dg.DagsterInstance.local_temp(str(tmp_path)) as made:
        yield made


@pytest.mark.parametrize(
    ("count", "allowed", "failed"),
    [
        (499, False, {"enough_examples", "recommended_examples"}),
        (500, True, {"recommended_examples"}),
        (999, True, {"recommended_examples"}),
        (1000, True, set()),
    ],
)
def test_499_refuse_500_warn_1000_pass(
    tmp_path: Path, instance: dg.DagsterInstance, count: int, allowed: bool, failed: set[str]
) -> None:
    folder = tmp_path / "demo"
    folder.mkdir()
    rows = [{"id": str(n), "text": f"text {n}", "label": "ab"[n % 2]} for n in range(count)]
    (folder / "labels.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    graph = build_plan(model_folder(folder))
    assert execute(graph, instance, Work(frozenset({"raw_labels"}), frozenset()), _run()) == ""
    reading = reading_of(graph)
    verdicts = reading.store.verdicts("demo", "raw_labels", reading.digest("raw_labels"))
    assert {verdict.check for verdict in verdicts if not verdict.passed} == failed
    assert {"enough_examples", "recommended_examples"} <= {verdict.check for verdict in verdicts}
    made = decision(graph, reading, ("raw_labels",))
    assert made.allowed is allowed
    assert {finding.check for finding in made.refusals} == failed - {"recommended_examples"}


def _run() -> str:
    return str(uuid.uuid4())


TEXTS = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufeff"), min_size=1
)
ROWS = st.lists(
    st.tuples(TEXTS, st.sampled_from(["x", "y"])), min_size=1, max_size=8, unique_by=lambda r: r[0]
)


def _written(folder: Path, rows: list[dict[str, str]], suffix: str) -> Path:
    path = folder / f"labels{suffix}"
    if suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    elif suffix == ".parquet":
        pd.DataFrame(rows).to_parquet(path)
    else:
        with path.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(stream, ["id", "text", "label"], quoting=csv.QUOTE_ALL)
            writer.writeheader()
            writer.writerows(rows)
    return path


def _digests(path: Path, store: ArtifactStore) -> tuple[str, str]:
    frame = read_records(path, defaults=RecordDefaults(source="desk"))
    raw = store.put_records("snapshot", plain_rows(frame.drop(columns="row")))
    kept = clean(frame, {"g": "a golden text"}).records.drop(columns="row")
    return raw.digest, store.put_records("dataset", plain_rows(kept)).digest


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=15
)
@given(ROWS, st.randoms(use_true_random=False))
def test_order_and_file_format_leave_no_mark_on_the_digests(
    tmp_path: Path, pairs: list[tuple[str, str]], draw: random.Random
) -> None:
    store = ArtifactStore(tmp_path / "store")
    rows = [{"id": f"r{n}", "text": t, "label": label} for n, (t, label) in enumerate(pairs)]
    found = {_digests(_written(tmp_path, rows, s), store) for s in (".jsonl", ".csv", ".parquet")}
    draw.shuffle(rows)
    found |= {_digests(_written(tmp_path, rows, s), store) for s in (".jsonl", ".csv", ".parquet")}
    assert len(found) == 1


def test_the_number_of_workers_leaves_no_mark_on_a_digest() -> None:
    rows = [{"record_id": f"r{n}", "input": f"text {n * 7919 % 1000}"} for n in range(2_000)]
    alone = merkle_root(with_digest(row)["digest"] for row in rows)
    for workers in (1, 2, 3):
        with ProcessPoolExecutor(workers) as pool:
            shared = list(pool.map(with_digest, rows, chunksize=97))
        assert merkle_root(row["digest"] for row in shared) == alone
