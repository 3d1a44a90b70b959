"""``ftdm trace``: a version back to its records, from manifests and verdicts alone."""

from dataclasses import asdict
from typing import Any

from ftdm_assets.commands import output
from ftdm_assets.home import store, trust
from ftdm_assets.provenance.environment import now
from ftdm_assets.provenance.lineage import CANARY, REGISTERED, Node, ancestry, registered
from ftdm_assets.provenance.overrides import SignedOverride, overrides
from ftdm_assets.provenance.reproduction import Reproduction
from ftdm_assets.provenance.seal_check import check_seals
from ftdm_assets.provenance.statements import Manifest, SignOff
from ftdm_assets.provenance.store import ArtifactStore, StoreError
from ftdm_assets.provenance.trust import NOBODY, Trust

DEPLOYED = "deployed_version"


def trace(version: str, as_json: bool) -> int:
    """Show every ancestor with digest, checks, code version and run."""
    document = trace_document(store(), version, trust())
    if as_json:
        output.print_json(document)
    else:
        _show(document)
    return output.DONE


def trace_document(artifacts: ArtifactStore, version: str, keys: Trust = NOBODY) -> dict[str, Any]:
    """Return the trace of a version as a JSON document; without keys no signature counts.

    Raises:
        StoreError: if no manifest registers that version, or one on the way is missing.
    """
    model = version.rsplit("-v", 1)[0]
    made = registered_version(artifacts, version)
    nodes = ancestry(artifacts, model, REGISTERED, made.manifest_digest())
    sealed = check_seals(artifacts, nodes, keys)
    deployments = [
        m
        for m in artifacts.manifests(model, DEPLOYED)
        if any(ref.digest == made.digest for ref in m.inputs)
    ]
    return {
        "version": version,
        "model": model,
        "merged_digest": made.facts.get("merged_digest"),
        "signature": {
            "signed": sealed.signed,
            "key": sealed.key_id,
            "signed_at": sealed.signed_at,
            "problems": sealed.problems,
        },
        "deployments": [_deployment(m) for m in deployments],
        "answer_reviews": _answer_reviews(artifacts, model, deployments),
        "reproductions": [
            _reproduction(one) for one in artifacts.reproductions(model, REGISTERED, made.digest)
        ],
        "ancestors": [_node(artifacts, node, keys) for node in nodes],
    }


def registered_version(artifacts: ArtifactStore, version: str) -> Manifest:
    """Return the manifest that registers a version.

    Raises:
        StoreError: if there is none; the message names those that are there.
    """
    model = version.rsplit("-v", 1)[0]
    found = registered(artifacts, model, REGISTERED, version)
    if found is None:
        manifests = artifacts.manifests(model, REGISTERED)
        known = sorted({str(m.facts.get("version")) for m in manifests})
        raise StoreError(
            f"no manifest in {artifacts.root} registers {version}; "
            f"known versions of {model}: {', '.join(known) or 'none'}"
        )
    return found


def _deployment(manifest: Manifest) -> dict[str, Any]:
    keys = ("kind", "from_version", "by", "at", "reason")
    return {key: manifest.facts.get(key) for key in keys}


def _answer_reviews(
    artifacts: ArtifactStore, model: str, deployments: list[Manifest]
) -> list[dict[str, Any]]:
    """Return what people said of the answers that these deployments gave."""
    deployed = {one.digest for one in deployments}
    scored = [
        manifest.digest
        for manifest in artifacts.manifests(model, CANARY)
        if deployed & {ref.digest for ref in manifest.inputs}
    ]
    return [
        _sign_off(one) for digest in scored for one in artifacts.sign_offs(model, CANARY, digest)
    ]


def _sign_off(one: SignOff) -> dict[str, Any]:
    keys = ("asset", "digest", "by", "user", "how", "signed_at", "size", "judged", "errors")
    return {key: getattr(one, key) for key in (*keys, "accepted", "reason")}


def _reproduction(found: Reproduction) -> dict[str, Any]:
    keys = ("outcome", "reason", "recorded", "made", "scores", "code", "seconds", "finished_at")
    differences = [dict(one) for one in found.differences]
    return {**{key: getattr(found, key) for key in keys}, "differences": differences}


def _override(one: SignedOverride) -> dict[str, Any]:
    return {
        **asdict(one.override),
        "key": one.key_id,
        "lifts_nothing_now": one.refusal(now()),
    }


def _node(artifacts: ArtifactStore, node: Node, keys: Trust = NOBODY) -> dict[str, Any]:
    manifest = node.manifest
    latest = {
        verdict.check: verdict
        for verdict in artifacts.verdicts(manifest.model, manifest.asset, manifest.digest)
    }
    return {
        "asset": manifest.asset,
        "digest": manifest.digest,
        "manifest": node.manifest_digest,
        "depth": node.depth,
        "rows": manifest.facts.get("rows"),
        "code_version": manifest.code_version,
        "commit": manifest.environment.get("commit"),
        "run": dict(manifest.run),
        "inputs": {ref.asset: ref.digest for ref in manifest.inputs},
        "sources": manifest.facts.get("sources", {}),
        "publications": [
            asdict(one)
            for one in artifacts.publications(manifest.model, manifest.asset, manifest.digest)
        ],
        "sign_offs": [
            _sign_off(one)
            for one in artifacts.sign_offs(manifest.model, manifest.asset, manifest.digest)
        ],
        "overrides": [
            _override(one)
            for one in overrides(artifacts, manifest.model, manifest.asset, manifest.digest, keys)
        ],
        "checks": [
            {
                "check": verdict.check,
                "passed": verdict.passed,
                "severity": verdict.severity,
                "reason": verdict.reason,
                "judged_at": verdict.judged_at,
                "run": dict(verdict.run),
            }
            for verdict in latest.values()
        ],
    }


def _show(document: dict[str, Any]) -> None:
    output.say(f"{document['version']}  merged model {document['merged_digest']}")
    signature = document["signature"]
    if signature["key"]:
        output.say(f"  signed by key {signature['key'][:12]} at {signature['signed_at']}")
    for text in signature["problems"] or ([] if signature["signed"] else ["not signed"]):
        output.say(f"  {text}")
    for one in document["deployments"]:
        before = f", before it {one['from_version']}" if one["from_version"] else ""
        output.say(f"  {one['kind']} at {one['at']} by {one['by']}{before}")
    for one in document["reproductions"]:
        output.say(f"  training run again at {one['finished_at']}: {one['reason']}")
    for one in document["answer_reviews"]:
        output.say(f"  answers in production: {_signed(one)}")
    for node in document["ancestors"]:
        _show_node(node)


def _show_node(node: dict[str, Any]) -> None:
    rows = f", {node['rows']} records" if node["rows"] is not None else ""
    output.say(f"\n{'  ' * node['depth']}{node['asset']}{rows}")
    indent = "  " * (node["depth"] + 1)
    output.say(f"{indent}digest {node['digest']}")
    run = node["run"]
    output.say(
        f"{indent}code {node['code_version']} at {str(node['commit'])[:12]}, run "
        f"{run.get('dagster_run_id') or run.get('command')}, {run.get('finished_at')}"
    )
    for source, digest in node["sources"].items():
        output.say(f"{indent}read {source} {digest}")
    for one in node["publications"]:
        place = f"{one['hub']} {one['repository']} at {one['commit']}"
        output.say(f"{indent}pushed to {place} on {one['pushed_at']} by {one['by']}")
    for one in node["sign_offs"]:
        output.say(f"{indent}{_signed(one)}")
    for check in node["checks"]:
        mark = "passed" if check["passed"] else "FAILED"
        output.say(f"{indent}{mark} {check['check']}: {check['reason']}")
    for one in node["overrides"]:
        ended = f" ({one['lifts_nothing_now']})" if one["lifts_nothing_now"] else ""
        output.say(
            f"{indent}OVERRIDDEN {one['check']} by {one['by']} at {one['signed_at']} until "
            f"{one['until']}: {one['reason']}{ended}"
        )


def _signed(one: dict[str, Any]) -> str:
    word = "accepted" if one["accepted"] else "refused"
    return (
        f"{word} by {one['by']} on {one['signed_at']}: {one['errors']} of {one['judged']} judged "
        f"are wrong, of a sample of {one['size']}"
    )
