"""Verification: whatever was changed in the store or in the access record is found and named."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ftdm_assets.audit.verify import Start, verify_ancestry, verify_chain
from ftdm_assets.provenance.access_log import Reader
from ftdm_assets.provenance.statements import Manifest, SignOff
from ftdm_assets.provenance.store import ArtifactStore
from tests.provenance.samples import manifest, verdict

ROWS = [{"record_id": name, "input": f"text {name}", "output": "a"} for name in "abc"]


def filled(folder: Path) -> tuple[ArtifactStore, list[Start]]:
    """Store a dataset with ledger, verdict and sign-off, a model made from it, and one read."""
    store = ArtifactStore(folder / "store", Reader("asset demo/adapter", "run-1"))
    dataset = store.put_records("dataset", ROWS)
    ledger = store.put_records("ledger", [{"record_id": "d", "reason": "empty"}])
    made = manifest("cleaned_dataset", dataset.digest, kind="dataset")
    made = Manifest(
        **{**vars(made), "attachments": {"ledger": {"kind": "ledger", "digest": ledger.digest}}}
    )
    dataset_manifest = store.add_manifest(made)
    store.add_verdict(verdict("cleaned_dataset", dataset.digest))
    store.add_sign_off(
        SignOff(
            "cleaned_dataset", "demo", dataset.digest, "jane", "root", "import", "5eed", 1,
            ({"record_id": "a", "digest": "1" * 64, "answer": "accept"},), 1, 0, 0.05, True, "",
            "2026-11-24T00:00:00.000000+00:00",
        )
    )  # fmt: skip
    store.read_records("dataset", dataset.digest)
    adapter = store.put_files("adapter", {"adapter.safetensors": b"weights"})
    made = manifest(
        "adapter", adapter.digest, kind="adapter",
        inputs={"cleaned_dataset": dataset.digest},
        input_manifests={"cleaned_dataset": dataset_manifest},
    )  # fmt: skip
    run = {**made.run, "access_log": str(store.access_log.chain.head())}
    digest = store.add_manifest(Manifest(**{**vars(made), "run": run}))
    return store, [Start("demo", "adapter", digest)]


def problems(store: ArtifactStore, starts: list[Start]) -> list[str]:
    return [*verify_ancestry(store, starts).problems, *verify_chain(store).problems]


def test_what_was_not_touched_is_whole(tmp_path: Path) -> None:
    store, starts = filled(tmp_path)
    found = verify_ancestry(store, starts)
    assert problems(store, starts) == []
    counts = (found.artifacts, found.manifests, found.verdicts, found.sign_offs)
    assert counts == (3, 2, 1, 1)
    assert verify_chain(store).head.count == 1


EVIDENCE = [
    "artifacts/dataset/*/records.jsonl",
    "artifacts/ledger/*/records.jsonl",
    "artifacts/adapter/*/adapter.safetensors",
    "manifests/demo/adapter/*.json",
    "manifests/demo/cleaned_dataset/*.json",
    "verdicts/demo/cleaned_dataset/*/*.json",
    "sign_offs/demo/cleaned_dataset/*/*.json",
    "../log/access.jsonl",
]


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_a_digit_changed_anywhere_is_found(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    store, starts = filled(tmp_path_factory.mktemp("home"))
    (path,) = store.root.glob(data.draw(st.sampled_from(EVIDENCE)))
    content = bytearray(path.read_bytes())
    # White space outside of strings is no content of a JSON file; everything else is.
    places = [place for place, byte in enumerate(content) if chr(byte).isalnum()]
    place = data.draw(st.sampled_from(places))
    content[place] = ord(
        data.draw(st.sampled_from("0189afz").filter(lambda c: ord(c) != content[place]))
    )
    path.write_bytes(bytes(content))
    assert problems(store, starts)


@pytest.mark.parametrize(
    "pattern", [p for p in EVIDENCE if "verdicts" not in p and "sign" not in p]
)
def test_whatever_is_gone_is_named(tmp_path: Path, pattern: str) -> None:
    store, starts = filled(tmp_path)
    (path,) = store.root.glob(pattern)
    path.unlink()
    found = problems(store, starts)
    assert found
    assert any(path.parent.name[:12] in text or path.stem[:12] in text for text in found)


def test_an_access_record_written_anew_contradicts_the_manifests(tmp_path: Path) -> None:
    store, starts = filled(tmp_path)
    for path in (store.root.parent / "log").iterdir():
        path.unlink()
    store.read_records("ledger", next((store.root / "artifacts" / "ledger").iterdir()).name)
    assert store.access_log.chain.check().problems == ()
    (found,) = problems(store, starts)
    assert "of demo/adapter names entry 1" in found
    assert "written anew" in found


def test_an_input_that_names_another_artifact_than_its_manifest_is_named(tmp_path: Path) -> None:
    store, _ = filled(tmp_path)
    other = store.put_records("dataset", ROWS[:1])
    described = store.add_manifest(manifest("cleaned_dataset", other.digest, kind="dataset"))
    adapter = store.put_files("adapter", {"adapter.safetensors": b"others"})
    made = manifest(
        "adapter", adapter.digest, kind="adapter", inputs={"cleaned_dataset": "0" * 64},
        input_manifests={"cleaned_dataset": described},
    )  # fmt: skip
    (found,) = problems(store, [Start("demo", "adapter", store.add_manifest(made))])
    assert "what was made from it names 000000000000" in found
