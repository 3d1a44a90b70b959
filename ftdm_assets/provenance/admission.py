"""What is asked of a version before it may serve: do its seal, its manifests and its weights hold?

Invariants:
* Only the store, the weights' folder and the trusted keys are asked; nothing is written.
* A version is admitted by any of its manifests that names these weights and whose seal holds; what
  is wrong with another version, or with another registration of this one, refuses nobody.
* The gate's decision counts as it was signed: a threshold that was raised since, or an override
  that has ended, stops the next deployment, not a version that was admitted before.
* Nobody can pass over a refusal.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ftdm_assets.provenance.digests import folder_files
from ftdm_assets.provenance.lineage import REGISTERED, Node, ancestry
from ftdm_assets.provenance.model_signature import differences, listing_digest
from ftdm_assets.provenance.seal_check import check_seals, not_signed
from ftdm_assets.provenance.store import ArtifactStore, StoreError
from ftdm_assets.provenance.trust import Trust


@dataclass(frozen=True)
class Attested:
    """What the evidence says of a version.

    Attributes:
        problems: what does not verify; nothing, if the version may serve these weights.
        files: the signed list of the weights' files; empty where no seal holds.
    """

    problems: tuple[str, ...]
    files: Sequence[dict[str, str]] = ()


def attested(store: ArtifactStore, version: str, digest: str, trust: Trust) -> Attested:
    """Check seal, manifests, gate's decision and verdicts of a version with these weights."""
    model = version.rsplit("-v", 1)[0]
    first: Attested | None = None
    for manifest_digest in _registrations(store, model, version, digest):
        found = _attested(store, model, manifest_digest, digest, trust)
        if not found.problems:
            return found
        first = first or found
    if first is not None:
        return first
    told = f"no manifest in {store.root} registers {version} with the weights {digest[:12]}"
    return Attested((f"{told}, or it was changed",))


def weights_problem(folder: Path, digest: str, files: Sequence[dict[str, str]]) -> str:
    """Hash a folder of weights anew; return what differs from the signed files, or nothing."""
    if not folder.is_dir():
        return f"its weights {digest[:12]} are gone: there is no folder {folder}"
    try:
        found = folder_files(folder)
    except (ValueError, OSError) as error:
        return f"its weights cannot be hashed ({error})"
    if listing_digest(found) == digest:
        return ""
    return f"its weights in {folder} differ: {'; '.join(differences(files, found))}"


def _registrations(store: ArtifactStore, model: str, version: str, digest: str) -> Iterator[str]:
    """Yield the digests of the manifests that register a version with these weights, newest first.

    A manifest that was changed is passed over: it may have been another version's.
    """
    found = []
    for path in (store.root / "manifests" / model / REGISTERED).glob("*.json"):
        try:
            manifest = store.manifest(model, REGISTERED, path.stem)
        except ValueError:
            continue
        facts = manifest.facts
        if (facts.get("version"), facts.get("merged_digest")) == (version, digest):
            found.append((str(manifest.run.get("finished_at", "")), path.stem))
    yield from (name for _, name in sorted(found, reverse=True))


def _attested(
    store: ArtifactStore, model: str, manifest_digest: str, digest: str, trust: Trust
) -> Attested:
    try:
        nodes = ancestry(store, model, REGISTERED, manifest_digest)
    except (StoreError, ValueError) as error:
        return Attested((str(error),))
    report = check_seals(store, nodes, trust)
    if not report.signed:
        return Attested((not_signed(report.version),))
    problems = [*report.problems, *_changed_verdicts(store, nodes)]
    return Attested(tuple(problems), report.listings.get(f"model/{digest}", ()))


def _changed_verdicts(store: ArtifactStore, nodes: Sequence[Node]) -> Iterator[str]:
    for node in nodes:
        try:
            store.verdicts(node.manifest.model, node.asset, node.manifest.digest)
        except ValueError as error:
            yield str(error)
