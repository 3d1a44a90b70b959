"""The store: nothing overwritten, nothing half-written, every change found."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ftdm_assets.provenance.store import ArtifactStore, StoreError
from tests.provenance.samples import manifest, verdict

ROWS = [
    {"record_id": "a", "input": "x", "output": "y"},
    {"record_id": "b", "input": "u", "output": "v"},
]


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "store")


def test_a_dataset_has_one_digest_whatever_the_order(store: ArtifactStore) -> None:
    first = store.put_records("dataset", ROWS)
    second = store.put_records("dataset", list(reversed(ROWS)))
    assert first == second
    assert {row["record_id"] for row in store.read_records("dataset", first.digest)} == {"a", "b"}
    assert store.recompute(first) == first.digest


def test_every_kind_of_artifact_computes_to_its_own_digest(
    store: ArtifactStore, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "weights.safetensors").write_bytes(b"\x00" * 64)
    made = [
        store.put_records("dataset", ROWS),
        store.put_document("scores", {"accuracy": 0.5}),
        store.put_files("picture", {"picture.png": b"png"}),
        store.put_folder("model", folder),
    ]
    assert [store.recompute(artifact) for artifact in made] == [a.digest for a in made]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_changed_byte_of_an_artifact_is_found(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    store = ArtifactStore(tmp_path_factory.mktemp("store"))
    artifact = store.put_files("model", {"weights": bytes(range(200)), "config.json": b"{}"})
    path = artifact.path / data.draw(st.sampled_from(["weights", "config.json"]))
    content = bytearray(path.read_bytes())
    position = data.draw(st.integers(0, len(content) - 1))
    content[position] ^= data.draw(st.integers(1, 255))
    path.write_bytes(bytes(content))
    assert store.recompute(artifact) != artifact.digest


def test_a_missing_artifact_says_what_to_do(store: ArtifactStore) -> None:
    with pytest.raises(StoreError, match="materialise the asset that makes it again"):
        store.find("model", "0" * 64)


def test_a_changed_manifest_is_refused(store: ArtifactStore) -> None:
    digest = store.add_manifest(manifest("adapter", "1" * 64))
    path = next((store.root / "manifests").rglob("*.json"))
    path.write_text(path.read_text().replace("adapter", "adopter"))
    with pytest.raises(StoreError, match="was changed"):
        store.manifest("demo", "adapter", digest)


def test_a_changed_verdict_is_refused(store: ArtifactStore) -> None:
    store.add_verdict(verdict("adapter", "1" * 64, passed=False))
    path = next((store.root / "verdicts").rglob("*.json"))
    path.write_text(path.read_text().replace('"passed": false', '"passed": true'))
    with pytest.raises(StoreError, match="was changed"):
        store.verdicts("demo", "adapter", "1" * 64)


def test_a_recipe_whose_artifact_is_gone_is_made_again(store: ArtifactStore) -> None:
    artifact = store.put_document("scores", {"accuracy": 1})
    made = manifest("eval_scores", artifact.digest, kind="scores", recipe="r")
    store.add_manifest(made)
    assert store.manifest_for_recipe("demo", "eval_scores", "r") == made
    (artifact.path / "document.json").unlink()
    artifact.path.rmdir()
    assert store.manifest_for_recipe("demo", "eval_scores", "r") is None


def test_manifests_come_back_as_they_were(store: ArtifactStore) -> None:
    made = manifest("adapter", "1" * 64, inputs={"training_set": "2" * 64})
    store.set_head("demo", "adapter", store.add_manifest(made))
    assert store.head("demo", "adapter")[1] == made
    statement = made.statement()
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["subject"] == [{"name": "demo/adapter", "digest": {"sha256": "1" * 64}}]


def test_an_asset_without_a_head_says_so(store: ArtifactStore) -> None:
    with pytest.raises(StoreError, match="has not been materialised yet"):
        store.head("demo", "adapter")


WRITER = """
import sys
from pathlib import Path
from ftdm_assets.provenance.store import ArtifactStore
store = ArtifactStore(Path(sys.argv[1]))
rows = [{"record_id": str(n), "input": "x" * 2000, "output": "y"} for n in range(20000)]
print("ready", flush=True)
while True:
    store.put_records("dataset", rows)
    rows = [{**row, "input": row["input"] + "x"} for row in rows]
"""


@pytest.mark.parametrize("seconds", [0.05, 0.4, 0.9])
def test_a_writer_killed_at_any_moment_leaves_whole_artifacts_only(
    tmp_path: Path, seconds: float
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, env={**os.environ}
    )
    assert process.stdout is not None
    process.stdout.readline()
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(seconds)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    store = ArtifactStore(tmp_path)
    folder = tmp_path / "artifacts" / "dataset"
    whole = [p for p in folder.iterdir() if not p.name.startswith(".")] if folder.exists() else []
    for path in whole:
        assert store.recompute(store.find("dataset", path.name)) == path.name


def test_a_manifest_file_is_json_that_people_can_read(store: ArtifactStore) -> None:
    store.add_manifest(manifest("adapter", "1" * 64))
    path = next((store.root / "manifests").rglob("*.json"))
    assert json.loads(path.read_text())["predicate"]["asset"] == "adapter"
