"""The seal of a registered version: everything that was signed when it was registered.

A seal is a stored artifact of small files: ``model.sig`` (OpenSSF model signing of the merged
model's folder) and DSSE envelopes with in-toto statements on each manifest of the lineage, on the
evaluation, on the gate's decision, on the files of every stored folder, and on the version itself,
which names the digest of each of the others and of the documents beside the version.

Invariants:
* Nothing is signed that does not have its digest: every folder is hashed again before.
* A version counts as signed only if every file of one seal is signed by a trusted key and says what
  the store says.
* Making a seal changes no manifest; a version can be sealed again with another key.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftdm_assets.provenance import files
from ftdm_assets.provenance.digests import folder_files
from ftdm_assets.provenance.dsse import signed
from ftdm_assets.provenance.gate import Decision
from ftdm_assets.provenance.keys import SigningKey
from ftdm_assets.provenance.lineage import Node
from ftdm_assets.provenance.model_signature import listing_digest, sign_model
from ftdm_assets.provenance.statements import Manifest, statement_of
from ftdm_assets.provenance.store import (
    DOCUMENT_FILE,
    RECORDS_FILE,
    Artifact,
    ArtifactStore,
    StoreError,
)

VERSION_TYPE = "urn:ftdm:version:v1"
EVALUATION_TYPE = "urn:ftdm:evaluation:v1"
DECISION_TYPE = "urn:ftdm:gate-decision:v1"
FILES_TYPE = "urn:ftdm:files:v1"

SEAL = "seal"
MODEL_FILE = "model.sig"
VERSION_FILE = "version.json"
EVALUATION_FILE = "evaluation.json"
DECISION_FILE = "gate_decision.json"
FILES_FILE = "files.json"
# Facts of the evaluation's manifest that its statement repeats, for whoever has only the seal.
_SCORES = ("accuracy", "accuracy_low", "accuracy_high", "macro_f1", "correct", "examples")


@dataclass(frozen=True)
class Sealing:
    """What is sealed.

    Attributes:
        nodes: the registered version and all its ancestors, as ``lineage.ancestry`` gives them.
        decision: what the gate said before it was registered.
        at: the time of the signatures, ISO 8601 in UTC.
    """

    nodes: Sequence[Node]
    decision: Decision
    at: str


def seal(store: ArtifactStore, sealing: Sealing, key: SigningKey) -> Artifact:
    """Sign a registered version and everything that it was made from.

    Raises:
        StoreError: if a folder no longer has its digest; nothing is signed then.
    """
    root = sealing.nodes[0]
    listings = dict(_listings(store, sealing.nodes))
    model = str(root.manifest.facts["version"])
    merged = str(root.manifest.facts["merged_digest"])
    contents = {
        MODEL_FILE: sign_model(model, listings[f"model/{merged}"], key),
        FILES_FILE: signed(_files(root, listings), key),
        EVALUATION_FILE: signed(_evaluation(sealing.nodes, merged), key),
        DECISION_FILE: signed(decision_statement(root, sealing.decision), key),
        **{manifest_file(node): signed(node.manifest.statement(), key) for node in sealing.nodes},
    }
    documents = document_digests(store, root.manifest)
    contents[VERSION_FILE] = signed(_version(root, contents, documents, sealing.at), key)
    made = store.put_files(SEAL, contents)
    pointer = _folder(store, root.manifest, root.manifest_digest) / made.digest
    files.write_bytes(pointer, b"")
    return made


def _folder(store: ArtifactStore, manifest: Manifest, digest: str) -> Path:
    return store.root / "seals" / manifest.model / manifest.asset / digest


def seals(store: ArtifactStore, manifest: Manifest, manifest_digest: str) -> list[str]:
    """Return the digests of all seals of a version's manifest, oldest first."""
    found = _folder(store, manifest, manifest_digest).glob("[0-9a-f]*")
    return [path.name for path in sorted(found, key=lambda path: path.stat().st_mtime_ns)]


def manifest_file(node: Node) -> str:
    """Return the name under which a seal holds a manifest."""
    return f"manifest.{node.asset}.{node.manifest_digest[:16]}.json"


def document_digests(store: ArtifactStore, manifest: Manifest) -> dict[str, str]:
    """Return name and SHA-256 of each document beside a version: card, bill of materials."""
    found = {}
    for title, item in manifest.attachments.items():
        for entry in folder_files(store.find(**item).path):
            found[f"{title}/{entry['name']}"] = entry["digest"]
    return found


def decision_statement(root: Node, decision: Decision) -> dict[str, Any]:
    """Return the in-toto statement on a decision of the gate."""
    subjects = {f"{root.manifest.model}/{root.asset}": root.manifest.digest}
    findings = [
        {
            "asset": one.asset,
            "check": one.check,
            "digest": one.digest,
            "severity": one.severity,
            "state": one.state,
            "reason": one.reason,
            "run": one.run,
            "override": one.override.statement() if one.override else None,
        }
        for one in decision.findings
    ]
    return statement_of(
        DECISION_TYPE,
        subjects,
        {
            "allowed": decision.allowed,
            "decided_at": decision.at,
            "known": dict(decision.known),
            "findings": findings,
        },
    )


def stored_folders(nodes: Sequence[Node]) -> Iterator[tuple[str, str]]:
    """Yield kind and digest of every artifact in a lineage, attachments too, each once."""
    seen = set()
    for node in nodes:
        manifest = node.manifest
        for kind, digest in (
            (manifest.kind, manifest.digest),
            *((item["kind"], item["digest"]) for item in manifest.attachments.values()),
        ):
            if (kind, digest) not in seen:
                seen.add((kind, digest))
                yield kind, digest


def _listings(
    store: ArtifactStore, nodes: Sequence[Node]
) -> Iterator[tuple[str, list[dict[str, str]]]]:
    for kind, digest in stored_folders(nodes):
        path = store.root / "artifacts" / kind / digest
        if not path.is_dir() or any((path / f).exists() for f in (RECORDS_FILE, DOCUMENT_FILE)):
            continue
        listing = folder_files(path)
        if listing_digest(listing) != digest:
            raise StoreError(
                f"{path} was changed: it no longer has its digest, so nothing is signed; "
                "`ftdm verify` says more"
            )
        yield f"{kind}/{digest}", listing


def _files(root: Node, listings: Mapping[str, Sequence[dict[str, str]]]) -> dict[str, Any]:
    subjects = {name: name.rsplit("/", 1)[1] for name in listings}
    folders = {name: list(listing) for name, listing in listings.items()}
    return statement_of(FILES_TYPE, subjects, {"model": root.manifest.model, "folders": folders})


def _evaluation(nodes: Sequence[Node], merged: str) -> dict[str, Any]:
    return statement_of(
        EVALUATION_TYPE, evaluation_subjects(nodes, merged), {"scores": sealed_scores(nodes)}
    )


def evaluation_subjects(nodes: Sequence[Node], merged: str) -> dict[str, str]:
    """Return what an evaluation speaks of: the model, its scores, the golden set, the baseline."""
    wanted = ("eval_scores", "golden_set", "baseline_scores")
    found = {node.asset: node.manifest.digest for node in reversed(nodes) if node.asset in wanted}
    return {"merged_model": merged, **found}


def sealed_scores(nodes: Sequence[Node]) -> dict[str, Any]:
    """Return the scores that the evaluation's statement repeats."""
    facts = next((n.manifest.facts for n in nodes if n.asset == "eval_scores"), {})
    return {name: facts[name] for name in _SCORES if name in facts}


def _version(
    root: Node, contents: Mapping[str, bytes], documents: Mapping[str, str], at: str
) -> dict[str, Any]:
    manifest = root.manifest
    subjects = {
        f"{manifest.model}/{manifest.asset}": manifest.digest,
        str(manifest.facts["version"]): str(manifest.facts["merged_digest"]),
        **documents,
        **{name: hashlib.sha256(content).hexdigest() for name, content in contents.items()},
    }
    return statement_of(
        VERSION_TYPE,
        subjects,
        {
            "model": manifest.model,
            "version": manifest.facts["version"],
            "manifest": root.manifest_digest,
            "signed_at": at,
        },
    )
