"""Whether the evidence is what it was: every digest computed anew, every statement, the chain.

Invariants:
* A finding names the file or artifact; one finding never hides the others.
* Only the store is asked: no orchestrator, no database. Nothing is written, no content given out.
* The access record is checked against the heads that the manifests of all models keep.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from ftdm_assets.provenance.chain_links import Head
from ftdm_assets.provenance.hash_chain import ChainReport
from ftdm_assets.provenance.statements import ACCESS_LOG, Manifest
from ftdm_assets.provenance.store import ArtifactStore, StoreError


@dataclass
class Verification:
    """What was looked at, and what is wrong there."""

    artifacts: int = 0
    manifests: int = 0
    verdicts: int = 0
    sign_offs: int = 0
    reproductions: int = 0
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Start:
    """A manifest to begin at."""

    model: str
    asset: str
    manifest: str


def verify_ancestry(store: ArtifactStore, starts: Iterable[Start]) -> Verification:
    """Verify what these manifests describe, and everything that it was made from."""
    found = Verification()
    artifacts: set[tuple[str, str]] = set()
    judged: set[tuple[str, str, str]] = set()
    for manifest in _walk(store, starts, found):
        for kind, digest in _artifacts(manifest):
            if (kind, digest) in artifacts:
                continue
            artifacts.add((kind, digest))
            if problem := store.verify(kind, digest):
                found.problems.append(f"{manifest.model}/{manifest.asset}: {problem}")
        key = (manifest.model, manifest.asset, manifest.digest)
        if key not in judged:
            judged.add(key)
            _statements(store, key, found)
    found.artifacts = len(artifacts)
    return found


def verify_chain(store: ArtifactStore, kept: Iterable[tuple[str, Head]] = ()) -> ChainReport:
    """Check the access record against its head, the manifests' heads, and heads kept elsewhere."""
    return store.access_log.chain.check([*_kept_in_manifests(store), *kept])


def _walk(store: ArtifactStore, starts: Iterable[Start], found: Verification) -> Iterator[Manifest]:
    seen: set[str] = set()
    queue = [(start, "") for start in starts]
    while queue:
        start, expected = queue.pop(0)
        try:
            manifest = store.manifest(start.model, start.asset, start.manifest)
        except StoreError as error:
            if start.manifest not in seen:
                found.problems.append(str(error))
            seen.add(start.manifest)
            continue
        if expected and manifest.digest != expected:
            found.problems.append(
                f"{start.model}/{start.asset}: manifest {start.manifest[:12]} describes "
                f"{manifest.digest[:12]}, what was made from it names {expected[:12]}"
            )
        if start.manifest in seen:
            continue
        seen.add(start.manifest)
        found.manifests += 1
        queue += [
            (Start(start.model, ref.asset, ref.manifest), ref.digest) for ref in manifest.inputs
        ]
        yield manifest


def _artifacts(manifest: Manifest) -> Iterator[tuple[str, str]]:
    yield manifest.kind, manifest.digest
    for item in manifest.attachments.values():
        yield item["kind"], item["digest"]


def _statements(store: ArtifactStore, key: tuple[str, str, str], found: Verification) -> None:
    try:
        found.verdicts += len(store.verdicts(*key))
    except (StoreError, ValueError) as error:
        found.problems.append(str(error))
    try:
        found.sign_offs += len(store.sign_offs(*key))
    except (StoreError, ValueError) as error:
        found.problems.append(str(error))
    try:
        found.reproductions += len(store.reproductions(*key))
    except (StoreError, ValueError) as error:
        found.problems.append(str(error))


def _kept_in_manifests(store: ArtifactStore) -> Iterator[tuple[str, Head]]:
    for path in sorted((store.root / "manifests").glob("*/*/*.json")):
        model, asset = path.parent.parent.name, path.parent.name
        try:
            manifest = store.manifest(model, asset, path.stem)
            if kept := manifest.run.get(ACCESS_LOG):
                yield f"manifest {path.stem[:12]} of {model}/{asset}", Head.parse(str(kept))
        except ValueError:
            # A changed manifest keeps nothing; the walk over the ancestry names it.
            continue
