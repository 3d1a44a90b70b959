"""Lineage: the walk from a manifest to everything it was made from, over manifests alone."""

from dataclasses import dataclass

from ftdm_assets.provenance.statements import Manifest
from ftdm_assets.provenance.store import ArtifactStore

# The asset that binds a version to a merged model.
REGISTERED = "registered_version"
# The asset with production's score of a week, and the check on how far that has fallen.
CANARY, CANARY_CHECK = "canary_scores", "canary_accuracy"


@dataclass(frozen=True)
class Node:
    """One artifact in a lineage, with the manifest that says how it was made."""

    manifest_digest: str
    manifest: Manifest
    depth: int

    @property
    def asset(self) -> str:
        """Return the asset's name under the model's key."""
        return self.manifest.asset


def registered(store: ArtifactStore, model: str, asset: str, version: str) -> Manifest | None:
    """Return the newest manifest of an asset that registers a version, or None."""
    manifests = reversed(store.manifests(model, asset))
    return next((one for one in manifests if one.facts.get("version") == version), None)


def ancestry(store: ArtifactStore, model: str, asset: str, manifest_digest: str) -> list[Node]:
    """Return the artifact and all its ancestors, nearest first, each manifest once.

    Raises:
        StoreError: if a manifest on the way is missing or was changed.
    """
    nodes: dict[str, Node] = {}
    queue = [(asset, manifest_digest, 0)]
    while queue:
        name, digest, depth = queue.pop(0)
        if digest in nodes:
            continue
        manifest = store.manifest(model, name, digest)
        nodes[digest] = Node(digest, manifest, depth)
        queue.extend((ref.asset, ref.manifest, depth + 1) for ref in manifest.inputs)
    return list(nodes.values())
