"""The merged model: what is served, and the checks that it is what was trained.

The answers compared here are free, not held to a form as those that are scored and served: it is
the merge that is judged, and a form would hide where the two differ.
"""

import json
import shutil

from ftdm_assets.chat import served_format
from ftdm_assets.graph import base_model, prediction
from ftdm_assets.graph.dataset import trained_format
from ftdm_assets.graph.evidence import made_from
from ftdm_assets.graph.kept_step import STEP, KeptStep, agreement_rows, write_rows
from ftdm_assets.graph.plan import AssetPlan, Built, CheckPlan, Outcome, Reading, Tools
from ftdm_assets.model_folder import ModelFolder
from ftdm_assets.provenance.files import jsonl_bytes, write_bytes
from golden.statistics import exact

_GOLDEN_PROMPTS = 32


def asset(model: ModelFolder, group: str) -> AssetPlan:
    """Return the asset of the merged model."""
    settings = model.settings
    return AssetPlan(
        name="merged_model",
        group=group,
        description="Base model and adapter as one safetensors folder, with the chat template.",
        build=_build,
        version="2",
        config={
            "instruction": settings.task.instruction,
            "method": settings.training.method,
            "max_new_tokens": settings.task.max_new_tokens,
        },
        deps=("adapter", "base_model", "training_set", "golden_set"),
        kinds=("huggingface",),
        gpu=True,
    )


def checks(model: ModelFolder) -> list[CheckPlan]:
    """Return the checks of the merged model."""
    gates = model.settings.gates
    return [
        CheckPlan(
            "merged_model",
            "merge_agrees",
            "Merged model and adapter on the base model predict the same tokens.",
            lambda r: _agrees(r, gates.merge_agreement),
            {"minimum": gates.merge_agreement},
        ),
        CheckPlan(
            "merged_model",
            "predictions_agree",
            "Merged model and adapter on the base model answer golden examples alike.",
            lambda r: _predictions_agree(r, gates.merge_predictions),
            {"minimum": gates.merge_predictions},
        ),
        base_model.safetensors_only("merged_model"),
        base_model.special_tokens("merged_model"),
        CheckPlan(
            "merged_model",
            "template",
            "The model carries the template that it was trained with.",
            _merged_template,
            version="2",
        ),
    ]


def _build(reading: Reading, tools: Tools) -> Built:
    chat = trained_format(reading)
    work = reading.home / "work" / reading.model.name / "merge"
    output = work / "result"
    write_rows(work / "agreement.jsonl", agreement_rows(reading.records("training_set")))
    asked = [
        dict(zip(("prompt", "completion"), chat.render(e.input, e.output), strict=True))
        | {"record_id": e.example_id}
        for e in prediction.examples_of(reading)[:_GOLDEN_PROMPTS]
    ]
    write_bytes(work / "prompts.jsonl", jsonl_bytes(asked))
    shutil.rmtree(output, ignore_errors=True)
    step = KeptStep(
        "merge",
        {
            "chat_template": chat.template,
            "end_of_turn": chat.end_of_turn,
            "max_new_tokens": reading.model.settings.task.max_new_tokens,
            "method": reading.model.settings.training.method,
        },
    )
    step.run(
        tools,
        {
            "base_model": reading.artifact("base_model").path,
            "adapter": reading.artifact("adapter").path,
            "output": output,
            "agreement_file": work / "agreement.jsonl",
            "prompts_file": work / "prompts.jsonl",
        },
    )
    result = json.loads((output / "result.json").read_text(encoding="utf-8"))
    artifact = reading.store.put_folder("model", output / "model")
    shutil.rmtree(work)
    return Built(artifact, facts=result, attachments={STEP: step.keep(reading.store)})


def _agrees(reading: Reading, minimum: float) -> Outcome:
    facts = reading.manifest("merged_model").facts
    agreement = float(facts["agreement"])
    text = f"{agreement:.2%} of the next tokens agree, {minimum:.2%} asked for"
    measured = {name: float(facts[name]) for name in ("agreement", "mean_kl")}
    other = facts.get("alternative")
    if other:
        text += (
            f" (mean divergence {facts['mean_kl']:.5f} nats); merged into the base before it was "
            f"quantised {other['agreement']:.2%} would ({other['mean_kl']:.5f} nats)"
        )
        measured |= {f"alternative_{name}": float(other[name]) for name in tuple(measured)}
    return Outcome(agreement >= minimum, text, measured)


def _predictions_agree(reading: Reading, minimum: float) -> Outcome:
    facts = reading.manifest("merged_model").facts
    same, asked = int(facts["same_predictions"]), int(facts["predictions"])
    text = f"{same} of {asked} golden answers are the same, {minimum:.0%} asked for"
    measured = {"same": same, "asked": asked}
    other = facts.get("alternative")
    if other:
        measured["alternative_same"] = int(other["same_predictions"])
        text += f"; {other['same_predictions']} would be, merged into the base as it was"
    against = {"golden_set": made_from(reading, "merged_model", "golden_set")}
    return Outcome(exact(same) >= exact(minimum) * asked, text, measured, against)


def _merged_template(reading: Reading) -> Outcome:
    carried = served_format(reading.artifact("merged_model").path).digest
    trained = trained_format(reading).digest
    text = f"carries template {carried[:12]}, trained was with {trained[:12]}"
    against = {"training_set": reading.digest("training_set")}
    return Outcome(carried == trained, f"the merged model {text}", {"template": carried}, against)
