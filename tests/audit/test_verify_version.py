"""A signed version: every changed byte is found, and only keys that count count."""

import random
from pathlib import Path

import pytest

from ftdm_assets.audit.verify import Start, verify_ancestry, verify_version
from ftdm_assets.commands.trace import trace_document
from ftdm_assets.provenance.keys import LocalKey
from ftdm_assets.provenance.lineage import REGISTERED
from ftdm_assets.provenance.seal import seals
from ftdm_assets.provenance.trust import NOBODY, Trust, read_trust, revoke_key, trust_key
from tests.provenance.sealed import AT, SHORT, VERSION, Sealed, registered, sealed, sign

MUTATIONS = 1000
# What is fuzzed, as the acceptance has it: each kind gets its share of the mutations.
KINDS = {
    "weights": "artifacts/model/*/*",
    "manifest": "manifests/demo/*/*.json",
    "evaluation": "artifacts/scores/*/document.json",
    "card": "artifacts/model_card/*/model_card.md",
    "bill of materials": "artifacts/ml_bom/*/bom.cdx.json",
    "records": "artifacts/dataset/*/records.jsonl",
    "signature": "artifacts/seal/*/*",
}


def findings(made: Sealed, trust: Trust | None = None) -> list[str]:
    return verify_version(made.store, VERSION, trust or made.trust).findings


def test_a_signed_version_has_no_findings(tmp_path: Path) -> None:
    made = sealed(tmp_path)
    found = verify_version(made.store, VERSION, made.trust)
    assert found.findings == []
    assert found.signatures == [
        {"version": VERSION, "key": made.key.public.key_id, "signed_at": AT}
    ]
    assert found.manifests == len(made.nodes) == 10


def test_a_thousand_random_mutations_are_all_found(tmp_path: Path) -> None:
    made, rng = sealed(tmp_path, SHORT), random.Random(20261124)
    files = {kind: sorted(made.store.root.glob(pattern)) for kind, pattern in KINDS.items()}
    assert all(files.values())
    for number in range(MUTATIONS):
        path = rng.choice(files[list(KINDS)[number % len(KINDS)]])
        whole = path.read_bytes()
        place = rng.randrange(len(whole))
        changed = bytearray(whole)
        how = rng.choice(["flip", "flip", "flip", "cut", "add", "end"])
        if how == "flip":
            changed[place] ^= rng.randrange(1, 256)
        elif how == "cut":
            del changed[place]
        elif how == "add":
            changed.insert(place, rng.randrange(256))
        else:
            changed = changed[:place]
        path.write_bytes(bytes(changed))
        found = findings(made)
        path.write_bytes(whole)
        assert found, f"mutation {number}: {how} of byte {place} in {path} was not found"
    assert findings(made) == []


@pytest.mark.parametrize("file", ["model.safetensors", "config.json"])
def test_the_file_that_differs_is_named(tmp_path: Path, file: str) -> None:
    made = sealed(tmp_path)
    merged = str(made.root.manifest.facts["merged_digest"])
    path = made.store.root / "artifacts" / "model" / merged / file
    path.write_bytes(path.read_bytes() + b" ")
    (found,) = findings(made)
    assert f"{file} was changed" in found
    assert "demo/merged_model" in found
    path.unlink()
    assert f"{file} is missing" in findings(made)[0]


def test_a_file_that_was_added_to_the_model_is_named(tmp_path: Path) -> None:
    made = sealed(tmp_path)
    merged = str(made.root.manifest.facts["merged_digest"])
    (made.store.root / "artifacts" / "model" / merged / "extra.py").write_text("import os")
    assert "extra.py was added" in findings(made)[0]


def test_an_old_version_is_not_signed_which_is_a_finding_of_its_own(tmp_path: Path) -> None:
    made = registered(tmp_path)
    found = verify_version(made.store, VERSION, made.trust)
    assert found.problems == []
    (told,) = found.unsigned
    assert told.startswith(f"{VERSION} is not signed")
    assert trace_document(made.store, VERSION)["signature"]["signed"] is False


def test_a_seal_that_was_taken_away_leaves_it_unsigned(tmp_path: Path) -> None:
    made = sealed(tmp_path)
    for path in (made.store.root / "seals").rglob("*"):
        if path.is_file():
            path.unlink()
    assert "its seal was taken away" in findings(made)[0]


def test_a_verdict_that_was_taken_away_is_named(tmp_path: Path) -> None:
    made = sealed(tmp_path)
    (path,) = (made.store.root / "verdicts" / "demo" / "adapter").glob("*/*.json")
    path.unlink()
    (told,) = findings(made)
    assert "gate_decision.json: the verdict of adapter.good on" in told
    assert "is not in the store" in told


def test_another_key_than_the_trusted_one_is_refused(tmp_path: Path) -> None:
    made = registered(tmp_path)
    sign(made, LocalKey.new())
    found = findings(made)
    assert any("is not trusted here" in text and "model.sig" in text for text in found)
    assert findings(made, NOBODY)


def test_a_revoked_key_is_refused_until_another_signs(tmp_path: Path) -> None:
    made = sealed(tmp_path)
    folder = tmp_path / "trust"
    trust_key(folder, made.key.public)
    assert findings(made, read_trust(folder)) == []
    revoke_key(folder, made.key.public.key_id, by="jane", reason="lost laptop", at=AT)
    assert any("was revoked (lost laptop, by jane" in t for t in findings(made, read_trust(folder)))
    other = LocalKey.new()
    trust_key(folder, other.public)
    sign(made, other)
    assert findings(made, read_trust(folder)) == []
    assert len(seals(made.store, made.root.manifest, made.root.manifest_digest)) == 2


def test_a_signature_made_for_another_version_does_not_count(tmp_path: Path) -> None:
    made = sealed(tmp_path)
    again = made.root.manifest.__class__(
        **{**vars(made.root.manifest), "facts": {**made.root.manifest.facts, "uri": "elsewhere"}}
    )
    digest = made.store.add_manifest(again)
    (name,) = seals(made.store, made.root.manifest, made.root.manifest_digest)
    borrowed = made.store.root / "seals" / "demo" / REGISTERED / digest
    borrowed.mkdir(parents=True)
    (borrowed / name).touch()
    found = verify_ancestry(made.store, [Start("demo", REGISTERED, digest)], made.trust)
    assert any("was made for another version or manifest" in text for text in found.problems)


def test_an_unknown_version_says_so(tmp_path: Path) -> None:
    made = sealed(tmp_path)
    (told,) = verify_version(made.store, "demo-v0009", made.trust).findings
    assert "registers demo-v0009" in told
