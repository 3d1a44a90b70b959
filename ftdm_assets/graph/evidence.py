"""Evidence for the gate: collects a candidate's lineage and verdicts, and decides."""

from collections.abc import Mapping, Sequence

from ftdm_assets import home as homes
from ftdm_assets.graph.plan import CheckPlan, GraphPlan, Reading
from ftdm_assets.graph.recipe import recipe_of
from ftdm_assets.provenance.environment import now
from ftdm_assets.provenance.gate import (
    Decision,
    Finding,
    decide,
    judge_requirement,
    nearest,
    with_override,
)
from ftdm_assets.provenance.lineage import REGISTERED, Node, ancestry
from ftdm_assets.provenance.overrides import SignedOverride, overrides
from ftdm_assets.provenance.statements import REQUEST_LOG
from ftdm_assets.provenance.store import StoreError
from serving.pointer import PointerStore
from serving.request_log import request_log
from serving.versions import Version

PRODUCTION, GOLDEN, CANDIDATE = "production", "golden_set", "merged_model"
DEPLOYED = "deployed_version"


class RefusedError(Exception):
    """The gate said no; the message gives every reason."""


def request_log_head(reading: Reading) -> dict[str, str]:
    """Return the request log's head at this moment, for a manifest's facts to keep.

    Raises:
        RequestLogError: if the head is damaged.
    """
    kept = request_log(reading.home).heads()
    return {REQUEST_LOG: str(kept[0][1])} if kept else {}


def candidate_nodes(reading: Reading, assets: tuple[str, ...]) -> list[Node]:
    """Return the current artifacts of these assets and all their ancestors."""
    nodes: dict[str, Node] = {}
    for asset in assets:
        digest, _ = reading.head(asset)
        for node in ancestry(reading.store, reading.model.name, asset, digest):
            nodes.setdefault(node.manifest_digest, node)
    return list(nodes.values())


def decision(graph: GraphPlan, reading: Reading, assets: tuple[str, ...]) -> Decision:
    """Decide whether what these assets hold now may go on."""
    nodes = candidate_nodes(reading, assets)
    return _decided(graph, reading, assets, nodes)


def deployed_decision(graph: GraphPlan, reading: Reading) -> Decision:
    """Decide on the version that is deployed: after a rollback it is not the newest registered."""
    digest, _ = reading.head(DEPLOYED)
    nodes = ancestry(reading.store, reading.model.name, DEPLOYED, digest)
    return _decided(graph, reading, (REGISTERED,), nodes[1:])


def _decided(
    graph: GraphPlan, reading: Reading, assets: tuple[str, ...], nodes: Sequence[Node]
) -> Decision:
    verdicts = {
        (node.asset, node.manifest.digest): reading.store.verdicts(
            reading.model.name, node.asset, node.manifest.digest
        )
        for node in nodes
    }
    requirements = graph.requirements(graph.upstream(*assets))
    evidence = {
        (check.asset, check.name, digest): check.evidence(reading, digest)
        for check in graph.checks
        if check.evidence is not None
        for asset, digest in verdicts
        if asset == check.asset
    }
    stated = [one for key in verdicts for one in overrides_of(reading, *key)]
    known = {**production(reading, nearest(nodes).get(CANDIDATE)), **golden_set(graph, reading)}
    return decide(nodes, requirements, verdicts, known, evidence, stated, now())


def finding(reading: Reading, check: CheckPlan, digest: str, known: Mapping[str, str]) -> Finding:
    """Return the state of one check on one artifact."""
    verdicts = reading.store.verdicts(reading.model.name, check.asset, digest)
    evidence = None if check.evidence is None else check.evidence(reading, digest)
    return judge_requirement(check.requirement, digest, verdicts, known, evidence)


def lifted(reading: Reading, check: CheckPlan, found: Finding) -> Finding:
    """Return a finding as the gate sees it, with the override that lifts it if there is one."""
    stated = overrides_of(reading, check.asset, found.digest)
    return with_override(found, check.requirement, stated, now())


def overrides_of(reading: Reading, asset: str, digest: str) -> list[SignedOverride]:
    """Return all overrides that name an artifact, judged by the keys that count here."""
    trust = homes.trust(reading.home)
    return overrides(reading.store, reading.model.name, asset, digest, trust)


def require(graph: GraphPlan, reading: Reading, assets: tuple[str, ...], purpose: str) -> Decision:
    """Decide, and refuse with every reason if the answer is no.

    Raises:
        RefusedError: naming each check, its asset and the digest.
    """
    made = decision(graph, reading, assets)
    if not made.allowed:
        reasons = "; ".join(
            f"{one.asset}.{one.check} {one.state} on {one.digest[:12] or 'nothing'} ({one.reason})"
            for one in made.refusals
        )
        raise RefusedError(f"{purpose} is refused: {reasons}")
    return made


def production(reading: Reading, candidate: str | None) -> dict[str, str]:
    """Return the digest of the merged model in production, unless that is the candidate itself."""
    current = production_version(reading)
    if current is None or current.digest == candidate:
        return {}
    return {PRODUCTION: current.digest}


def golden_set(graph: GraphPlan, reading: Reading) -> dict[str, str]:
    """Return the digest of the golden set that counts today, if the model has one.

    Where its file or its settings have changed since it was read, no verdict can have been judged
    against it: the digest of how it would be made now stands in its place.
    """
    try:
        manifest, plan = reading.manifest(GOLDEN), graph.asset(GOLDEN)
    except (StoreError, StopIteration):
        return {}
    recipe = recipe_of(plan, (), plan.sources(graph.model))
    return {GOLDEN: manifest.digest if manifest.recipe == recipe else recipe}


def made_from(reading: Reading, asset: str, name: str) -> str:
    """Return the digest of what an asset's artifact was made from; that may be current no more.

    Raises:
        StoreError: if its manifest names no such input.
    """
    for ref in reading.manifest(asset).inputs:
        if ref.asset == name:
            return ref.digest
    raise StoreError(f"the manifest of {asset} names no {name}; materialise {asset} again")


def production_version(reading: Reading) -> Version | None:
    """Return the version that the production pointer names, or None before the first."""
    with PointerStore(reading.home) as store:
        pointer = store.pointer(reading.model.name)
        return None if pointer is None else store.version(pointer.model, pointer.current)


def unjudged(graph: GraphPlan, reading: Reading) -> list[tuple[str, str]]:
    """Return (asset, check) whose verdict on the current artifact is missing or stale."""
    open_checks = []
    known: dict[str, str] = {}
    for plan in graph.assets:
        try:
            known[plan.name] = reading.digest(plan.name)
        except StoreError:
            continue
    known.update(production(reading, known.get(CANDIDATE)))
    for check in graph.checks:
        if check.asset not in known:
            continue
        if finding(reading, check, known[check.asset], known).state in {"missing", "stale"}:
            open_checks.append((check.asset, check.name))
    return open_checks
