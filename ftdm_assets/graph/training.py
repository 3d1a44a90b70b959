"""Stage ``training``: the base model, the baselines, the adapter and the merged model."""

import json
import shutil
import time
from typing import Any

from ftdm_assets import pictures
from ftdm_assets.chat import base_format
from ftdm_assets.graph import base_model, merged_model, prediction
from ftdm_assets.graph.baseline import (
    few_shot_json_prompt,
    few_shot_prompt,
    few_shot_text_prompt,
    probe_scores,
)
from ftdm_assets.graph.dataset import GENERAL_SYSTEM, chat_format, trained_format
from ftdm_assets.graph.evidence import made_from
from ftdm_assets.graph.general_ability import questions_digest
from ftdm_assets.graph.kept_step import KeptStep, write_rows
from ftdm_assets.graph.plan import AssetPlan, Built, CheckPlan, Outcome, Reading, Tools
from ftdm_assets.graph.task_view import baselines, task_view
from ftdm_assets.graph.training_record import Training, environment_recorded, recorded
from ftdm_assets.model_folder import ModelFolder
from ftdm_assets.provenance.files import read_jsonl
from ftdm_assets.token_table import token_table
from ftdm_assets.tokens import TokenCounter
from golden.client import AskSettings
from golden.json_values import canonical_text
from golden.statistics import exact

GROUP = "training"
_BASELINE_CONTEXT = 4096
_EXAMPLES_SHOWN = 3
NO_PROBE = "none, a linear probe answers with labels only"
_SHOWN_CLASSES = {"public", "internal"}


def assets(model: ModelFolder) -> list[AssetPlan]:
    """Return the assets of this stage."""
    settings = model.settings
    return [
        base_model.asset(model, GROUP),
        AssetPlan(
            name="baseline_scores",
            group=GROUP,
            description="What the prompted base model and a linear probe score on the golden set.",
            build=_build_baseline,
            # 4: the document says how many answers abstained.
            version="4",
            config={
                "task": settings.task.model_dump(
                    exclude={"taxonomy", "answer_schema"}, exclude_none=True
                ),
                **_answers_config(model),
                "questions": questions_digest(model),
            },
            deps=("cleaned_dataset", "golden_set", "base_model"),
            gated=True,
            kinds=("vllm",),
            gpu=True,
        ),
        AssetPlan(
            name="adapter",
            group=GROUP,
            description="What training left: the LoRA or QLoRA adapter, or with method full the "
            "whole model.",
            build=_build_adapter,
            version="2",
            config={
                **settings.training.model_dump(exclude={"checkpoint_every"}),
                "max_length": settings.serving.max_model_len,
            },
            deps=("training_set", "base_model"),
            gate_deps=("baseline_scores",),
            gated=True,
            kinds=("pytorch",),
            gpu=True,
        ),
        merged_model.asset(model, GROUP),
    ]


def checks(model: ModelFolder) -> list[CheckPlan]:
    """Return the checks of this stage."""
    gates = model.settings.gates
    return [
        *base_model.checks(model),
        CheckPlan(
            "baseline_scores",
            "fine_tuning_justified",
            "The prompted baseline is too far below the target to do without fine-tuning.",
            lambda r: _justified(r, gates.baseline_margin_points),
            {
                task_view(model).target_name: task_view(model).target,
                "margin_points": gates.baseline_margin_points,
            },
        ),
        CheckPlan("adapter", "loss_fell", "The loss is finite and fell.", _loss_fell),
        CheckPlan(
            "adapter",
            "learned_completions",
            "Loss was on the completions alone, each to its end of turn.",
            _learned,
        ),
        CheckPlan(
            "adapter",
            "environment_recorded",
            "What it was trained on is known.",
            environment_recorded,
            version="2",
        ),
        *merged_model.checks(model),
    ]


def _answers_config(model: ModelFolder) -> dict[str, Any]:
    if model.settings.task.kind == "extraction":
        return {"schema": model.schema()}
    return {"taxonomy": model.taxonomy()} if model.settings.task.kind == "classification" else {}


def _build_baseline(reading: Reading, tools: Tools) -> Built:
    model = reading.model
    records = reading.records("cleaned_dataset")
    family = base_format(reading.artifact("base_model").path)
    context = model.settings.base_model.context_length or family.context_length
    name = "baseline"
    asking = AskSettings(
        model=name,
        base_url="",
        system=_prompt(model, records),
        max_tokens=model.settings.task.max_new_tokens + 16,
        body=_constraint(model),
    )
    scored = prediction.predict(
        reading,
        tools,
        folder=reading.artifact("base_model").path,
        name=name,
        max_model_len=min(context, _BASELINE_CONTEXT),
        asking=asking,
        render_question=_question_renderer(reading),
    )
    view, task = task_view(model), scored.document()["task"]
    probe = _probe(reading, tools, records)
    document = {
        "prompted": task,
        "general": scored.document()["general"],
        **({} if probe is None else {"probe": probe}),
        "prompt": asking.system,
    }
    return Built(
        reading.store.put_document("scores", document),
        facts={
            "prompted_accuracy": scored.task.accuracy,
            "prompted_correct": scored.task.correct,
            **({"linear_probe": NO_PROBE} if probe is None else {}),
            **({} if probe is None else {"probe_accuracy": probe["accuracy"]}),
            "general_accuracy": scored.general.accuracy,
            "examples": scored.task.total,
            "latency": dict(scored.latency),
        },
        pictures={"baselines": view.bars(baselines(document))},
    )


def _prompt(model: ModelFolder, records: list[dict[str, Any]]) -> str:
    instruction = model.settings.task.instruction
    if model.settings.task.kind == "extraction":
        return few_shot_json_prompt(instruction, canonical_text(model.schema()), records)
    if model.settings.task.kind == "generation":
        return few_shot_text_prompt(instruction, model.style(), records)
    return few_shot_prompt(instruction, model.taxonomy(), records)


def _constraint(model: ModelFolder) -> dict[str, Any]:
    """Return what the engine lets the baseline answer with: of texts, anything."""
    if model.settings.task.kind == "extraction":
        return {"structured_outputs": {"json": model.schema()}}
    if model.settings.task.kind == "generation":
        return {}
    return {"structured_outputs": {"choice": model.labels()}}


def _probe(reading: Reading, tools: Tools, records: list[dict[str, Any]]) -> dict[str, Any] | None:
    if reading.model.settings.task.kind != "classification":
        tools.say(f"Linear probe: {NO_PROBE}")
        return None
    tools.say("Linear probe: TF-IDF and logistic regression on the cleaned dataset")
    examples = prediction.examples_of(reading)
    return probe_scores(records, examples, reading.model.labels()).as_dict()


def _question_renderer(reading: Reading) -> Any:
    chat = chat_format(reading)
    return lambda text, answer: "".join(chat.render(text, answer, GENERAL_SYSTEM))


def _build_adapter(reading: Reading, tools: Tools) -> Built:
    settings = reading.model.settings
    training, base = settings.training, reading.manifest("base_model")
    work = reading.home / "work" / reading.model.name / "train"
    output = work / "result"
    rows = reading.records("training_set")
    write_rows(work / "train.jsonl", rows)
    shutil.rmtree(output, ignore_errors=True)
    options = training.model_dump(exclude_none=True)
    options["lora"] = _adapter_shape(reading)
    step = KeptStep(
        "train",
        {
            **options,
            "base_name": settings.base_model.name,
            "base_digest": base.digest,
            "max_length": settings.serving.max_model_len,
            "dtype": prediction.DTYPE,
        },
    )
    started = time.monotonic()
    job = step.run(
        tools,
        {
            "base_model": reading.artifact("base_model").path,
            "train_file": work / "train.jsonl",
            "output": output,
            "work": work,
        },
    )
    seconds = time.monotonic() - started
    log = read_jsonl(output / "train_log.jsonl")
    batch = json.loads((output / "batch.json").read_text(encoding="utf-8"))
    artifact = reading.store.put_folder("adapter", output / "adapter")
    stored_log = reading.store.put_records("train_log", log)
    facts, attachments = recorded(
        reading, tools, Training(step, artifact, output, log, seconds, job)
    )
    shutil.rmtree(work)
    return Built(
        artifact,
        facts=facts,
        attachments={
            "train_log": stored_log,
            "batch": reading.store.put_records("batch", batch),
            **attachments,
        },
        pictures={
            "loss": pictures.loss_curve([row["step"] for row in log], [row["loss"] for row in log])
        },
        tables={"a batch, decoded": token_table(_showable(reading, rows, batch))},
    )


def _adapter_shape(reading: Reading) -> dict[str, Any] | None:
    """Return the adapter's shape, its modules the family's unless the settings name some."""
    training = reading.model.settings.training
    if training.method == "full":
        return None
    family = base_format(reading.artifact("base_model").path)
    shape = training.lora.model_dump(exclude_none=True)
    return {"target_modules": family.target_modules, **shape}


def _showable(
    reading: Reading, rows: list[dict[str, Any]], batch: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Return what of a batch may lie in the UI's database: no records that could be secret."""
    general = {row["record_id"] for row in rows if row["origin"] == "general"}
    every = reading.model.settings.cleaning.allowed_data_class in _SHOWN_CLASSES
    shown = [example for example in batch if every or example["record_id"] in general]
    return shown[:_EXAMPLES_SHOWN]


def _justified(reading: Reading, margin: float) -> Outcome:
    view, document = task_view(reading.model), reading.document("baseline_scores")
    prompted = view.score(document["prompted"])
    gap = float(100 * (exact(view.target) - prompted))
    probe = document.get("probe")
    beside = f"the linear probe scores {probe['accuracy']:.1%}" if probe else f"probe: {NO_PROBE}"
    text = (
        f"the prompted baseline's {view.measure} is {float(prompted):.1%}, {gap:.1f} points below "
        f"the target of {view.target:.1%}; {beside}"
    )
    measured = {
        f"prompted_{view.measure.lower().replace(' ', '_')}": float(prompted),
        **({"probe_accuracy": probe["accuracy"]} if probe else {}),
        "points_below_target": gap,
    }
    against = {"golden_set": made_from(reading, "baseline_scores", "golden_set")}
    if 100 * (exact(view.target) - prompted) < exact(margin):
        advice = f"{text}: less than {margin} points, so stay with the prompt"
        return Outcome(False, advice, measured, against)
    return Outcome(True, text, measured, against)


def _loss_fell(reading: Reading) -> Outcome:
    facts = reading.manifest("adapter").facts
    first, final = float(facts["first_loss"]), float(facts["final_loss"])
    text = f"the loss went from {first:.3f} to {final:.3f} in {facts['steps']} steps"
    passed = final < first < float("inf")
    return Outcome(passed, text, {"first_loss": first, "final_loss": final})


def _learned(reading: Reading) -> Outcome:
    counter = TokenCounter(reading.artifact("base_model").path)
    rows = {row["record_id"]: row for row in reading.records("training_set")}
    end = trained_format(reading).end_of_turn
    expected = sum(counter.count(row["completion"]) for row in reading.records("training_set"))
    trained = int(reading.manifest("adapter").facts["trained_tokens"])
    bad = []
    for example in reading.attached_records("adapter", "batch"):
        learned = [token["trained"] for token in example["tokens"]]
        row, count = rows[example["record_id"]], sum(learned)
        ends = example["tokens"][-1]["text"] == end
        at_the_end = learned == [False] * (len(learned) - count) + [True] * count
        if not (count == counter.count(row["completion"]) and ends and at_the_end):
            bad.append(example["record_id"])
    text = (
        f"{trained} tokens carried loss, the completions have {expected}; "
        f"{len(bad)} of the batch's examples learned something else"
    )
    measured = {"trained_tokens": trained, "completion_tokens": expected, "first": bad[:5]}
    against = {"training_set": reading.digest("training_set")}
    return Outcome(trained == expected and not bad, text, measured, against)
