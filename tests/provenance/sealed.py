"""A small registered version with everything that it was made from, signed; for tests."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ftdm_assets.ml_bom import ml_bom
from ftdm_assets.model_card import model_card
from ftdm_assets.provenance.files import json_bytes
from ftdm_assets.provenance.gate import Decision, Finding
from ftdm_assets.provenance.keys import LocalKey
from ftdm_assets.provenance.lineage import REGISTERED, Node, ancestry
from ftdm_assets.provenance.overrides import Override
from ftdm_assets.provenance.seal import Sealing, seal
from ftdm_assets.provenance.statements import Manifest, SignOff
from ftdm_assets.provenance.store import Artifact, ArtifactStore
from ftdm_assets.provenance.trust import Trust
from ftdm_assets.version_facts import VersionFacts
from tests.provenance.samples import manifest, verdict

VERSION = "demo-v0001"
AT = "2026-11-24T12:00:00.000000+00:00"
GENERAL = {"accuracy": 0.5, "correct": 20, "total": 40}
TASK = {
    "accuracy": 0.9, "correct": 36, "total": 40, "macro_f1": 0.88,
    "per_class": {"a": {"recall": 0.95}, "b": {"recall": 0.8}},
}  # fmt: skip
SCORES = {"task": TASK, "general": GENERAL, "form": {"choice": ["a", "b"]}}
BASELINE = {
    "prompted": {"accuracy": 0.5, "correct": 20, "total": 40},
    "probe": {"accuracy": 0.75, "correct": 30, "total": 40},
    "general": GENERAL,
}
ENVIRONMENT = {"decides": {"cpu": "a processor", "torch": "2.13.0", "transformers": "5.23.0"}}
FACTS: dict[str, dict[str, Any]] = {
    "raw_labels": {
        "rows": 3, "source": "labels.jsonl",
        "data_classes": {"public": {"rows": 1, "first": []}, "internal": {"rows": 2, "first": []}},
    },
    "golden_set": {"rows": 2},
    "cleaned_dataset": {"rows": 3},
    "training_set": {"rows": 3},
    "base_model": {"name": "Tiny", "source": "folder:tiny", "family": "Llama 3.1"},
    "adapter": {"environment": ENVIRONMENT, "usage": {"hours": 0.25}},
    "eval_scores": {"accuracy": 0.9, "macro_f1": 0.88, "correct": 36, "examples": 40},
}  # fmt: skip
INPUTS: dict[str, tuple[str, ...]] = {
    "raw_labels": (), "golden_set": (), "base_model": (),
    "cleaned_dataset": ("raw_labels", "golden_set"),
    "training_set": ("cleaned_dataset", "base_model"),
    "baseline_scores": ("golden_set", "base_model"),
    "adapter": ("training_set", "base_model"),
    "merged_model": ("adapter", "base_model"),
    "eval_scores": ("merged_model", "golden_set", "baseline_scores"),
}  # fmt: skip
# The shortest lineage that a version can have: quick to verify a thousand times.
SHORT: dict[str, tuple[str, ...]] = {
    "golden_set": (),
    "merged_model": (),
    "eval_scores": ("merged_model", "golden_set"),
}


@dataclass
class Sealed:
    """A store with one registered version, and the key that signed it."""

    store: ArtifactStore
    key: LocalKey
    nodes: list[Node]

    @property
    def trust(self) -> Trust:
        """Trust that key alone."""
        public = self.key.public
        return Trust({public.key_id: public}, {})

    @property
    def root(self) -> Node:
        """Return the registered version."""
        return self.nodes[0]


def finding(asset: str, digest: str, state: str = "passed") -> Finding:
    """Return a finding of the gate."""
    return Finding(asset, digest, "good", "block", state, "because", "run-1")


def registered(
    folder: Path, lineage: Mapping[str, tuple[str, ...]] = INPUTS, version: str = VERSION
) -> Sealed:
    """Store a version and everything that it was made from; nothing is signed yet."""
    store = ArtifactStore(folder / "store")
    made: dict[str, Manifest] = {}
    for asset, inputs in lineage.items():
        artifact = stored(store, asset, version)
        made[asset] = replace(
            manifest(
                asset, artifact.digest, kind=artifact.kind, facts=FACTS.get(asset, {}),
                inputs={name: made[name].digest for name in inputs},
                input_manifests={name: made[name].manifest_digest() for name in inputs},
            ),
            config={"method": "lora", "epochs": 2} if asset == "adapter" else {},
        )  # fmt: skip
        store.add_manifest(made[asset])
        store.add_verdict(verdict(asset, artifact.digest))
    merged = made["merged_model"].digest
    facts = facts_of([Node(m.manifest_digest(), m, 1) for m in reversed(made.values())], merged)
    documents = {
        "model_card": store.put_files("model_card", {"model_card.md": model_card(facts).encode()}),
        "ml_bom": store.put_files("ml_bom", {"bom.cdx.json": json_bytes(ml_bom(facts))}),
    }
    document = store.put_document("version", {"version": version, "digest": merged})
    used = ("merged_model", "eval_scores")
    root = replace(
        manifest(
            REGISTERED, document.digest, kind="version",
            facts={"version": version, "merged_digest": merged},
            inputs={name: made[name].digest for name in used},
            input_manifests={name: made[name].manifest_digest() for name in used},
        ),
        attachments={k: {"kind": one.kind, "digest": one.digest} for k, one in documents.items()},
    )  # fmt: skip
    digest = store.add_manifest(root)
    store.set_head("demo", REGISTERED, digest)
    return Sealed(store, LocalKey.new(), ancestry(store, "demo", REGISTERED, digest))


def sealed(
    folder: Path, lineage: Mapping[str, tuple[str, ...]] = INPUTS, version: str = VERSION
) -> Sealed:
    """Store a version and sign it."""
    made = registered(folder, lineage, version)
    sign(made, made.key)
    return made


def sign(made: Sealed, key: LocalKey) -> Artifact:
    """Seal a version with a key."""
    findings = tuple(finding(node.asset, node.manifest.digest) for node in made.nodes[1:])
    return seal(made.store, Sealing(made.nodes, Decision(True, findings, {}, AT), AT), key)


def facts_of(nodes: list[Node], merged: str, **changes: Any) -> VersionFacts:
    """Return what card and bill of materials are written from."""
    overridden = replace(
        finding("eval_scores", "e" * 64, "overridden"),
        override=Override(
            "eval_scores", "demo", "e" * 64, "good", "jane", "root", "urgent | really", AT,
            "2026-12-01T00:00:00.000000+00:00",
        ),
    )  # fmt: skip
    known: Mapping[str, Any] = {
        "model": "demo", "description": "", "labels": ["a", "b"], "nodes": nodes,
        "merged": merged, "scores": SCORES, "baseline": BASELINE,
        "decision": Decision(True, (finding("adapter", "a" * 64), overridden), {}, AT),
        "sign_off": SignOff(
            "cleaned_dataset", "demo", "c" * 64, "jane", "root", "import", "5eed", 2, (), 2, 0,
            0.05, True, "", AT,
        ),
        "allowed_data_class": "internal", "licence": "Apache-2.0",
        "packages": "torch==2.13.0+cpu\ntransformers==5.23.0\n",
    }  # fmt: skip
    return VersionFacts(**{**known, **changes})


def stored(store: ArtifactStore, asset: str, version: str = VERSION) -> Artifact:
    """Store what stands for an asset."""
    if asset in {"raw_labels", "golden_set", "cleaned_dataset", "training_set"}:
        rows = [{"record_id": f"{asset}-{n}", "input": f"text {n}", "output": "a"} for n in "xyz"]
        return store.put_records("dataset", rows)
    if asset in {"eval_scores", "baseline_scores"}:
        return store.put_document("scores", SCORES if asset == "eval_scores" else BASELINE)
    kind = "adapter" if asset == "adapter" else "model"
    files = {"model.safetensors": f"{asset} of {version}".encode() * 20, "config.json": b'{"a": 1}'}
    return store.put_files(kind, files)
