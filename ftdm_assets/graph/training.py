"""Stage ``training``: the base model, the baselines, the adapter and the merged model."""

import json
import shutil
import time
from typing import Any

from ftdm_assets import pictures
from ftdm_assets.chat import speaks_chatml
from ftdm_assets.graph import prediction
from ftdm_assets.graph.baseline import few_shot_prompt, probe_scores
from ftdm_assets.graph.dataset import GENERAL_SYSTEM, chat_format
from ftdm_assets.graph.kept_step import STEP, KeptStep, agreement_rows, write_rows
from ftdm_assets.graph.plan import AssetPlan, Built, CheckPlan, Outcome, Reading, Tools
from ftdm_assets.graph.training_record import Training, environment_recorded, recorded
from ftdm_assets.model_folder import ModelFolder
from ftdm_assets.provenance.digests import file_digest
from ftdm_assets.provenance.files import read_jsonl
from golden.client import AskSettings
from golden.statistics import exact

GROUP = "training"
_BASELINE_CONTEXT = 4096
_UNSAFE = {".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".py", ".msgpack", ".h5"}


def assets(model: ModelFolder) -> list[AssetPlan]:
    """Return the assets of this stage."""
    settings = model.settings
    base = settings.base_model
    return [
        AssetPlan(
            name="base_model",
            group=GROUP,
            description="The base model as one safetensors folder with its tokenizer.",
            build=_build_base,
            version="1",
            config=base.model_dump(include={"source", "name"}),
            kinds=("huggingface",),
            gpu=True,
        ),
        AssetPlan(
            name="baseline_scores",
            group=GROUP,
            description="What the prompted base model and a linear probe score on the golden set.",
            build=_build_baseline,
            version="2",
            config={
                "task": settings.task.model_dump(exclude={"taxonomy"}),
                "taxonomy": model.taxonomy(),
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
            description="The LoRA adapter.",
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
        AssetPlan(
            name="merged_model",
            group=GROUP,
            description="Base model and adapter as one safetensors folder, with the chat template.",
            build=_build_merged,
            version="2",
            config={
                "template": chat_format(model).digest,
                "max_new_tokens": settings.task.max_new_tokens,
            },
            deps=("adapter", "base_model", "training_set"),
            kinds=("huggingface",),
            gpu=True,
        ),
    ]


def checks(model: ModelFolder) -> list[CheckPlan]:
    """Return the checks of this stage."""
    gates = model.settings.gates
    return [
        CheckPlan(
            "base_model",
            "safetensors_only",
            "No pickle, no code.",
            lambda r: _safe(r, "base_model"),
        ),
        CheckPlan(
            "baseline_scores",
            "fine_tuning_justified",
            "The prompted baseline is too far below the target to do without fine-tuning.",
            lambda r: _justified(r, gates.target_accuracy, gates.baseline_margin_points),
            {
                "target_accuracy": gates.target_accuracy,
                "margin_points": gates.baseline_margin_points,
            },
        ),
        CheckPlan("adapter", "loss_fell", "The loss is finite and fell.", _loss_fell),
        CheckPlan(
            "adapter",
            "environment_recorded",
            "What it was trained on is known.",
            environment_recorded,
            version="2",
        ),
        CheckPlan(
            "merged_model",
            "merge_agrees",
            "Merged model and adapter on the base model predict the same tokens.",
            lambda r: _agrees(r, gates.merge_agreement),
            {"minimum": gates.merge_agreement},
        ),
        CheckPlan(
            "merged_model",
            "safetensors_only",
            "No pickle, no code.",
            lambda r: _safe(r, "merged_model"),
        ),
        CheckPlan(
            "merged_model",
            "template",
            "The model carries the template that it was trained with.",
            _merged_template,
            {"template": chat_format(model).digest},
        ),
    ]


def questions_digest(model: ModelFolder) -> str:
    """Return the digest of the general questions."""
    named = model.settings.general.questions
    path = model.resolve(named) if named else prediction.PACKAGE_QUESTIONS
    return file_digest(path)


def _build_base(reading: Reading, tools: Tools) -> Built:
    base = reading.model.settings.base_model
    source = base.source
    if source.startswith("folder:"):
        source = f"folder:{reading.model.resolve(source.removeprefix('folder:'))}"
    output = reading.home / "work" / "base" / base.name
    shutil.rmtree(output, ignore_errors=True)
    tools.step("prepare_base", {"source": source, "output": str(output)})
    if not speaks_chatml(output):
        raise ValueError(
            f"base model {base.name}: its tokenizer has no <|im_start|> and <|im_end|> tokens, so "
            "the ChatML template cannot be used; choose a ChatML model (SmolLM2, Qwen 2.5)"
        )
    artifact = reading.store.put_folder("model", output)
    shutil.rmtree(output)
    size = sum(path.stat().st_size for path in artifact.path.rglob("*") if path.is_file())
    return Built(
        artifact, facts={"name": base.name, "source": base.source, "megabytes": size // 2**20}
    )


def _build_baseline(reading: Reading, tools: Tools) -> Built:
    model = reading.model
    records = reading.records("cleaned_dataset")
    context = min(model.settings.base_model.context_length, _BASELINE_CONTEXT)
    name = "baseline"
    asking = AskSettings(
        model=name,
        base_url="",
        system=few_shot_prompt(model.settings.task.instruction, model.taxonomy(), records),
        max_tokens=model.settings.task.max_new_tokens + 16,
        body={"structured_outputs": {"choice": model.labels()}},
    )
    scored = prediction.predict(
        reading,
        tools,
        folder=reading.artifact("base_model").path,
        name=name,
        max_model_len=context,
        asking=asking,
        render_question=_question_renderer(model),
    )
    tools.say("Linear probe: TF-IDF and logistic regression on the cleaned dataset")
    probe = probe_scores(records, prediction.examples_of(reading), model.labels())
    document = {
        "prompted": scored.document()["task"],
        "general": scored.document()["general"],
        "probe": probe.as_dict(),
        "prompt": asking.system,
    }
    target = model.settings.gates.target_accuracy
    bars = {"prompted": scored.task.accuracy, "linear probe": probe.accuracy}
    return Built(
        reading.store.put_document("scores", document),
        facts={
            "prompted_accuracy": scored.task.accuracy,
            "prompted_correct": scored.task.correct,
            "probe_accuracy": probe.accuracy,
            "general_accuracy": scored.general.accuracy,
            "examples": scored.task.total,
            "latency": dict(scored.latency),
        },
        pictures={"baselines": pictures.score_bars(bars, target=target)},
    )


def _question_renderer(model: ModelFolder) -> Any:
    chat = chat_format(model)
    return lambda text: chat.render(text, "", GENERAL_SYSTEM)[0]


def _build_adapter(reading: Reading, tools: Tools) -> Built:
    settings = reading.model.settings
    training, base = settings.training, reading.manifest("base_model")
    work = reading.home / "work" / reading.model.name / "train"
    output = work / "result"
    rows = reading.records("training_set")
    write_rows(work / "train.jsonl", rows)
    shutil.rmtree(output, ignore_errors=True)
    options = training.model_dump(exclude_none=True)
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
    artifact = reading.store.put_folder("adapter", output / "adapter")
    stored_log = reading.store.put_records("train_log", log)
    facts, attachments = recorded(
        reading, tools, Training(step, artifact, output, log, seconds, job)
    )
    shutil.rmtree(work)
    return Built(
        artifact,
        facts=facts,
        attachments={"train_log": stored_log, **attachments},
        pictures={
            "loss": pictures.loss_curve([row["step"] for row in log], [row["loss"] for row in log])
        },
    )


def _build_merged(reading: Reading, tools: Tools) -> Built:
    chat = chat_format(reading.model)
    work = reading.home / "work" / reading.model.name / "merge"
    output = work / "result"
    write_rows(work / "agreement.jsonl", agreement_rows(reading.records("training_set")))
    shutil.rmtree(output, ignore_errors=True)
    step = KeptStep(
        "merge",
        {
            "chat_template": chat.template,
            "end_of_turn": chat.end_of_turn,
            "max_new_tokens": reading.model.settings.task.max_new_tokens,
        },
    )
    step.run(
        tools,
        {
            "base_model": reading.artifact("base_model").path,
            "adapter": reading.artifact("adapter").path,
            "output": output,
            "agreement_file": work / "agreement.jsonl",
        },
    )
    result = json.loads((output / "result.json").read_text(encoding="utf-8"))
    artifact = reading.store.put_folder("model", output / "model")
    shutil.rmtree(work)
    return Built(artifact, facts=result, attachments={STEP: step.keep(reading.store)})


def _safe(reading: Reading, asset: str) -> Outcome:
    files = [path for path in reading.artifact(asset).path.rglob("*") if path.is_file()]
    unsafe = sorted(path.name for path in files if path.suffix in _UNSAFE)
    weights = sum(path.suffix == ".safetensors" for path in files)
    passed = not unsafe and weights > 0
    text = f"{weights} safetensors files, {len(unsafe)} files that could run code {unsafe[:3]}"
    return Outcome(passed, text, {"safetensors": weights, "unsafe": unsafe})


def _justified(reading: Reading, target: float, margin: float) -> Outcome:
    facts = reading.manifest("baseline_scores").facts
    prompted = exact(0) + facts["prompted_correct"] * exact(1) / facts["examples"]
    gap = float(100 * (exact(target) - prompted))
    text = (
        f"the prompted baseline scores {float(prompted):.1%}, {gap:.1f} points below the target "
        f"of {target:.1%}; the linear probe scores {facts['probe_accuracy']:.1%}"
    )
    measured = {
        "prompted_accuracy": facts["prompted_accuracy"],
        "probe_accuracy": facts["probe_accuracy"],
        "points_below_target": gap,
    }
    against = {"golden_set": reading.digest("golden_set")}
    if 100 * (exact(target) - prompted) < exact(margin):
        advice = f"{text}: less than {margin} points, so stay with the prompt"
        return Outcome(False, advice, measured, against)
    return Outcome(True, text, measured, against)


def _loss_fell(reading: Reading) -> Outcome:
    facts = reading.manifest("adapter").facts
    first, final = float(facts["first_loss"]), float(facts["final_loss"])
    text = f"the loss went from {first:.3f} to {final:.3f} in {facts['steps']} steps"
    passed = final < first < float("inf")
    return Outcome(passed, text, {"first_loss": first, "final_loss": final})


def _agrees(reading: Reading, minimum: float) -> Outcome:
    facts = reading.manifest("merged_model").facts
    agreement = float(facts["agreement"])
    text = f"{agreement:.2%} of the next tokens agree, {minimum:.2%} asked for"
    return Outcome(agreement >= minimum, text, {"agreement": agreement})


def _merged_template(reading: Reading) -> Outcome:
    path = reading.artifact("merged_model").path / "chat_template.jinja"
    same = path.exists() and path.read_text(encoding="utf-8") == chat_format(reading.model).template
    text = "carries the template of training" if same else "carries another chat template"
    return Outcome(same, f"the merged model {text}", {"same": same})
