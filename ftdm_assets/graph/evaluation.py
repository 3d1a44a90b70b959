"""Stage ``evaluation``: the merged model on the golden set and on general questions.

What is evaluated is what is served: the merged folder, through the production engine, with the
production flags, its own chat template and its own decoding settings, its answers held to the form
that production will hold them to. The form is part of the scores; whoever deploys takes it from
them.
"""

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

from ftdm_assets.chat import served_format
from ftdm_assets.graph import prediction, safety
from ftdm_assets.graph.answer_review import answers_check
from ftdm_assets.graph.comparison import (
    TITLE,
    Contender,
    baseline_contenders,
    comparison,
    measured,
)
from ftdm_assets.graph.dataset import GENERAL_SYSTEM, trained_format
from ftdm_assets.graph.evidence import CANDIDATE, PRODUCTION, made_from, production
from ftdm_assets.graph.general_ability import questions_digest
from ftdm_assets.graph.golden_size import power_settings
from ftdm_assets.graph.plan import AssetPlan, Built, CheckPlan, Outcome, Reading, Tools
from ftdm_assets.graph.task_view import task_view
from ftdm_assets.model_folder import ModelFolder
from ftdm_assets.request_cost import machine_cost
from ftdm_assets.tokens import TokenCounter
from golden.bootstrap import bootstrap_interval
from golden.gates import Judgement, better, not_worse
from golden.pace import Pace
from golden.power import detectable_difference
from golden.standard_gates import Gate, Levels, standard_gates
from golden.statistics import exact, points_below, wilson_interval
from golden.tasks import Document

GROUP = "evaluation"


def assets(model: ModelFolder) -> list[AssetPlan]:
    """Return the assets of this stage."""
    return [
        AssetPlan(
            name="eval_scores",
            group=GROUP,
            description="Scores of the merged model on the golden set and on general questions.",
            build=_build_scores,
            # 7: answers are held to their form; the engine writes JSON without white space.
            version="7",
            config={
                "questions": questions_digest(model),
                **safety.config(model),
                **model.task_config(),
                "constrained": model.settings.constrained,
                "max_model_len": model.settings.serving.max_model_len,
            },
            deps=("merged_model", "golden_set", "baseline_scores"),
            kinds=("vllm",),
            gpu=True,
        )
    ]


def levels(model: ModelFolder) -> Levels:
    """Return the levels of the standard gates that the settings give."""
    gates = model.settings.gates
    names = {one.name for one in fields(Levels)} & set(type(gates).model_fields)
    return Levels(**{name: getattr(gates, name) for name in names})


def checks(model: ModelFolder) -> list[CheckPlan]:
    """Return the checks of this stage."""
    gates = model.settings.gates
    kind = model.task_kind()
    standard = [_standard(gate) for gate in standard_gates(kind, levels(model))]
    return [
        *standard,
        CheckPlan(
            "eval_scores",
            "not_worse_than_production",
            "On the same examples it is not worse than what production serves.",
            lambda r: _against_production(
                r, lambda was, now: not_worse(was, now, gates.worse_than_production_points)
            ),
            {"maximum_points": gates.worse_than_production_points},
        ),
        *([_better_check(model)] if gates.better_than_production else []),
        CheckPlan(
            "eval_scores",
            "general_ability_kept",
            "It still answers general questions about as well as the base model.",
            lambda r: _general(r, gates.general_drop_points),
            {"maximum_points": gates.general_drop_points},
        ),
        *safety.checks(model),
        CheckPlan(
            "eval_scores",
            "template",
            "Training, evaluation and the served folder have one chat template, and the engine "
            "makes the same tokens with it.",
            _one_template,
        ),
        answers_check(model, "eval_scores"),
    ]


def _standard(gate: Gate) -> CheckPlan:
    return CheckPlan(
        "eval_scores",
        gate.name,
        gate.description,
        lambda r: _outcome(gate.judge(_task(r)), _against(r)),
        gate.threshold,
    )


def _better_check(model: ModelFolder) -> CheckPlan:
    alpha, kind = model.settings.gates.alpha, model.task_kind()
    return CheckPlan(
        "eval_scores",
        "better_than_production",
        "On the same examples it is better than what production serves, for certain.",
        lambda r: _against_production(r, lambda was, now: better(kind, was, now, alpha)),
        {"alpha": alpha},
    )


def _outcome(judged: Judgement, against: Mapping[str, str]) -> Outcome:
    return Outcome(judged.passed, judged.reason, judged.measured, against)


def _build_scores(reading: Reading, tools: Tools) -> Built:
    model = reading.model
    merged = reading.artifact("merged_model").path
    chat = served_format(merged)
    name = f"candidate-{reading.digest('merged_model')[:12]}"
    injections = safety.injections(reading)
    form = model.answer_form()
    scored = prediction.predict(
        reading,
        tools,
        folder=merged,
        name=name,
        max_model_len=model.settings.serving.max_model_len,
        asking=prediction.candidate_asking(name, model.settings.task.max_new_tokens, form),
        render_question=lambda text, answer: "".join(chat.render(text, answer, GENERAL_SYSTEM)),
        probe=True,
        injections=injections,
    )
    kind, task = model.task_kind(), scored.task
    baseline = reading.document("baseline_scores")
    document, kept = safety.keep(reading.store, injections, {**scored.document(), "form": form})
    interval = wilson_interval(task.correct, task.total)
    headline = bootstrap_interval(kind.counts(document["task"]), kind.headline_of)
    tools.say(f"accuracy {task.accuracy:.1%}, {kind.headline} {task.headline:.3f}")
    return Built(
        reading.store.put_document("scores", document),
        facts={
            "accuracy": task.accuracy,
            "accuracy_low": interval.low,
            "accuracy_high": interval.high,
            "correct": task.correct,
            "examples": task.total,
            kind.headline: task.headline,
            f"{kind.headline}_low": headline.low,
            f"{kind.headline}_high": headline.high,
            "invalid": task.invalid,
            "constrained": next(iter(form), "off"),
            **{name: document["task"][name] for name in _COUNTED if name in document["task"]},
            "detectable_points": _detectable_points(model, task.total),
            "general_accuracy": scored.general.accuracy,
            **safety.facts(document),
            "prompted_accuracy": baseline["prompted"]["accuracy"],
            **measured(scored.pace, machine_cost(scored.pace, model.settings.compute)),
            "template_digest": chat.digest,
            "probe_tokens": list(scored.probe_tokens),
        },
        attachments=kept,
        pictures=task_view(model).pictures(document["task"], baseline),
        tables={TITLE: _comparison(reading, document["task"], scored.pace)},
    )


def _comparison(reading: Reading, task: Document, pace: Pace) -> str:
    """Return the table of this model beside its baselines."""
    model, cost = reading.model, machine_cost(pace, reading.model.settings.compute)
    facts = reading.manifest("baseline_scores").facts
    before = baseline_contenders(model, reading.document("baseline_scores"), facts)
    return comparison(model, [*before, Contender("**this model**", task, pace, cost)])


_COUNTED = ("abstained", "no_json")


def _detectable_points(model: ModelFolder, total: int) -> float | None:
    """Return the smallest difference to another model that the golden set can show, in points."""
    found = detectable_difference(total, power_settings(model))
    return None if found is None else round(100 * found, 1)


def _task(reading: Reading) -> dict[str, Any]:
    task: dict[str, Any] = reading.document("eval_scores")["task"]
    return task


def _against(reading: Reading) -> dict[str, str]:
    """Return what was examined, and by which golden set: not what is current by now."""
    return {name: made_from(reading, "eval_scores", name) for name in (CANDIDATE, "golden_set")}


def _against_production(
    reading: Reading, judge: Callable[[Document, Document], Judgement]
) -> Outcome:
    examined = _against(reading)
    # That nothing else was there to compare with holds only until something is.
    against = {**examined, PRODUCTION: "", **production(reading, examined[CANDIDATE])}
    if not against[PRODUCTION]:
        return Outcome(True, "nothing else is in production to compare with", {}, against)
    champion = _scores_of(reading, against[PRODUCTION], examined["golden_set"])
    if champion is None:
        text = "production has not been scored on this golden set; materialise its eval_scores"
        return Outcome(True, f"{text}; compared by the canary only", {}, against)
    return _outcome(judge(champion, _task(reading)), against)


def _scores_of(reading: Reading, merged_digest: str, golden: str) -> dict[str, Any] | None:
    """Return the scores of another merged model on a golden set, if it was ever scored on it."""
    for manifest in reversed(reading.store.manifests(reading.model.name, "eval_scores")):
        inputs = {ref.asset: ref.digest for ref in manifest.inputs}
        if inputs.get("merged_model") == merged_digest and inputs.get("golden_set") == golden:
            task: dict[str, Any] = reading.store.read_document("scores", manifest.digest)["task"]
            return task
    return None


def _general(reading: Reading, maximum: float) -> Outcome:
    now = reading.document("eval_scores")["general"]
    base = reading.document("baseline_scores")["general"]
    if now["per_example"].keys() != base["per_example"].keys():
        text = "the base model was asked other general questions; materialise baseline_scores again"
        return Outcome(False, text, {"now": now["total"], "base": base["total"]})
    drop = points_below(base["correct"], base["total"], now["correct"], now["total"])
    text = (
        f"{now['accuracy']:.1%} of {now['total']} general questions, the base model "
        f"{base['accuracy']:.1%}; a drop of {maximum} points is allowed"
    )
    measured = {"drop_points": float(drop), "now": now["accuracy"], "base": base["accuracy"]}
    return Outcome(drop <= exact(maximum), text, measured)


def _one_template(reading: Reading) -> Outcome:
    trained, merged = trained_format(reading), reading.artifact("merged_model").path
    facts = reading.manifest("eval_scores").facts
    digests = {
        "training": trained.digest,
        "evaluation": str(facts["template_digest"]),
        "served folder": served_format(merged).digest,
    }
    tokens = TokenCounter(merged).ids(trained.render(prediction.PROBE, "")[0])
    same = len(set(digests.values())) == 1
    made = list(facts["probe_tokens"]) == tokens
    named = ", ".join(f"{place} {digest[:12]}" for place, digest in digests.items())
    text = f"one chat template ({trained.digest[:12]})" if same else f"templates differ: {named}"
    told = "the engine makes the tokens of training" if made else "the engine makes other tokens"
    against = {name: reading.digest(name) for name in ("training_set", "merged_model")}
    return Outcome(same and made, f"{text}; {told} with it", digests, against)
