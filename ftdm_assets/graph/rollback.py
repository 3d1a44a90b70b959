"""Rollback: the pointer moves first, then the lineage is told.

Moving the pointer needs neither Dagster nor MLflow. Recording it makes a new deployment in the
store and a materialization of ``deployed_version`` in Dagster, so that the lineage shows it.
"""

import dagster as dg

from ftdm_assets.graph.plan import GraphPlan, Reading
from ftdm_assets.graph.release import deployment_document, record_aliases, scores_of
from ftdm_assets.graph.shell import asset_key, ended, reading_of, result_metadata
from ftdm_assets.provenance.environment import environment
from ftdm_assets.provenance.lineage import REGISTERED, registered
from ftdm_assets.provenance.statements import InputRef, Manifest
from ftdm_assets.provenance.store import StoreError
from ftdm_assets.registries.mlflow_registry import RegistryError
from serving import moves
from serving.admission import StoreAdmission
from serving.versions import Move, PointerError

DEPLOYED = "deployed_version"


def rollback_job(graph: GraphPlan) -> dg.JobDefinition:
    """Return the job that puts production back to the version kept warm."""
    name = graph.model.name

    @dg.op(
        name=f"{name}_rollback_op",
        config_schema={
            "to": dg.Field(str, is_required=False, description="A version; else the previous one."),
            "reason": dg.Field(str, default_value="rolled back in the UI"),
        },
    )
    def _rollback(context: dg.OpExecutionContext) -> None:
        config = context.op_config
        reading = reading_of(graph)
        try:
            move = moves.rollback(
                reading.home,
                name,
                config.get("to"),
                by=f"dagster run {context.run.run_id}",
                reason=config["reason"],
                admission=StoreAdmission(reading.home),
            )
        except PointerError as error:
            raise dg.Failure(str(error), allow_retries=False) from error
        context.log.info(f"production is {move.to_version} again, it was {move.from_version}")
        context.log_event(record_move(graph, reading, move, context.instance))
        try:
            record_aliases(reading)
        except RegistryError as error:
            context.log.warning(str(error))

    @dg.job(
        name=f"{name}_rollback",
        description="Production goes back to the version kept warm, in seconds.",
    )
    def _job() -> None:
        _rollback()

    return _job


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
