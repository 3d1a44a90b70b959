"""The artifact store: artifacts by digest, manifests and verdicts beside them.

Invariants:
* An artifact lives at ``artifacts/KIND/DIGEST/`` and is never changed once it is there.
* Manifests and verdicts are only ever added; each file's name is its own digest.
* A JSON file has one written form: a byte that was changed is found even where it is white space.
* The store alone answers every question of lineage: it needs no orchestrator and no database.
* Records leave the store only after the access record beside it says who reads which digest, why.

A store is a local folder here; the layout is plain paths so that a bucket can hold it as well.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftdm_assets.provenance import files
from ftdm_assets.provenance.access_log import AccessLog, Reader
from ftdm_assets.provenance.digests import folder_digest, json_digest, merkle_root
from ftdm_assets.provenance.hash_chain import ChainError
from ftdm_assets.provenance.statement_store import (
    StatementStore,
    StoreError,
    as_written,
    read_statement,
)
from ftdm_assets.provenance.statements import Manifest

__all__ = [
    "DOCUMENT_FILE",
    "RECORDS_FILE",
    "Artifact",
    "ArtifactStore",
    "StoreError",
    "computed_digest",
    "store_folder",
    "with_digest",
]

RECORDS_FILE = "records.jsonl"
DOCUMENT_FILE = "document.json"


def store_folder(home: Path) -> Path:
    """Return where the artifact store of a home folder lies."""
    return home / "store"


@dataclass(frozen=True)
class Artifact:
    """A stored artifact: its kind (``dataset``, ``document``, ``model``…), digest and folder."""

    kind: str
    digest: str
    path: Path


class ArtifactStore(StatementStore):
    """Content-addressed artifacts, and the statements on them, under one folder.

    ``reader`` says on whose behalf and why records are read; left out, it names the program.
    """

    def __init__(self, root: Path, reader: Reader | None = None) -> None:
        super().__init__(root)
        self.reader = reader or Reader()
        self.access_log = AccessLog(root)

    # -- artifacts -------------------------------------------------------------------------------

    def find(self, kind: str, digest: str) -> Artifact:
        """Return a stored artifact; where it holds records, that counts as reading them.

        Raises:
            StoreError: if it is not in the store, or the read cannot be recorded.
        """
        artifact = self._find(kind, digest)
        records = artifact.path / RECORDS_FILE
        if records.exists():
            with records.open("rb") as stream:
                self._record_read(artifact, sum(1 for _ in stream))
        return artifact

    def _find(self, kind: str, digest: str) -> Artifact:
        path = self._artifact_path(kind, digest)
        if not path.is_dir():
            raise StoreError(
                f"{kind} {digest[:12]} is not in the store {self.root}; "
                "materialise the asset that makes it again"
            )
        return Artifact(kind, digest, path)

    def put_records(self, kind: str, rows: Iterable[Mapping[str, Any]]) -> Artifact:
        """Store rows as JSON lines; the digest is the Merkle root over the rows' digests.

        Each stored row carries its own ``digest``, over everything else in it. Rows are written in
        the order of their digests, so the file does not depend on the order that they came in.
        """
        ordered = sorted((with_digest(row) for row in rows), key=lambda row: str(row["digest"]))
        root = merkle_root(row["digest"] for row in ordered)
        return self._put(kind, root, lambda path: _write_rows(path, ordered))

    def put_files(self, kind: str, contents: Mapping[str, bytes]) -> Artifact:
        """Store a few small files, by name, under their folder digest."""
        listing = [
            {"name": name, "algorithm": "sha256", "digest": hashlib.sha256(content).hexdigest()}
            for name, content in sorted(contents.items())
        ]
        return self._put(kind, json_digest(listing), lambda path: _write_files(path, contents))

    def put_document(self, kind: str, document: Mapping[str, Any]) -> Artifact:
        """Store one JSON document; the digest is that of its canonical form."""
        digest = json_digest(document)
        return self._put(
            kind, digest, lambda path: files.write_json(path / DOCUMENT_FILE, document)
        )

    def put_folder(self, kind: str, folder: Path) -> Artifact:
        """Copy a folder into the store under its folder digest."""
        return self._put(kind, folder_digest(folder), lambda path: _copy(folder, path))

    def read_records(self, kind: str, digest: str) -> list[dict[str, Any]]:
        """Read the rows of a stored dataset, after writing down who reads them.

        Raises:
            StoreError: if it is not in the store, or the read cannot be recorded.
        """
        artifact = self._find(kind, digest)
        rows = files.read_jsonl(artifact.path / RECORDS_FILE)
        self._record_read(artifact, len(rows))
        return rows

    def _record_read(self, artifact: Artifact, rows: int) -> None:
        try:
            self.access_log.record(self.reader, artifact.kind, artifact.digest, rows)
        except ChainError as error:
            raise StoreError(
                f"{artifact.kind} {artifact.digest[:12]} is not given out, because the access "
                f"record cannot be written: {error}"
            ) from error

    def read_document(self, kind: str, digest: str) -> dict[str, Any]:
        """Read a stored JSON document."""
        text = (self._find(kind, digest).path / DOCUMENT_FILE).read_text(encoding="utf-8")
        document: dict[str, Any] = json.loads(text)
        return document

    def recompute(self, artifact: Artifact) -> str:
        """Compute an artifact's digest anew from what lies in its folder.

        Raises:
            ValueError: if it lies there in a form that no artifact has.
        """
        records, document = artifact.path / RECORDS_FILE, artifact.path / DOCUMENT_FILE
        if records.exists():
            rows = files.read_jsonl(records)
            root = merkle_root(computed_digest(row) for row in rows)
            return as_written(records, files.jsonl_bytes(rows), root)
        if document.exists():
            read = json.loads(document.read_bytes())
            return as_written(document, files.json_bytes(read), json_digest(read))
        return folder_digest(artifact.path)

    def verify(self, kind: str, digest: str) -> str:
        """Return what is wrong with a stored artifact, or nothing; no content is given out."""
        try:
            computed = self.recompute(self._find(kind, digest))
        except (ValueError, OSError) as error:
            return f"{self._artifact_path(kind, digest)}: {error}"
        if computed == digest:
            return ""
        return (
            f"{self._artifact_path(kind, digest)} was changed: its content has the digest "
            f"{computed[:12]}"
        )

    def _artifact_path(self, kind: str, digest: str) -> Path:
        return self.root / "artifacts" / kind / digest

    def _put(self, kind: str, digest: str, fill: Callable[[Path], None]) -> Artifact:
        target = self._artifact_path(kind, digest)
        if not target.is_dir():
            with files.folder_aside(target) as aside:
                fill(aside)
        return Artifact(kind, digest, target)

    # -- manifests -------------------------------------------------------------------------------

    def add_manifest(self, manifest: Manifest) -> str:
        """Store a manifest and return its digest."""
        digest = manifest.manifest_digest()
        path = self._manifests(manifest.model, manifest.asset) / f"{digest}.json"
        if not path.exists():
            files.write_json(path, manifest.statement())
        files.write_bytes(
            self._recipes(manifest.model, manifest.asset) / manifest.recipe, digest.encode()
        )
        return digest

    def set_head(self, model: str, asset: str, manifest_digest: str) -> None:
        """Point to the manifest that downstream assets and checks read now."""
        files.write_bytes(self._head(model, asset), manifest_digest.encode())

    def head(self, model: str, asset: str) -> tuple[str, Manifest]:
        """Return the current manifest of an asset and the manifest's digest.

        Raises:
            StoreError: if the asset was never materialised.
        """
        path = self._head(model, asset)
        if not path.exists():
            raise StoreError(f"{model}/{asset} has not been materialised yet; materialise it first")
        digest = path.read_text()
        return digest, self.manifest(model, asset, digest)

    def manifest(self, model: str, asset: str, digest: str) -> Manifest:
        """Return a manifest by its own digest, after checking that it still has that digest.

        Raises:
            StoreError: if it is missing or was changed.
        """
        path = self._manifests(model, asset) / f"{digest}.json"
        if not path.exists():
            raise StoreError(f"manifest {digest[:12]} of {model}/{asset} is missing: {path}")
        return Manifest.from_statement(read_statement(path))

    def manifest_for_recipe(self, model: str, asset: str, recipe: str) -> Manifest | None:
        """Return the newest manifest made by a recipe whose artifact is still there, or None."""
        pointer = self._recipes(model, asset) / recipe
        if not pointer.exists():
            return None
        manifest = self.manifest(model, asset, pointer.read_text())
        if not self._artifact_path(manifest.kind, manifest.digest).is_dir():
            return None
        return manifest

    def manifests(self, model: str, asset: str) -> list[Manifest]:
        """Return all manifests of an asset, oldest first.

        Raises:
            StoreError: if one of them was changed.
        """
        paths = self._manifests(model, asset).glob("*.json")
        found = [self.manifest(model, asset, path.stem) for path in paths]
        return sorted(found, key=lambda manifest: str(manifest.run.get("finished_at", "")))

    def _manifests(self, model: str, asset: str) -> Path:
        return self.root / "manifests" / model / asset

    def _head(self, model: str, asset: str) -> Path:
        return self.root / "heads" / model / asset

    def _recipes(self, model: str, asset: str) -> Path:
        return self.root / "recipes" / model / asset


def with_digest(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row with its ``digest`` computed over all its other columns."""
    content = {key: value for key, value in row.items() if key != "digest"}
    return {**content, "digest": json_digest(content)}


def computed_digest(row: Any) -> str:
    """Return a stored row's digest over its content; of the row as it lies, if that is not it.

    Raises:
        ValueError: if it is no record.
    """
    if not isinstance(row, dict):
        raise ValueError(f"{RECORDS_FILE} holds something else than records")  # noqa: TRY004
    computed = str(with_digest(row)["digest"])
    return computed if row.get("digest") == computed else json_digest(row)


def _write_files(path: Path, contents: Mapping[str, bytes]) -> None:
    for name, content in contents.items():
        files.write_bytes(path / name, content)


def _write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    files.write_bytes(path / RECORDS_FILE, files.jsonl_bytes(rows))


def _copy(source: Path, target: Path) -> None:
    shutil.copytree(source, target, dirs_exist_ok=True)
