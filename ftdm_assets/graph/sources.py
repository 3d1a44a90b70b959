"""What the graph reads from outside: external assets whose data version is the file's digest.

A sensor observes them, so that the UI shows a changed file as a changed upstream, and everything
downstream of it as stale.
"""

import dagster as dg

from ftdm_assets.graph.labels import GOLDEN_SOURCE, GROUP, LABEL_SOURCE
from ftdm_assets.graph.plan import GraphPlan
from ftdm_assets.graph.shell import asset_key
from ftdm_assets.quiet import accepted_notices
from ftdm_assets.settings import SettingsError
from ftdm_assets.sources.label_source import label_source
from ftdm_assets.sources.tables import SourceError

_SENSOR_SECONDS = 30
_TAG = "dagster/data_version"


def observable_assets(graph: GraphPlan) -> list[dg.SourceAsset]:
    """Return the external assets of a graph; the UI can observe each."""
    described = {
        LABEL_SOURCE: label_source(graph.model).description,
        GOLDEN_SOURCE: graph.model.settings.golden.path,
    }
    with accepted_notices():
        return [_observable(graph, name, text) for name, text in described.items()]


def _observable(graph: GraphPlan, name: str, text: str) -> dg.SourceAsset:
    @dg.observable_source_asset(
        key=asset_key(graph, name), group_name=GROUP, description=f"Read from outside: {text}."
    )
    def _observe() -> dg.DataVersion:
        return dg.DataVersion(current_digests(graph)[name])

    return _observe


def current_digests(graph: GraphPlan) -> dict[str, str]:
    """Return the digests of what the graph reads from outside, by external asset.

    Raises:
        SettingsError: if a file is missing.
    """
    digests: dict[str, str] = {}
    for plan in graph.assets:
        digests.update(plan.sources(graph.model))
    return digests


def observe(graph: GraphPlan, instance: dg.DagsterInstance) -> list[dg.AssetObservation]:
    """Return an observation for every source whose digest Dagster does not know yet."""
    events = []
    for name, digest in current_digests(graph).items():
        key = asset_key(graph, name)
        latest = instance.get_latest_data_version_record(key, is_source=True)
        known = None
        if latest is not None and latest.asset_observation is not None:
            known = (latest.asset_observation.tags or {}).get(_TAG)
        if known != digest:
            events.append(
                dg.AssetObservation(key, tags={_TAG: digest}, metadata={"digest": digest})
            )
    return events


def source_sensor(graph: GraphPlan) -> dg.SensorDefinition:
    """Return the sensor that observes the sources."""

    @dg.sensor(
        name=f"{graph.model.name}_sources",
        minimum_interval_seconds=_SENSOR_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Observes label and golden file; a changed file makes the graph stale.",
    )
    def _sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        try:
            events = observe(graph, context.instance)
        except (SettingsError, SourceError) as error:
            return dg.SkipReason(str(error))
        if not events:
            return dg.SkipReason("No source has changed.")
        return dg.SensorResult(asset_events=events)

    return _sensor
