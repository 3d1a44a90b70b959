"""What is to be done, and doing it in this process: the same run that the UI would make.

What is stale is what Dagster calls stale, so that the command and the UI never disagree; on top of
it come checks that no verdict covers (a threshold was changed, a check is new).
"""

from dataclasses import dataclass

import dagster as dg
from dagster._core.definitions.data_version import CachingStaleStatusResolver, StaleStatus
from dagster._core.loader import LoadingContextForTest

from ftdm_assets.graph.build import definitions_of
from ftdm_assets.graph.dead_runs import process_tags
from ftdm_assets.graph.evidence import unjudged
from ftdm_assets.graph.plan import GraphPlan
from ftdm_assets.graph.shell import asset_key, reading_of
from ftdm_assets.graph.sources import observe

_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@dataclass(frozen=True)
class Work:
    """Assets to materialise, and checks to judge on assets that stay."""

    assets: frozenset[str]
    checks: frozenset[tuple[str, str]]

    @property
    def nothing(self) -> bool:
        """Say whether everything is current."""
        return not self.assets and not self.checks

    def in_order(self) -> tuple["Work", ...]:
        """Return the checks on assets that stay, then the assets with their checks.

        Dagster lets a check go first only for the assets directly below it; the gate of an asset
        further down would find it unjudged.
        """
        parts = (Work(frozenset(), self.checks), Work(self.assets, frozenset()))
        return tuple(part for part in parts if not part.nothing)


def work_to_do(graph: GraphPlan, instance: dg.DagsterInstance, chosen: set[str] | None) -> Work:
    """Return what is not current.

    Args:
        graph: the domain model's graph.
        instance: Dagster's records.
        chosen: materialise exactly these assets; None finds what is stale or missing.
    """
    for event in observe(graph, instance):
        instance.report_runless_asset_event(event)
    stale = chosen if chosen is not None else graph.downstream(*_stale(graph, instance))
    open_checks = {
        (asset, check) for asset, check in unjudged(graph, reading_of(graph)) if asset not in stale
    }
    if chosen is not None:
        open_checks = set()
    return Work(frozenset(stale), frozenset(open_checks))


def _stale(graph: GraphPlan, instance: dg.DagsterInstance) -> set[str]:
    assets = definitions_of(graph).resolve_asset_graph()
    resolver = CachingStaleStatusResolver(instance, assets, LoadingContextForTest(instance))
    return {
        plan.name
        for plan in graph.assets
        if resolver.get_status(asset_key(graph, plan.name)) != StaleStatus.FRESH
    }


def execute(graph: GraphPlan, instance: dg.DagsterInstance, work: Work, run_id: str) -> str:
    """Materialise and judge in this process; return what stopped it, or an empty string."""
    definitions = dg.Definitions.merge(
        definitions_of(graph), dg.Definitions(executor=dg.in_process_executor)
    )
    checks = {dg.AssetCheckKey(asset_key(graph, asset), name) for asset, name in work.checks}
    checks |= {
        dg.AssetCheckKey(asset_key(graph, check.asset), check.name)
        for check in graph.checks
        if check.asset in work.assets
    }
    job = definitions.resolve_implicit_global_asset_job_def().get_subset(
        asset_selection={asset_key(graph, name) for name in work.assets},
        asset_check_selection=checks,
    )
    result = job.execute_in_process(
        instance=instance,
        run_id=run_id,
        run_config=_QUIET,
        raise_on_error=False,
        tags=process_tags(),
    )
    return "" if result.success else _failure(result)


def _failure(result: dg.ExecuteInProcessResult) -> str:
    """Return why the run failed in the words of the step, or nothing if a check said no."""
    for event in result.all_events:
        if not event.is_step_failure:
            continue
        data = event.step_failure_data
        told = data.user_failure_data.description if data.user_failure_data else None
        if told:
            return told
        error = data.error
        while error is not None and error.cause is not None:
            error = error.cause
        if error is not None and "DagsterAssetCheckFailedError" not in error.message:
            return error.message.strip()
    return ""
