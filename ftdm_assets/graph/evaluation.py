"""Stage ``evaluation``: the merged model on the golden set and on general questions.

What is evaluated is what is served: the merged folder, through the production engine, with the
production flags, its own chat template and its own decoding settings.
"""

from fractions import Fraction
from typing import Any

from ftdm_assets import pictures
from ftdm_assets.chat import served_format
from ftdm_assets.graph import prediction
from ftdm_assets.graph.dataset import GENERAL_SYSTEM, trained_format
from ftdm_assets.graph.evidence import PRODUCTION, production
from ftdm_assets.graph.plan import AssetPlan, Built, CheckPlan, Outcome, Reading, Tools
from ftdm_assets.graph.training import questions_digest
from ftdm_assets.model_folder import ModelFolder
from ftdm_assets.tokens import TokenCounter
from golden.statistics import exact, mcnemar, points_below, wilson_interval

GROUP = "evaluation"


def assets(model: ModelFolder) -> list[AssetPlan]:
    """Return the assets of this stage."""
    return [
        AssetPlan(
            name="eval_scores",
            group=GROUP,
            description="Scores of the merged model on the golden set and on general questions.",
            build=_build_scores,
            # 4: general questions by the likelihood of their answers.
            version="4",
            config={
                "questions": questions_digest(model),
                "labels": model.labels(),
                "max_model_len": model.settings.serving.max_model_len,
            },
            deps=("merged_model", "golden_set", "baseline_scores"),
            kinds=("vllm",),
            gpu=True,
        )
    ]


def checks(model: ModelFolder) -> list[CheckPlan]:
    """Return the checks of this stage."""
    gates = model.settings.gates
    return [
        CheckPlan(
            "eval_scores",
            "target_reached",
            "The accuracy on the golden set reaches the target.",
            lambda r: _target(r, gates.target_accuracy),
            {"target_accuracy": gates.target_accuracy},
        ),
        CheckPlan(
            "eval_scores",
            "class_floor",
            "Every class is recognised often enough.",
            lambda r: _class_floor(r, gates.class_floor_recall),
            {"minimum_recall": gates.class_floor_recall},
        ),
        CheckPlan(
            "eval_scores",
            "not_worse_than_production",
            "On the same examples it is not worse than what production serves.",
            lambda r: _not_worse(r, gates.worse_than_production_points),
            {"maximum_points": gates.worse_than_production_points},
        ),
        CheckPlan(
            "eval_scores",
            "general_ability_kept",
            "It still answers general questions about as well as the base model.",
            lambda r: _general(r, gates.general_drop_points),
            {"maximum_points": gates.general_drop_points},
        ),
        CheckPlan(
            "eval_scores",
            "output_valid",
            "Answers are labels of the taxonomy and nothing else.",
            lambda r: _valid(r, gates.output_valid),
            {"minimum_share": gates.output_valid},
        ),
        CheckPlan(
            "eval_scores",
            "template",
            "Training, evaluation and the served folder have one chat template, and the engine "
            "makes the same tokens with it.",
            _one_template,
        ),
    ]


def _build_scores(reading: Reading, tools: Tools) -> Built:
    model = reading.model
    merged = reading.artifact("merged_model").path
    chat = served_format(merged)
    name = f"candidate-{reading.digest('merged_model')[:12]}"
    scored = prediction.predict(
        reading,
        tools,
        folder=merged,
        name=name,
        max_model_len=model.settings.serving.max_model_len,
        asking=prediction.candidate_asking(name, model.settings.task.max_new_tokens),
        render_question=lambda text, answer: "".join(chat.render(text, answer, GENERAL_SYSTEM)),
        probe=True,
    )
    baseline = reading.document("baseline_scores")
    interval = wilson_interval(scored.task.correct, scored.task.total)
    bars = {
        "prompted": baseline["prompted"]["accuracy"],
        "linear probe": baseline["probe"]["accuracy"],
        "this model": scored.task.accuracy,
    }
    tools.say(f"accuracy {scored.task.accuracy:.1%}, macro-F1 {scored.task.macro_f1:.3f}")
    return Built(
        reading.store.put_document("scores", scored.document()),
        facts={
            "accuracy": scored.task.accuracy,
            "accuracy_low": interval.low,
            "accuracy_high": interval.high,
            "correct": scored.task.correct,
            "examples": scored.task.total,
            "macro_f1": scored.task.macro_f1,
            "invalid": scored.task.invalid,
            "general_accuracy": scored.general.accuracy,
            "prompted_accuracy": baseline["prompted"]["accuracy"],
            "latency": dict(scored.latency),
            "template_digest": chat.digest,
            "probe_tokens": list(scored.probe_tokens),
        },
        pictures={
            "confusion matrix": pictures.confusion_matrix(
                scored.task.confusion, scored.task.labels
            ),
            "scores": pictures.score_bars(bars, target=model.settings.gates.target_accuracy),
        },
    )


def _task(reading: Reading) -> dict[str, Any]:
    task: dict[str, Any] = reading.document("eval_scores")["task"]
    return task


def _against(reading: Reading) -> dict[str, str]:
    return {"golden_set": reading.digest("golden_set")}


def _target(reading: Reading, target: float) -> Outcome:
    task = _task(reading)
    interval = wilson_interval(task["correct"], task["total"])
    text = (
        f"{task['correct']} of {task['total']} right: {task['accuracy']:.1%} "
        f"(95 %: {interval.low:.1%} to {interval.high:.1%}), target {target:.1%}"
    )
    passed = Fraction(task["correct"], task["total"]) >= exact(target)
    measured = {"accuracy": task["accuracy"], "low": interval.low, "high": interval.high}
    return Outcome(passed, text, measured, _against(reading))


def _class_floor(reading: Reading, minimum: float) -> Outcome:
    per_class = _task(reading)["per_class"]
    supported = {name: entry for name, entry in per_class.items() if entry["support"]}
    below = {
        name: entry["recall"] for name, entry in supported.items() if entry["recall"] < minimum
    }
    named = ", ".join(f"{name} {recall:.0%}" for name, recall in sorted(below.items()))
    text = f"{len(below)} of {len(supported)} classes are below a recall of {minimum:.0%}"
    return Outcome(
        not below, f"{text}: {named}" if below else text, {"below": below}, _against(reading)
    )


def _not_worse(reading: Reading, maximum: float) -> Outcome:
    known = production(reading)
    if not known:
        return Outcome(True, "nothing else is in production to compare with", {}, _against(reading))
    against = {**_against(reading), **known}
    champion = _scores_of(reading, known[PRODUCTION])
    if champion is None:
        text = "production has not been scored on this golden set; materialise its eval_scores"
        return Outcome(True, f"{text}; compared by the canary only", {}, against)
    task = _task(reading)
    before = {row["example_id"]: row["correct"] for row in champion["per_example"]}
    after = {row["example_id"]: row["correct"] for row in task["per_example"]}
    drop = points_below(champion["correct"], champion["total"], task["correct"], task["total"])
    test = mcnemar(before, after)
    text = (
        f"{float(-drop):+.1f} points against production on the same {test.total} examples "
        f"({test.gained} gained, {test.lost} lost, exact McNemar p = {test.p_value:.3f})"
    )
    measured = {"drop_points": float(drop), "p_value": test.p_value}
    return Outcome(drop <= exact(maximum), text, measured, against)


def _scores_of(reading: Reading, merged_digest: str) -> dict[str, Any] | None:
    """Return the scores of another merged model on today's golden set, if it was ever scored."""
    golden = reading.digest("golden_set")
    for manifest in reversed(reading.store.manifests(reading.model.name, "eval_scores")):
        inputs = {ref.asset: ref.digest for ref in manifest.inputs}
        if inputs.get("merged_model") == merged_digest and inputs.get("golden_set") == golden:
            task: dict[str, Any] = reading.store.read_document("scores", manifest.digest)["task"]
            return task
    return None


def _general(reading: Reading, maximum: float) -> Outcome:
    now = reading.document("eval_scores")["general"]
    base = reading.document("baseline_scores")["general"]
    drop = points_below(base["correct"], base["total"], now["correct"], now["total"])
    text = (
        f"{now['accuracy']:.1%} of {now['total']} general questions, the base model "
        f"{base['accuracy']:.1%}; a drop of {maximum} points is allowed"
    )
    measured = {"drop_points": float(drop), "now": now["accuracy"], "base": base["accuracy"]}
    return Outcome(drop <= exact(maximum), text, measured)


def _valid(reading: Reading, minimum: float) -> Outcome:
    task = _task(reading)
    share = Fraction(task["total"] - task["invalid"], task["total"])
    text = f"{task['invalid']} of {task['total']} answers are no label of the taxonomy"
    return Outcome(share >= exact(minimum), text, {"valid_share": float(share)}, _against(reading))


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
