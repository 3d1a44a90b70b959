"""The rollback drill, in the stage ``monitoring``: a rollback is timed before one is needed.

Invariants:
* Production's callers notice nothing: ``serving.drill`` moves a copy of the pointer.
* A rollback that would have failed is a drill with that outcome, judged by the check, not a failed
  step: the finding stands in the lineage.
"""

from dataclasses import asdict
from typing import Any

import dagster as dg

from ftdm_assets.graph import prediction
from ftdm_assets.graph.monitoring import GROUP
from ftdm_assets.graph.plan import AssetPlan, Built, CheckPlan, GraphPlan, Outcome, Reading, Tools
from ftdm_assets.graph.shell import asset_key
from ftdm_assets.model_folder import ModelFolder
from golden.client import AskSettings, chat_body
from serving.admission import Admission, StoreAdmission
from serving.versions import PointerError

DRILL = "rollback_drill"


def assets(model: ModelFolder) -> list[AssetPlan]:
    """Return the drill, unless it is switched off."""
    if not model.settings.serving.drill.enabled:
        return []
    return [
        AssetPlan(
            name=DRILL,
            group=GROUP,
            description="How long production takes to go back to the version kept warm, and forth.",
            build=_build,
            version="1",
            config={"max_new_tokens": model.settings.task.max_new_tokens},
            deps=("deployed_version", "golden_set"),
            memoised=False,
            kinds=("vllm",),
        )
    ]


def checks(model: ModelFolder) -> list[CheckPlan]:
    """Return the check of the drill."""
    settings = model.settings.serving.drill
    if not settings.enabled:
        return []
    return [
        CheckPlan(
            DRILL,
            "within_seconds",
            "A rollback, from the command to the first answer, takes no longer than it may.",
            lambda r: _within(r, settings.maximum_seconds),
            {"maximum_seconds": settings.maximum_seconds},
        )
    ]


def schedules(graph: GraphPlan) -> list[dg.ScheduleDefinition]:
    """Return the schedule of the drill, unless it is switched off."""
    settings = graph.model.settings.serving.drill
    if not settings.enabled:
        return []
    return [
        dg.ScheduleDefinition(
            name=f"{graph.model.name}_rollback_drill",
            cron_schedule=settings.schedule,
            target=dg.AssetSelection.assets(asset_key(graph, DRILL)),
            default_status=dg.DefaultScheduleStatus.RUNNING,
            description="Times a rollback; production's callers notice nothing.",
        )
    ]


def _build(reading: Reading, tools: Tools) -> Built:
    document = drilled(reading, StoreAdmission(reading.home))
    tools.say(document["reason"])
    facts = {name: document[name] for name in ("outcome", "version", "previous", "reason")}
    facts |= {f"{name}_seconds": document[name]["answered_s"] for name in document["legs"]}
    return Built(reading.store.put_document("drill", document), facts=facts)


def drilled(reading: Reading, admission: Admission) -> dict[str, Any]:
    """Drill, and return what came of it: ``measured``, ``nothing_to_drill`` or ``failed``."""
    # Imported when it runs: a machine that only trains has no gateway installed.
    from serving.drill import DrillError, NothingToDrillError, drill

    settings = reading.model.settings.task
    example = prediction.examples_of(reading)[0]
    ask = AskSettings(model="", base_url="", max_tokens=settings.max_new_tokens)
    document: dict[str, Any] = {
        "version": reading.document("deployed_version")["version"],
        "previous": "",
        "legs": [],
    }
    try:
        made = drill(
            reading.home, reading.model.name, chat_body(example.input, ask), admission=admission
        )
    except NothingToDrillError as error:
        return {**document, "outcome": "nothing_to_drill", "reason": str(error)}
    except (DrillError, PointerError) as error:
        return {**document, "outcome": "failed", "reason": str(error)}
    text = (
        f"{made.back.to_version} answered {made.back.answered_s:.2f} s after the rollback began, "
        f"{made.forth.to_version} again after {made.forth.answered_s:.2f} s"
    )
    return {
        **document,
        "outcome": "measured",
        "reason": text,
        "previous": made.back.to_version,
        "legs": ["back", "forth"],
        "back": asdict(made.back),
        "forth": asdict(made.forth),
        "seconds": made.seconds,
    }


def _within(reading: Reading, maximum: float) -> Outcome:
    document = reading.document(DRILL)
    reason = document["reason"]
    if document["outcome"] == "nothing_to_drill":
        return Outcome(True, f"not drilled: {reason}")
    if document["outcome"] == "failed":
        return Outcome(False, f"a rollback would have failed: {reason}")
    seconds = float(document["seconds"])
    told = f"{reason}; {maximum} s are allowed"
    return Outcome(seconds <= maximum, told, {"seconds": seconds})
