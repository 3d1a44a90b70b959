"""``ftdm verify``: is the evidence of a version, a model or everything still what it was?"""

from dataclasses import asdict
from typing import Any

from ftdm_assets.audit.verify import (
    Start,
    Verification,
    verify_ancestry,
    verify_chain,
    verify_version,
)
from ftdm_assets.commands import output
from ftdm_assets.home import store, trust
from ftdm_assets.provenance.chain_links import Head
from ftdm_assets.provenance.store import ArtifactStore, StoreError
from ftdm_assets.settings import SettingsError


def verify(target: str | None, chain_only: bool, head: str | None, as_json: bool) -> int:
    """Verify, and return 1 with everything that is wrong and where."""
    if target and chain_only:
        raise SettingsError("name a version or model, or give --access-log; not both")
    artifacts = store()
    kept = [("the head given by --head", _head(head))] if head else []
    found = Verification() if chain_only else _verified(artifacts, target)
    chain = verify_chain(artifacts, kept)
    document = {
        "target": target,
        **({} if chain_only else asdict(found)),
        "access_log": {
            "path": str(artifacts.access_log.chain.path),
            "entries": chain.head.count,
            "head": str(chain.head),
            "mended": list(chain.mended),
            "notes": list(chain.notes),
        },
        "problems": [*found.problems, *chain.problems],
    }
    wrong = [*found.unsigned, *document["problems"]]
    if as_json:
        output.print_json(document)
    else:
        _show(document, chain_only)
    return output.NO if wrong else output.DONE


def _head(text: str) -> Head:
    try:
        return Head.parse(text)
    except ValueError as error:
        raise SettingsError(f"--head: {error}") from None


def _verified(artifacts: ArtifactStore, target: str | None) -> Verification:
    if target is not None and not (artifacts.root / "heads" / target).is_dir():
        return verify_version(artifacts, target, trust())
    return verify_ancestry(artifacts, _starts(artifacts, target), trust())


def _starts(artifacts: ArtifactStore, target: str | None) -> list[Start]:
    heads = artifacts.root / "heads"
    found = [
        Start(path.parent.name, path.name, path.read_text())
        for path in sorted(heads.glob(f"{target or '*'}/*"))
        if not path.name.startswith(".")
    ]
    if not found:
        raise StoreError(f"nothing was materialised in {artifacts.root} yet; `ftdm run` does that")
    return found


def _show(document: dict[str, Any], chain_only: bool) -> None:
    if not chain_only:
        output.say(
            f"{document['artifacts']} artifacts, {document['manifests']} manifests, "
            f"{document['verdicts']} verdicts, {document['sign_offs']} sign-offs, "
            f"{document['publications']} publications"
        )
        for one in document["signatures"]:
            output.say(f"{one['version']} is signed by key {one['key'][:12]}, {one['signed_at']}")
    log = document["access_log"]
    mended = f", {len(log['mended'])} mended after a crash" if log["mended"] else ""
    output.say(f"access record: {log['entries']} entries{mended}; head {log['head']}")
    for note in log["notes"]:
        output.say(f"note: {note}")
    for text in document.get("unsigned", []):
        output.say(f"not signed: {text}")
    for problem in document["problems"]:
        output.fail(problem)
    if not document["problems"]:
        output.say("everything is what its digest says")
