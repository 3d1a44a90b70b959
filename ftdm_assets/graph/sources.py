"""What the graph reads from outside: external assets whose data version is the source's state.

A sensor observes them, so that the UI shows a changed file or labelling project as a changed
upstream, and everything downstream of it as stale. It asks every half minute, and at once when a
webhook says that labels have changed; a lost webhook costs half a minute. Where the settings ask
for it (``labels.request_on_change``) it also requests ``raw_labels``, once a state, and again after
no lost event: what counts is the state that the current snapshot was read in.
"""

import json
import time

import dagster as dg

from ftdm_assets.graph.labels import GOLDEN_SOURCE, GROUP, LABEL_SOURCE, RAW_LABELS
from ftdm_assets.graph.plan import GraphPlan
from ftdm_assets.graph.shell import asset_key, reading_of
from ftdm_assets.provenance.store import StoreError
from ftdm_assets.quiet import accepted_notices
from ftdm_assets.settings import SettingsError
from ftdm_assets.sources.label_source import label_source
from ftdm_assets.sources.label_webhook import mark_of
from ftdm_assets.sources.tables import SourceError

POLL_SECONDS = 30
_WEBHOOK_SECONDS = 5
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
        SourceError: if a source cannot be asked.
    """
    digests: dict[str, str] = {}
    for plan in graph.assets:
        digests.update(plan.sources(graph.model))
    return digests


def observe(graph: GraphPlan, instance: dg.DagsterInstance) -> list[dg.AssetObservation]:
    """Return an observation for every source whose digest Dagster does not know yet."""
    return _observations(graph, instance, current_digests(graph))


def _observations(
    graph: GraphPlan, instance: dg.DagsterInstance, digests: dict[str, str]
) -> list[dg.AssetObservation]:
    events = []
    for name, digest in digests.items():
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


def requests(graph: GraphPlan, digests: dict[str, str]) -> list[dg.RunRequest]:
    """Return the request for a new snapshot, if one is wanted and the labels have changed."""
    state = digests.get(LABEL_SOURCE)
    if not graph.model.settings.labels.request_on_change or state is None:
        return []
    try:
        read = reading_of(graph).manifest(RAW_LABELS).facts.get("sources", {}).get(LABEL_SOURCE)
    except StoreError:
        read = None
    if read == state:
        return []
    key = asset_key(graph, RAW_LABELS)
    tags = {"ftdm/reason": "labels changed"}
    return [dg.RunRequest(run_key=f"labels-{state}", asset_selection=[key], tags=tags)]


def source_sensor(graph: GraphPlan) -> dg.SensorDefinition:
    """Return the sensor that observes the sources."""
    hears = bool(graph.model.settings.labels.label_studio.webhook)

    @dg.sensor(
        name=f"{graph.model.name}_sources",
        target=dg.AssetSelection.assets(asset_key(graph, RAW_LABELS)),
        minimum_interval_seconds=_WEBHOOK_SECONDS if hears else POLL_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Observes labels and golden file; a change makes the graph stale.",
    )
    def _sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        now, mark = time.time(), mark_of(graph.model.name)
        if not is_due(context.cursor, now, mark):
            return dg.SkipReason("Asked less than half a minute ago, and no webhook came since.")
        # Also after a failure: a server that is down is asked again in half a minute.
        context.update_cursor(json.dumps({"asked": now, "mark": mark}))
        try:
            digests = current_digests(graph)
            events = _observations(graph, context.instance, digests)
        except (SettingsError, SourceError) as error:
            return dg.SkipReason(str(error))
        wanted = requests(graph, digests)
        if not events and not wanted:
            return dg.SkipReason("No source has changed.")
        return dg.SensorResult(asset_events=events, run_requests=wanted)

    return _sensor


def is_due(cursor: str | None, now: float, mark: float) -> bool:
    """Say whether to ask: the last time is long ago, or a webhook came that was not heeded."""
    try:
        last = json.loads(cursor or "{}")
        return bool(mark != last["mark"] or now - last["asked"] >= POLL_SECONDS - 1)
    except (ValueError, KeyError, TypeError):
        return True
