"""Whether a version's seal holds: every signature, and that each says what the store says.

Invariants:
* Only the store and the trusted keys are asked; nothing is written.
* A problem names the file of the seal, and what differs.
* One whole seal by trusted keys is enough; of a version without one, the newest seal's problems are
  told. A seal whose bytes were changed is a problem even beside one that holds.
* The gate's decision rests on verdicts: each that it names is still in the store.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ftdm_assets.provenance import seal as made
from ftdm_assets.provenance.dsse import Opened, SignatureError, open_signed
from ftdm_assets.provenance.lineage import Node
from ftdm_assets.provenance.model_signature import listing_digest, signed_listing
from ftdm_assets.provenance.statements import parts_of
from ftdm_assets.provenance.store import ArtifactStore, StoreError
from ftdm_assets.provenance.trust import Trust

# States of a finding that rest on a verdict; the others tell that there was none, or are lifted.
_RESTING = ("passed", "failed", "stale")
Listings = Mapping[str, Sequence[dict[str, str]]]


@dataclass
class SealReport:
    """What was found at a version's seals.

    Attributes:
        version: the version's name.
        signed: whether there is a seal at all.
        key_id: the key of the seal that holds; blank if none does.
        signed_at: when that seal was made.
        problems: what is wrong.
        listings: the signed files of the stored folders, by kind and digest.
    """

    version: str
    signed: bool = False
    key_id: str = ""
    signed_at: str = ""
    problems: list[str] = field(default_factory=list)
    listings: Listings = field(default_factory=dict)


def check_seals(store: ArtifactStore, nodes: Sequence[Node], trust: Trust) -> SealReport:
    """Check the seals of the registered version ``nodes[0]``, whose ancestors follow."""
    root = nodes[0]
    report = SealReport(str(root.manifest.facts.get("version")))
    changed: list[str] = []
    last: list[str] = []
    for digest in reversed(made.seals(store, root.manifest, root.manifest_digest)):
        report.signed = True
        if problem := store.verify(made.SEAL, digest):
            changed.append(f"seal of {report.version}: {problem}")
            continue
        one = _Seal(store, digest, nodes, trust)
        problems = one.problems()
        if not problems:
            report.key_id, report.listings = one.key_id, one.listings
            report.signed_at = one.signed_at
            last = []
            break
        last = last or [f"seal {digest[:12]} of {report.version}: {text}" for text in problems]
    report.problems = [*changed, *last]
    return report


def not_signed(version: str) -> str:
    """Return the sentence on a version without a seal."""
    model = version.rsplit("-v", 1)[0]
    return (
        f"{version} is not signed: it was registered before versions were, or its seal was taken "
        f"away; `ftdm run {model} --select registered_version` signs what is registered now"
    )


class _Seal:
    """One seal whose bytes are whole, being checked."""

    def __init__(
        self, store: ArtifactStore, digest: str, nodes: Sequence[Node], trust: Trust
    ) -> None:
        self._store, self._nodes, self._trust = store, nodes, trust
        folder = store.find(made.SEAL, digest).path
        self._contents = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
        self._opened: dict[str, Opened] = {}
        self.key_id = self.signed_at = ""
        self.listings: Listings = {}

    def problems(self) -> list[str]:
        """Return what is wrong with it."""
        found = []
        for check in (
            self._version, self._model, self._evaluation, self._decision, self._files,
            *(lambda node=node: self._manifest(node) for node in self._nodes),
        ):  # fmt: skip
            try:
                found += check()
            except (SignatureError, StoreError) as error:
                found.append(str(error))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                found.append(f"a statement is not of the expected form ({error})")
        return found

    def _open(self, name: str) -> Opened:
        if name not in self._contents:
            raise SignatureError(f"{name} is missing")
        try:
            return open_signed(self._contents[name], self._trust)
        except SignatureError as error:
            raise SignatureError(f"{name}: {error}") from None

    def _version(self) -> list[str]:
        opened = self._open(made.VERSION_FILE)
        _, predicate = parts_of(opened.statement, made.VERSION_TYPE)
        root = self._nodes[0]
        facts = root.manifest.facts
        named = _subjects(opened.statement)
        wanted = {
            f"{root.manifest.model}/{root.asset}": root.manifest.digest,
            str(facts["version"]): str(facts["merged_digest"]),
            **self._documents(),
            **{
                name: hashlib.sha256(content).hexdigest()
                for name, content in self._contents.items()
                if name != made.VERSION_FILE
            },
        }
        self.key_id, self.signed_at = opened.key_id, str(predicate["signed_at"])
        problems = _differences(made.VERSION_FILE, named, wanted)
        expected = (root.manifest.model, facts["version"], root.manifest_digest)
        if (predicate["model"], predicate["version"], predicate["manifest"]) != expected:
            problems.append(f"{made.VERSION_FILE} was made for another version or manifest")
        return problems

    def _documents(self) -> dict[str, str]:
        try:
            return made.document_digests(self._store, self._nodes[0].manifest)
        except StoreError:
            # What is missing in the store is told as that; here its digest is missing too.
            return {}

    def _model(self) -> list[str]:
        name = made.MODEL_FILE
        if name not in self._contents:
            return [f"{name} is missing"]
        try:
            listing, _ = signed_listing(self._contents[name], self._trust)
        except SignatureError as error:
            return [f"{name}: {error}"]
        merged = str(self._nodes[0].manifest.facts["merged_digest"])
        if listing_digest(listing) != merged:
            return [f"{name} is the signature of another model than {merged[:12]}"]
        return []

    def _evaluation(self) -> list[str]:
        statement = self._open(made.EVALUATION_FILE).statement
        _, predicate = parts_of(statement, made.EVALUATION_TYPE)
        merged = str(self._nodes[0].manifest.facts["merged_digest"])
        wanted = made.evaluation_subjects(self._nodes, merged)
        problems = _differences(made.EVALUATION_FILE, _subjects(statement), wanted)
        if predicate["scores"] != made.sealed_scores(self._nodes):
            problems.append(f"{made.EVALUATION_FILE}: the scores are not those of the manifest")
        return problems

    def _decision(self) -> list[str]:
        statement = self._open(made.DECISION_FILE).statement
        digest, predicate = parts_of(statement, made.DECISION_TYPE)
        if digest != self._nodes[0].manifest.digest:
            return [f"{made.DECISION_FILE} speaks of another version"]
        if predicate["allowed"] is not True:
            return [f"{made.DECISION_FILE}: the gate refused this version"]
        return [
            f"{made.DECISION_FILE}: the verdict of {one['asset']}.{one['check']} on "
            f"{one['digest'][:12]}, on which the decision rests, is not in the store"
            for one in predicate["findings"]
            if one["state"] in _RESTING and not self._held(one)
        ]

    def _held(self, finding: Mapping[str, Any]) -> bool:
        """Say whether the store still holds the verdict that a signed finding tells of."""
        model = self._nodes[0].manifest.model
        return any(
            verdict.check == finding["check"]
            and str(verdict.run.get("dagster_run_id", "")) == finding["run"]
            and (verdict.passed or finding["state"] != "passed")
            for verdict in self._store.verdicts(model, finding["asset"], finding["digest"])
        )

    def _files(self) -> list[str]:
        statement = self._open(made.FILES_FILE).statement
        _, predicate = parts_of(statement, made.FILES_TYPE)
        folders = predicate["folders"]
        self.listings = folders
        return [
            f"{made.FILES_FILE}: the files of {name} do not give its digest"
            for name, listing in folders.items()
            if listing_digest(listing) != name.rsplit("/", 1)[1]
        ]

    def _manifest(self, node: Node) -> list[str]:
        name = made.manifest_file(node)
        # A manifest's digest is that of its statement, which is what was signed.
        if self._open(name).digest != node.manifest_digest:
            return [f"{name}: the signed manifest of {node.asset} is not the stored one"]
        return []


def _subjects(statement: Mapping[str, Any]) -> dict[str, str]:
    return {one["name"]: one["digest"]["sha256"] for one in statement["subject"]}


def _differences(where: str, named: Mapping[str, str], wanted: Mapping[str, str]) -> list[str]:
    return [
        *(
            f"{where}: {name} has another digest than the signed one"
            for name in sorted(named.keys() & wanted.keys())
            if named[name] != wanted[name]
        ),
        *(f"{where} does not name {name}" for name in sorted(wanted.keys() - named.keys())),
        *(
            f"{where} names {name}, which is not there"
            for name in sorted(named.keys() - wanted.keys())
        ),
    ]
