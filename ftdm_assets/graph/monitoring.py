"""Stage ``monitoring``: the canary, its schedule, and the sensor that starts retraining."""

import dagster as dg

from ftdm_assets.graph import prediction, production
from ftdm_assets.graph.answer_review import answers_check
from ftdm_assets.graph.evidence import made_from, request_log_head
from ftdm_assets.graph.plan import AssetPlan, Built, CheckPlan, GraphPlan, Outcome, Reading, Tools
from ftdm_assets.graph.shell import asset_key, reading_of
from ftdm_assets.model_folder import ModelFolder
from ftdm_assets.provenance.environment import now
from ftdm_assets.provenance.lineage import CANARY, CANARY_CHECK
from ftdm_assets.provenance.store import StoreError
from golden.client import AskSettings, EndpointError
from golden.harness import examine
from golden.statistics import exact, points_below

GROUP = "monitoring"
_SENSOR_SECONDS = 60


def assets(model: ModelFolder) -> list[AssetPlan]:
    """Return the assets of this stage."""
    return [
        AssetPlan(
            name=CANARY,
            group=GROUP,
            description="The score of production on the golden set, asked at the live endpoint.",
            build=_build_canary,
            # 3: the document says when production was asked: each week is an artifact of its own.
            version="3",
            config=model.task_config(),
            deps=("deployed_version", "golden_set"),
            memoised=False,
            kinds=("vllm",),
        )
    ]


def checks(model: ModelFolder) -> list[CheckPlan]:
    """Return the checks of this stage."""
    canary = model.settings.canary
    return [
        CheckPlan(
            CANARY,
            CANARY_CHECK,
            "Production answers about as well as when it was deployed.",
            lambda r: _accuracy(r, canary.drop_points),
            {"drop_points": canary.drop_points},
        ),
        CheckPlan(
            CANARY,
            "latency",
            "Production answers in time.",
            lambda r: _latency(r, canary.latency_p95_s),
            {"p95_s": canary.latency_p95_s},
            severity="warn",
        ),
        answers_check(model, CANARY),
    ]


def _build_canary(reading: Reading, tools: Tools) -> Built:
    model = reading.model
    examples = prediction.examples_of(reading)
    deployed = reading.document("deployed_version")
    asked = production.gateway(reading)
    settings = AskSettings(
        model=model.name,
        base_url=asked.base_url,
        api_key=asked.api_key,
        max_tokens=model.settings.task.max_new_tokens,
    )
    say, asked_at = prediction.progress(tools, len(examples)), now()
    try:
        taken = examine(model.task_kind(), examples, settings, progress=say)
    except EndpointError as error:
        raise ValueError(f"{error}; `ftdm up` starts what production needs") from error
    scores, latency = taken.scores, taken.latency
    document = {
        "version": deployed["version"],
        "digest": deployed["digest"],
        "asked_at": asked_at,
        "answered_by": list(taken.answers.versions),
        "at_deployment": deployed["accuracy_at_deployment"],
        "task": scores.as_dict(),
    }
    return Built(
        reading.store.put_document("canary", document),
        facts={
            "version": deployed["version"],
            "accuracy": scores.accuracy,
            "correct": scores.correct,
            "examples": scores.total,
            model.task_kind().headline: scores.headline,
            **{f"latency_{name}": seconds for name, seconds in latency.items()},
            **request_log_head(reading),
        },
    )


def _accuracy(reading: Reading, maximum: float) -> Outcome:
    document = reading.document(CANARY)
    task, then = document["task"], document["at_deployment"]
    strange = [name for name in document["answered_by"] if name != document["version"]]
    if strange:
        return Outcome(False, f"{strange} answered, {document['version']} is deployed", {})
    drop = points_below(then["correct"], then["total"], task["correct"], task["total"])
    text = (
        f"{task['accuracy']:.1%} now, {then['correct'] / then['total']:.1%} at deployment: "
        f"{float(drop):.1f} points down, less than {maximum} allowed"
    )
    against = {"golden_set": made_from(reading, CANARY, "golden_set")}
    return Outcome(drop < exact(maximum), text, {"drop_points": float(drop)}, against)


def _latency(reading: Reading, maximum: float) -> Outcome:
    p95 = float(reading.manifest(CANARY).facts["latency_p95_s"])
    return Outcome(p95 <= maximum, f"p95 is {p95:.2f} s, {maximum} s wanted", {"p95_s": p95})


def canary_schedule(graph: GraphPlan) -> dg.ScheduleDefinition:
    """Return the weekly schedule that materialises the canary."""
    return dg.ScheduleDefinition(
        name=f"{graph.model.name}_weekly_canary",
        cron_schedule=graph.model.settings.canary.schedule,
        target=dg.AssetSelection.assets(asset_key(graph, CANARY)),
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Scores production on the golden set.",
    )


def retraining_sensor(graph: GraphPlan) -> dg.SensorDefinition:
    """Return the sensor that requests retraining, once a deployment, when the canary fell."""
    keys = [asset_key(graph, plan.name) for plan in graph.assets]

    @dg.sensor(
        name=f"{graph.model.name}_retraining",
        target=dg.AssetSelection.assets(*keys),
        minimum_interval_seconds=_SENSOR_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Requests retraining when the canary's accuracy has dropped.",
    )
    def _sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        fell = fallen_deployment(reading_of(graph))
        if fell is None:
            return dg.SkipReason("The canary has not fallen.")
        deployment, reason = fell
        if context.cursor == deployment:
            return dg.SkipReason(f"Retraining was requested for {deployment[:12]} already.")
        request = dg.RunRequest(
            run_key=f"retrain-{deployment}",
            asset_selection=keys,
            tags={"ftdm/reason": "canary", "ftdm/canary": reason[:200]},
        )
        return dg.SensorResult(run_requests=[request], cursor=deployment)

    return _sensor


def fallen_deployment(reading: Reading) -> tuple[str, str] | None:
    """Return the deployment whose latest canary failed its check, with the reason, or None."""
    try:
        manifest = reading.manifest(CANARY)
    except StoreError:
        return None
    verdicts = reading.store.verdicts(reading.model.name, CANARY, manifest.digest)
    judged = [verdict for verdict in verdicts if verdict.check == CANARY_CHECK]
    if not judged or judged[-1].passed:
        return None
    deployment = next(ref.digest for ref in manifest.inputs if ref.asset == "deployed_version")
    return deployment, judged[-1].reason
