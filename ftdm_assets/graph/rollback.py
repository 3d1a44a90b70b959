"""Rollback: the pointer moves first (what is not warm is started before), then the lineage is told.

Moving the pointer needs neither Dagster nor MLflow. Recording it makes a new deployment in the
store and a materialization of ``deployed_version`` in Dagster, so that the lineage shows it.
"""

from functools import partial

import dagster as dg

from ftdm_assets.graph import production
from ftdm_assets.graph.move_records import by_run, tell_moves
from ftdm_assets.graph.plan import GraphPlan
from ftdm_assets.graph.release import record_aliases
from ftdm_assets.graph.shell import reading_of
from ftdm_assets.registries.mlflow_registry import RegistryError
from serving import cold
from serving.admission import StoreAdmission
from serving.versions import PointerError


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
        config, run_id = context.op_config, str(context.run.run_id)
        reading = reading_of(graph)
        try:
            cold.rollback(
                *(reading.home, name, config.get("to")),
                by=by_run(run_id),
                reason=config["reason"],
                admission=StoreAdmission(reading.home),
                progress=context.log.info,
                start=partial(production.start_terms, reading, context.log.info),
            )
        except PointerError as error:
            raise dg.Failure(str(error), allow_retries=False) from error
        tell_moves(graph, reading, context.instance, run_id=run_id, report=context.log_event)
        try:
            record_aliases(reading)
        except RegistryError as error:
            context.log.warning(str(error))

    @dg.job(
        name=f"{name}_rollback",
        description="Production goes back to the version kept warm, in seconds; what is not warm "
        "is started first.",
    )
    def _job() -> None:
        _rollback()

    return _job
