"""Whether the evidence is what it was: every digest computed anew, every statement, every seal.

Invariants:
* A finding names the file or artifact; one finding never hides the others.
* Only the store and the trusted keys are asked: no orchestrator, no database, no network. Nothing
  is written, no content given out.
* A registered version without a seal is a finding of its own kind: it is not known to be wrong.
* The access record is checked against the heads that the manifests of all models keep.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from dataclasses import dataclass, field
from typing import Any

from ftdm_assets.provenance.chain_links import Head
from ftdm_assets.provenance.digests import folder_files
from ftdm_assets.provenance.hash_chain import ChainReport
from ftdm_assets.provenance.lineage import REGISTERED, ancestry, registered
from ftdm_assets.provenance.model_signature import differences
from ftdm_assets.provenance.seal_check import Listings, SealReport, check_seals, not_signed
from ftdm_assets.provenance.statements import ACCESS_LOG, REQUEST_LOG, Manifest
from ftdm_assets.provenance.store import ArtifactStore, StoreError
from ftdm_assets.provenance.trust import NOBODY, Trust


@dataclass
class Verification:
    """What was looked at, and what is wrong there.

    Attributes:
        signatures: version, key and time of each seal that holds.
        unsigned: a sentence on each registered version without a seal.
    """

    artifacts: int = 0
    manifests: int = 0
    verdicts: int = 0
    sign_offs: int = 0
    publications: int = 0
    reproductions: int = 0
    signatures: list[dict[str, str]] = field(default_factory=list)
    unsigned: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def findings(self) -> list[str]:
        """Return everything for which what was looked at is not to be used."""
        return [*self.unsigned, *self.problems]


@dataclass(frozen=True)
class Start:
    """A manifest to begin at."""

    model: str
    asset: str
    manifest: str


def verify_version(store: ArtifactStore, version: str, trust: Trust) -> Verification:
    """Verify a registered version: weights, documents, lineage, statements and signatures.

    Whoever admits a version to production asks this: it may be used if there are no ``findings``.
    """
    model = version.rsplit("-v", 1)[0]
    try:
        made = registered(store, model, REGISTERED, version)
    except (StoreError, ValueError) as error:
        return Verification(problems=[str(error)])
    if made is None:
        return Verification(problems=[f"no manifest in {store.root} registers {version}"])
    return verify_ancestry(store, [Start(model, REGISTERED, made.manifest_digest())], trust)


def verify_ancestry(
    store: ArtifactStore, starts: Iterable[Start], trust: Trust = NOBODY
) -> Verification:
    """Verify what these manifests describe, and everything that it was made from."""
    found = Verification()
    manifests = list(_walk(store, starts, found))
    listings: dict[str, Sequence[dict[str, str]]] = {}
    for manifest in manifests:
        if manifest.asset == REGISTERED:
            listings.update(_seal(store, manifest, trust, found))
    artifacts: set[tuple[str, str]] = set()
    judged: set[tuple[str, str, str]] = set()
    for manifest in manifests:
        for kind, digest in _artifacts(manifest):
            if (kind, digest) in artifacts:
                continue
            artifacts.add((kind, digest))
            if problem := store.verify(kind, digest):
                told = f"{problem}{_files(store, kind, digest, listings)}"
                found.problems.append(f"{manifest.model}/{manifest.asset}: {told}")
        key = (manifest.model, manifest.asset, manifest.digest)
        if key not in judged:
            judged.add(key)
            _statements(store, key, found)
    found.artifacts = len(artifacts)
    return found


def _seal(store: ArtifactStore, manifest: Manifest, trust: Trust, found: Verification) -> Listings:
    try:
        nodes = ancestry(store, manifest.model, manifest.asset, manifest.manifest_digest())
    except (StoreError, ValueError):
        # The walk has named the manifest that is missing or was changed.
        return {}
    report: SealReport = check_seals(store, nodes, trust)
    if not report.signed:
        found.unsigned.append(not_signed(report.version))
    found.problems += report.problems
    if report.key_id:
        found.signatures.append(
            {"version": report.version, "key": report.key_id, "signed_at": report.signed_at}
        )
    return report.listings


def _files(store: ArtifactStore, kind: str, digest: str, listings: Listings) -> str:
    """Return in words which files of a changed folder differ, where a seal lists them."""
    signed = listings.get(f"{kind}/{digest}")
    folder = store.root / "artifacts" / kind / digest
    if signed is None or not folder.is_dir():
        return ""
    try:
        told = differences(signed, folder_files(folder))
    except (ValueError, OSError):
        return ""
    return f" ({'; '.join(told)})" if told else ""


def verify_chain(store: ArtifactStore, kept: Iterable[tuple[str, Head]] = ()) -> ChainReport:
    """Check the access record against its head, the manifests' heads, and heads kept elsewhere."""
    return store.access_log.chain.check([*_heads(store, _access_log), *kept])


def request_log_heads(store: ArtifactStore) -> list[tuple[str, Head]]:
    """Return the request log's heads that the manifests of all models keep, each by its place."""
    return list(_heads(store, lambda manifest: manifest.facts.get(REQUEST_LOG)))


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
    readers: dict[str, Callable[..., Sized]] = {
        "verdicts": store.verdicts,
        "sign_offs": store.sign_offs,
        "publications": store.publications,
        "reproductions": store.reproductions,
    }
    for name, read in readers.items():
        try:
            setattr(found, name, getattr(found, name) + len(read(*key)))
        except (StoreError, ValueError) as error:
            found.problems.append(str(error))


def _access_log(manifest: Manifest) -> Any:
    return manifest.run.get(ACCESS_LOG)


def _heads(store: ArtifactStore, kept_by: Callable[[Manifest], Any]) -> Iterator[tuple[str, Head]]:
    for path in sorted((store.root / "manifests").glob("*/*/*.json")):
        model, asset = path.parent.parent.name, path.parent.name
        try:
            manifest = store.manifest(model, asset, path.stem)
            if kept := kept_by(manifest):
                yield f"manifest {path.stem[:12]} of {model}/{asset}", Head.parse(str(kept))
        except ValueError:
            # A changed manifest keeps nothing; the walk over the ancestry names it.
            continue
