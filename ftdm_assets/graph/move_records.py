"""Moves of the production pointer, told to the lineage: each once, whoever made it.

Invariants:
* The pointer's history is the truth, and moves first. Every move after the last one that a manifest
  of ``deployed_version`` tells of is told, in order: by the command or the job that made it, or by
  the sensor, for moves made at the gateway and for those whose process was killed before it could.
* A move made by a Dagster run that has not ended is left to that run.
"""

from collections.abc import Callable

import dagster as dg

from ftdm_assets.graph.evidence import DEPLOYED
from ftdm_assets.graph.plan import GraphPlan, Reading
from ftdm_assets.graph.registered_version import scores_of
from ftdm_assets.graph.release import deployment_document, record_aliases
from ftdm_assets.graph.shell import asset_key, ended, reading_of, result_metadata
from ftdm_assets.provenance.environment import environment
from ftdm_assets.provenance.lineage import REGISTERED, registered
from ftdm_assets.provenance.statements import InputRef, Manifest
from ftdm_assets.provenance.store import StoreError
from ftdm_assets.registries.mlflow_registry import RegistryError
from serving.home import Home
from serving.pointer import PointerStore
from serving.versions import Move

_RUN = "dagster run "
_SENSOR_SECONDS = 30


def by_run(run_id: str) -> str:
    """Return who moved the pointer, where a Dagster run did."""
    return f"{_RUN}{run_id}"


def tell_moves(
    graph: GraphPlan,
    reading: Reading,
    instance: dg.DagsterInstance,
    *,
    run_id: str = "",
    report: Callable[[dg.AssetMaterialization], None] | None = None,
) -> list[Move]:
    """Write every move that the lineage does not show yet into store and Dagster.

    Args:
        graph: The domain model's graph.
        reading: Its store and home.
        instance: Where Dagster's events lie.
        run_id: The run that calls; its own moves are told although it has not ended.
        report: Takes each event; left out, it becomes an event without a run.

    Returns:
        The moves that were told now, oldest first.

    Raises:
        StoreError: if a version that production served was never registered here.
    """
    with Home.at(reading.home).lock(f"lineage-{graph.model.name}"):
        pending = [
            move for move in _untold(reading) if not _left_to_its_run(instance, move, run_id)
        ]
        for move in pending:
            (report or instance.report_runless_asset_event)(
                record_move(graph, reading, move, instance)
            )
    return pending


def moves_sensor(graph: GraphPlan) -> dg.SensorDefinition:
    """Return the sensor that tells the lineage of moves that nobody else has told it of."""

    @dg.sensor(
        name=f"{graph.model.name}_moves",
        minimum_interval_seconds=_SENSOR_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Shows moves of the production pointer that were made outside of Dagster.",
    )
    def _sensor(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        reading = reading_of(graph)
        told = tell_moves(graph, reading, context.instance)
        if not told:
            return dg.SkipReason("The lineage shows every move of the pointer.")
        try:
            record_aliases(reading)
        except RegistryError as error:
            context.log.warning(str(error))
        names = ", ".join(f"{move.kind} to {move.to_version}" for move in told)
        return dg.SkipReason(f"deployed_version was materialised: {names}.")

    return _sensor


def _untold(reading: Reading) -> list[Move]:
    with PointerStore(reading.home) as store:
        moves = store.moves(reading.model.name)
    if not moves:
        return []
    told = {
        tuple(manifest.facts.get(name) for name in ("kind", "version", "at"))
        for manifest in reading.store.manifests(reading.model.name, DEPLOYED)
    }
    pending: list[Move] = []
    for move in reversed(moves):
        if (move.kind, move.to_version, move.at) in told:
            break
        pending.insert(0, move)
    return pending


def _left_to_its_run(instance: dg.DagsterInstance, move: Move, run_id: str) -> bool:
    # Before it may stand whose API key it was.
    _, by_a_run, made_by = move.by.rpartition(_RUN)
    if not by_a_run or made_by == run_id:
        return False
    run = instance.get_run_by_id(made_by)
    return run is not None and not run.is_finished


def record_move(
    graph: GraphPlan, reading: Reading, move: Move, instance: dg.DagsterInstance
) -> dg.AssetMaterialization:
    """Write a move of the pointer into the store; return the event that Dagster shows.

    Raises:
        StoreError: if the version that production now serves was never registered here.
    """
    registered_digest, made = _registered(reading, move.to_version)
    version = reading.store.read_document(made.kind, made.digest)
    task = scores_of(reading, made)["task"]
    artifact = reading.store.put_document(
        "deployment", deployment_document(version, move, None, task)
    )
    plan = graph.asset(DEPLOYED)
    manifest = Manifest(
        asset=DEPLOYED,
        model=graph.model.name,
        digest=artifact.digest,
        kind=artifact.kind,
        recipe=f"{move.kind}-{move.number}",
        code_version=plan.code_version,
        config=dict(plan.config),
        inputs=(InputRef(REGISTERED, made.digest, registered_digest),),
        environment=environment(),
        run={"command": move.kind, "by": move.by, "started_at": move.at, **ended(reading)},
        facts={
            "version": move.to_version,
            "kind": move.kind,
            "from_version": move.from_version or "",
            "by": move.by,
            "reason": move.reason,
            "at": move.at,
        },
    )
    digest = reading.store.add_manifest(manifest)
    reading.store.set_head(graph.model.name, DEPLOYED, digest)
    description = f"{move.kind} to {move.to_version}"
    return dg.AssetMaterialization(
        asset_key(graph, DEPLOYED),
        description=description,
        metadata=result_metadata(reading, manifest, digest, reused=False),
        tags={
            "dagster/data_version": manifest.digest,
            "dagster/data_version_is_user_provided": "true",
            "dagster/code_version": manifest.code_version,
            **_seen(graph, reading, instance),
        },
    )


def _seen(graph: GraphPlan, reading: Reading, instance: dg.DagsterInstance) -> dict[str, str]:
    """Return the tags that say: the newest registered version was seen, and decided against.

    Without them Dagster calls the deployment stale, and the next run would undo the rollback.
    """
    key = asset_key(graph, REGISTERED)
    name = key.to_user_string()
    tags = {f"dagster/input_data_version/{name}": reading.digest(REGISTERED)}
    latest = instance.get_latest_data_version_record(key)
    if latest is not None:
        tags[f"dagster/input_event_pointer/{name}"] = str(latest.storage_id)
    return tags


def _registered(reading: Reading, version: str) -> tuple[str, Manifest]:
    if manifest := registered(reading.store, reading.model.name, REGISTERED, version):
        return manifest.manifest_digest(), manifest
    raise StoreError(
        f"{version} has no manifest in {reading.store.root}; the pointer was moved, but the "
        "lineage cannot show it"
    )
