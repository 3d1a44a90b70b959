"""The access record: no records without an entry, whoever reads and however."""

import os
import pwd
from pathlib import Path
from typing import Any

import pytest

from ftdm_assets.provenance.access_log import Reader
from ftdm_assets.provenance.store import Artifact, ArtifactStore, StoreError

ROWS = [{"record_id": "a", "input": "a secret text"}, {"record_id": "b", "input": "another"}]


def stored(
    tmp_path: Path, why: str = "check cleaned_dataset.good"
) -> tuple[ArtifactStore, Artifact]:
    store = ArtifactStore(tmp_path / "store", Reader(why, "run-1"))
    return store, store.put_records("dataset", ROWS)


def entries(store: ArtifactStore) -> list[dict[str, Any]]:
    return [entry["content"] for entry in store.access_log.chain.entries()]


def test_a_read_says_who_when_why_what_and_how_much(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FTDM_ACTOR", "jane.doe")
    monkeypatch.setenv("LOGNAME", "somebody.else")
    store, artifact = stored(tmp_path)
    store.read_records("dataset", artifact.digest)
    (entry,) = entries(store)
    assert entry.pop("at").startswith("20")
    assert entry == {
        "event": "read",
        "user": pwd.getpwuid(os.getuid()).pw_name,
        "actor": "jane.doe",
        "run_id": "run-1",
        "why": "check cleaned_dataset.good",
        "kind": "dataset",
        "digest": artifact.digest,
        "rows": 2,
    }
    assert store.access_log.chain.path == tmp_path / "log" / "access.jsonl"
    assert "secret" not in store.access_log.chain.path.read_text()


def test_the_path_of_records_counts_as_a_read(tmp_path: Path) -> None:
    store, artifact = stored(tmp_path)
    assert store.find("dataset", artifact.digest) == artifact
    assert [entry["rows"] for entry in entries(store)] == [2]


def test_what_holds_no_records_leaves_no_entry(tmp_path: Path) -> None:
    store, artifact = stored(tmp_path)
    document = store.put_document("scores", {"accuracy": 1})
    store.find("scores", document.digest)
    store.read_document("scores", document.digest)
    assert store.verify("dataset", artifact.digest) == ""
    assert entries(store) == []


def test_a_store_without_a_named_reader_records_the_program(tmp_path: Path) -> None:
    _, artifact = stored(tmp_path)
    store = ArtifactStore(tmp_path / "store")
    store.read_records("dataset", artifact.digest)
    assert entries(store)[0]["why"]


def test_no_entry_no_records(tmp_path: Path) -> None:
    store, artifact = stored(tmp_path)
    store.read_records("dataset", artifact.digest)
    store.access_log.chain.head_path.unlink()
    for read in (store.read_records, store.find):
        with pytest.raises(StoreError, match="is not given out, because the access record"):
            read("dataset", artifact.digest)


def test_a_row_changed_in_the_store_is_found(tmp_path: Path) -> None:
    store, artifact = stored(tmp_path)
    path = artifact.path / "records.jsonl"
    text = path.read_text()
    for changed in (
        text.replace("another", "changed"),
        text.replace('"digest": "', '"digest": "0', 1),
        text[:-10],
        "[]\n",
    ):
        path.write_text(changed)
        assert str(artifact.path) in store.verify("dataset", artifact.digest)
    path.write_text(text)
    assert store.verify("dataset", artifact.digest) == ""
