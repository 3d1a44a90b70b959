"""One domain model's folder becomes one graph: its plan, and the Dagster definitions of it."""

import dagster as dg

from ftdm_assets.graph import (
    cleaned_dataset,
    dataset,
    evaluation,
    golden_set,
    labels,
    monitoring,
    release,
    rollback_drill,
    sources,
    training,
)
from ftdm_assets.graph.move_records import moves_sensor
from ftdm_assets.graph.plan import GraphPlan
from ftdm_assets.graph.rollback import rollback_job
from ftdm_assets.graph.shell import asset_definition, check_definition
from ftdm_assets.model_folder import ModelFolder


def build_plan(model: ModelFolder) -> GraphPlan:
    """Return the plan of a domain model's graph."""
    data = (labels, golden_set, cleaned_dataset, dataset)
    stages = (*data, training, evaluation, release, monitoring, rollback_drill)
    assets = [plan for stage in stages for plan in stage.assets(model)]
    checks = [
        *(plan for stage in data for plan in stage.checks(model)),
        *training.checks(model),
        *evaluation.checks(model),
        *release.checks(model, lambda: graph),
        *monitoring.checks(model),
        *rollback_drill.checks(model),
    ]
    graph = GraphPlan(model, tuple(assets), tuple(checks))
    return graph


def build_definitions(model: ModelFolder) -> dg.Definitions:
    """Return the Dagster definitions of a domain model."""
    return definitions_of(build_plan(model))


def definitions_of(graph: GraphPlan) -> dg.Definitions:
    """Return the Dagster definitions of a plan."""
    return dg.Definitions(
        assets=[
            *sources.observable_assets(graph),
            *(asset_definition(graph, plan) for plan in graph.assets),
        ],
        asset_checks=[check_definition(graph, plan) for plan in graph.checks],
        jobs=[rollback_job(graph)],
        schedules=[monitoring.canary_schedule(graph), *rollback_drill.schedules(graph)],
        sensors=[
            monitoring.retraining_sensor(graph),
            sources.source_sensor(graph),
            moves_sensor(graph),
        ],
    )
