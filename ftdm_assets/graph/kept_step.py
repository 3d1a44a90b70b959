"""Steps whose settings are kept in the store, so that they can be run again from a manifest alone.

Invariant: what decides a step's result is kept as an artifact; where its files lay is no part of
it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftdm_assets.graph.plan import Tools
from ftdm_assets.provenance.files import jsonl_bytes, write_bytes
from ftdm_assets.provenance.statements import Manifest
from ftdm_assets.provenance.store import Artifact, ArtifactStore

STEP = "step"
_ROW_KEYS = ("record_id", "prompt", "completion")
_AGREEMENT_ROWS = 32


@dataclass(frozen=True)
class KeptStep:
    """A GPU step.

    Attributes:
        program: its name in ``gpu_steps``.
        settings: what decides its result, without any path.
    """

    program: str
    settings: Mapping[str, Any]

    def keep(self, store: ArtifactStore) -> Artifact:
        """Store program and settings; the artifact is attached to what the step makes."""
        document = {"program": self.program, "settings": dict(self.settings)}
        return store.put_document(STEP, document)

    @staticmethod
    def of(store: ArtifactStore, manifest: Manifest) -> "KeptStep":
        """Return the step that made an artifact.

        Raises:
            StoreError: if it is gone.
            KeyError: if the artifact was made before steps were kept.
        """
        document = store.read_document(STEP, manifest.attachments[STEP]["digest"])
        return KeptStep(document["program"], document["settings"])

    def run(self, tools: Tools, places: Mapping[str, Path]) -> Mapping[str, Any]:
        """Run the step; ``places`` are its files and folders by the step's own keys.

        Returns:
            What a remote machine's operator says of it, or nothing.
        """
        paths = {name: str(path) for name, path in places.items()}
        return tools.step(self.program, {**self.settings, **paths})


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows of a training set as the steps read them."""
    write_bytes(path, jsonl_bytes({key: row[key] for key in _ROW_KEYS} for row in rows))


def agreement_rows(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the rows of a training set that merged model and adapter are compared on."""
    return [row for row in rows if row["origin"] == "domain"][:_AGREEMENT_ROWS]
