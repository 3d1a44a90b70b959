"""The asset ``baseline_scores``: what fine-tuning has to beat, and whether it is worth it."""

from dataclasses import asdict
from typing import Any

from ftdm_assets.graph import prediction
from ftdm_assets.graph.baseline import Probe, probe_scores
from ftdm_assets.graph.comparison import (
    TITLE,
    baseline_contenders,
    comparison,
    measured,
    prompted_cost,
    score_interval,
)
from ftdm_assets.graph.dataset import GENERAL_SYSTEM, chat_format
from ftdm_assets.graph.evidence import made_from
from ftdm_assets.graph.general_ability import questions_digest
from ftdm_assets.graph.plan import AssetPlan, Built, CheckPlan, Outcome, Reading, Tools
from ftdm_assets.graph.prompted import ask_prompted
from ftdm_assets.graph.task_view import TaskView, baselines, task_view
from ftdm_assets.model_folder import ModelFolder
from golden.pace import pace_of
from golden.statistics import exact

NO_PROBE = "none, a linear probe answers with labels only"


def asset(model: ModelFolder, group: str) -> AssetPlan:
    """Return the asset."""
    settings = model.settings
    deciding = settings.baseline.deciding()
    return AssetPlan(
        name="baseline_scores",
        group=group,
        description="What a prompted general model and a linear probe score on the golden set.",
        build=_build_baseline,
        # 6: the engine writes JSON without white space between its parts.
        version="6",
        config={
            "task": settings.task.model_dump(
                exclude={"taxonomy", "answer_schema"}, exclude_none=True
            ),
            **_answers_config(model),
            "questions": questions_digest(model),
            **({"baseline": deciding} if deciding else {}),
        },
        deps=("cleaned_dataset", "golden_set", "base_model"),
        gated=True,
        kinds=("vllm",),
        gpu=True,
    )


def checks(model: ModelFolder) -> list[CheckPlan]:
    """Return its checks."""
    gates, baseline = model.settings.gates, model.settings.baseline
    return [
        CheckPlan(
            "baseline_scores",
            "fine_tuning_justified",
            "The prompted baseline is too far below the target to do without fine-tuning.",
            lambda r: _justified(r, gates.baseline_margin_points, baseline.probe_gates),
            {
                task_view(model).target_name: task_view(model).target,
                "margin_points": gates.baseline_margin_points,
                **({"probe_gates": True} if baseline.probe_gates else {}),
            },
        ),
    ]


def _answers_config(model: ModelFolder) -> dict[str, Any]:
    if model.settings.task.kind == "extraction":
        return {"schema": model.schema()}
    return {"taxonomy": model.taxonomy()} if model.settings.task.kind == "classification" else {}


def _build_baseline(reading: Reading, tools: Tools) -> Built:
    model = reading.model
    records = reading.records("cleaned_dataset")
    prompted = ask_prompted(reading, tools, records, _question_renderer(reading))
    probe = _probe(reading, tools, records)
    task = prompted.task.as_dict()
    document = {
        "prompted": task,
        "general": asdict(prompted.general),
        **({} if probe is None else {"probe": probe.scores.as_dict()}),
        **prompted.document,
    }
    interval = score_interval(model, task)
    facts = {
        "prompted_accuracy": prompted.task.accuracy,
        "prompted_correct": prompted.task.correct,
        "prompted_invalid": prompted.task.invalid,
        f"prompted_{_named(task_view(model))}_low": interval.low,
        f"prompted_{_named(task_view(model))}_high": interval.high,
        **({"linear_probe": NO_PROBE} if probe is None else _probe_facts(probe)),
        "general_accuracy": prompted.general.accuracy,
        "examples": prompted.task.total,
        **prompted.facts,
        **measured(prompted.pace, prompted_cost(model, prompted.pace)),
    }
    return Built(
        reading.store.put_document("scores", document),
        facts=facts,
        pictures={"baselines": task_view(model).bars(baselines(document))},
        tables={TITLE: comparison(model, baseline_contenders(model, document, facts))},
    )


def _probe(reading: Reading, tools: Tools, records: list[dict[str, Any]]) -> Probe | None:
    if reading.model.settings.task.kind != "classification":
        tools.say(f"Linear probe: {NO_PROBE}")
        return None
    tools.say("Linear probe: TF-IDF and logistic regression on the cleaned dataset")
    return probe_scores(records, prediction.examples_of(reading), reading.model.labels())


def _probe_facts(probe: Probe) -> dict[str, Any]:
    pace = pace_of(probe.seconds, 1, [])
    return {"probe_accuracy": probe.scores.accuracy, "probe_pace": pace.facts()}


def _named(view: TaskView) -> str:
    return view.measure.lower().replace(" ", "_")


def _question_renderer(reading: Reading) -> Any:
    chat = chat_format(reading)
    return lambda text, answer: "".join(chat.render(text, answer, GENERAL_SYSTEM))


def _justified(reading: Reading, margin: float, probe_gates: bool) -> Outcome:
    view, document = task_view(reading.model), reading.document("baseline_scores")
    prompted, probe = view.score(document["prompted"]), document.get("probe")
    gap = 100 * (exact(view.target) - prompted)
    beside = f"the linear probe scores {probe['accuracy']:.1%}" if probe else f"probe: {NO_PROBE}"
    golden = reading.manifest("baseline_scores").facts.get("golden_examples")
    on = f" (on {document['prompted']['total']} of {golden} golden examples)" if golden else ""
    text = (
        f"the prompted baseline's {view.measure} is {float(prompted):.1%}{on}, {float(gap):.1f} "
        f"points below the target of {view.target:.1%}; {beside}"
    )
    against = {"golden_set": made_from(reading, "baseline_scores", "golden_set")}
    values = {
        f"prompted_{_named(view)}": float(prompted),
        **({"probe_accuracy": probe["accuracy"]} if probe else {}),
        "points_below_target": float(gap),
    }
    if gap < exact(margin):
        advice = f"{text}: less than {margin} points, so stay with the prompt"
        return Outcome(False, advice, values, against)
    if probe_gates and probe and 100 * (exact(view.target) - view.score(probe)) < exact(margin):
        advice = f"{text}, less than {margin} points below the target, so serve the probe"
        return Outcome(False, advice, values, against)
    return Outcome(True, text, values, against)
