"""Stage ``dataset``: the chat-formatted training set, made from the cleaned dataset."""

import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from ftdm_assets import pictures
from ftdm_assets.chat import ChatFormat, base_format
from ftdm_assets.graph.cleaned_dataset import GROUP
from ftdm_assets.graph.form_check import form_check
from ftdm_assets.graph.plan import AssetPlan, Built, CheckPlan, Outcome, Reading, Tools
from ftdm_assets.model_folder import ModelFolder
from ftdm_assets.provenance.digests import file_digest
from ftdm_assets.records.mix import Instruction, training_rows
from ftdm_assets.tokens import TokenCounter

GENERAL_SYSTEM = "You are a helpful assistant."
_PACKAGE_INSTRUCTIONS = Path(__file__).resolve().parents[1] / "general" / "instructions.jsonl"
_MIX_BOUNDS = (0.05, 0.10)


def instructions_path(model: ModelFolder) -> Path:
    """Return the general instructions: the settings' file, else the package's own."""
    named = model.settings.general.instructions
    return model.resolve(named) if named else _PACKAGE_INSTRUCTIONS


def chat_format(reading: Reading) -> ChatFormat:
    """Return the model's chat template, the same for training, evaluation and serving."""
    base = base_format(reading.artifact("base_model").path)
    return base.chat(reading.model.settings.task.instruction)


def trained_format(reading: Reading) -> ChatFormat:
    """Return the chat template that the training set was rendered with."""
    stored = reading.attachment("training_set", "chat_template")
    document = reading.store.read_document(stored.kind, stored.digest)
    return ChatFormat(document["template"], document["end_of_turn"])


def assets(model: ModelFolder) -> list[AssetPlan]:
    """Return the training set."""
    general = model.settings.general
    return [
        AssetPlan(
            name="training_set",
            group=GROUP,
            description="Chat-formatted examples, mixed with general instructions.",
            build=_build_training,
            version="1",
            config={
                "instruction": model.settings.task.instruction,
                "share": general.share,
                "instructions": file_digest(instructions_path(model)),
                "seed": model.settings.training.seed,
            },
            deps=("cleaned_dataset", "base_model"),
            gated=True,
            kinds=("jsonl",),
        ),
    ]


def checks(model: ModelFolder) -> list[CheckPlan]:
    """Return the checks of the training set."""
    low, high = _MIX_BOUNDS if model.settings.general.share else (0.0, 0.0)
    longest = model.settings.serving.max_model_len
    return [
        CheckPlan(
            "training_set",
            "mix_within_bounds",
            "The share of general instructions is within bounds.",
            lambda r: _mix(r, low, high),
            {"low": low, "high": high},
        ),
        CheckPlan(
            "training_set",
            "trains_to_end_of_turn",
            "Every example trains at least one token and ends with the end of turn.",
            _end_of_turn,
        ),
        CheckPlan(
            "training_set",
            "fits_context",
            "No example is longer than the context.",
            lambda r: _fits(r, longest),
            {"maximum_tokens": longest},
        ),
        CheckPlan(
            "training_set",
            "answers_fit",
            "No answer is longer than what the model may generate.",
            lambda r: _answers_fit(r, model.settings.task.max_new_tokens, r.model.labels()),
            {"max_new_tokens": model.settings.task.max_new_tokens},
            # 2: so are labels that no example has; held to the labels, a model may answer them.
            version="2",
        ),
        *form_check(model),
        CheckPlan(
            "training_set",
            "template",
            "The examples were rendered by the template that will be served.",
            _template,
            {"instruction": model.settings.task.instruction},
            version="2",
        ),
        CheckPlan(
            "training_set",
            "rendered_from_records",
            "Every example is what the template makes of its record, whole.",
            _rendered,
            {"instruction": model.settings.task.instruction},
        ),
    ]


def _build_training(reading: Reading, tools: Tools) -> Built:
    model = reading.model
    chat = chat_format(reading)
    records = pd.DataFrame(reading.records("cleaned_dataset"))
    digests = dict(zip(records["record_id"], records["digest"], strict=True))
    instructions = read_instructions(instructions_path(model))
    share = model.settings.general.share
    rows = training_rows(
        records,
        instructions,
        render=chat.render,
        render_general=lambda text, answer: chat.render(text, answer, GENERAL_SYSTEM),
        share=share,
        seed=model.settings.training.seed,
    )
    counter = TokenCounter(reading.artifact("base_model").path)
    stored = [
        {
            **vars(row),
            "record_digest": digests.get(row.record_id, ""),
            "tokens": counter.count(row.prompt + row.completion),
        }
        for row in rows
    ]
    general = sum(row["origin"] == "general" for row in stored)
    longest = max(row["tokens"] for row in stored)
    tools.say(f"{len(stored)} training examples, {general} general, the longest {longest} tokens")
    template = reading.store.put_document(
        "chat_template", {"template": chat.template, "end_of_turn": chat.end_of_turn}
    )
    return Built(
        reading.store.put_records("training_set", stored),
        facts={
            "rows": len(stored),
            "general": general,
            "longest_tokens": longest,
            "total_tokens": sum(row["tokens"] for row in stored),
            "template_digest": chat.digest,
        },
        attachments={"chat_template": template},
        pictures={
            "tokens an example": pictures.length_histogram(
                [row["tokens"] for row in stored], unit="tokens"
            )
        },
    )


def read_instructions(path: Path) -> list[Instruction]:
    """Read the general instructions: JSON lines of ``instruction`` and ``response``.

    Raises:
        ValueError: naming file and line.
    """
    rows = []
    with path.open(encoding="utf-8") as stream:
        for number, line in enumerate(stream, 1):
            try:
                row = json.loads(line)
                rows.append(Instruction(str(row["instruction"]), str(row["response"])))
            except (ValueError, KeyError, TypeError):
                raise ValueError(
                    f"{path}, line {number}: expected a JSON object with `instruction` and "
                    "`response`; mend the line"
                ) from None
    return rows


def _mix(reading: Reading, low: float, high: float) -> Outcome:
    facts = reading.manifest("training_set").facts
    share = int(facts["general"]) / max(int(facts["rows"]), 1)
    text = f"{share:.1%} of the examples are general instructions, {low:.0%} to {high:.0%} wanted"
    hint = "" if low <= share <= high else "; change attributes.general.share"
    return Outcome(low <= share <= high, text + hint, {"share": share})


def _end_of_turn(reading: Reading) -> Outcome:
    counter = TokenCounter(reading.artifact("base_model").path)
    end = chat_format(reading).end_of_turn
    bad = []
    for row in reading.records("training_set"):
        completion = counter.tokens(row["completion"])
        if len(completion) < 2 or completion[-1] != end:
            bad.append(row["record_id"])
    text = f"{len(bad)} examples train no answer or do not end with {end}"
    return Outcome(not bad, text, {"examples": len(bad), "first": bad[:5]})


def _fits(reading: Reading, maximum: int) -> Outcome:
    longest = int(reading.manifest("training_set").facts["longest_tokens"])
    text = f"the longest example has {longest} tokens, {maximum} fit"
    return Outcome(longest <= maximum, text, {"longest_tokens": longest})


def _answers_fit(reading: Reading, maximum: int, labels: Sequence[str]) -> Outcome:
    counter = TokenCounter(reading.artifact("base_model").path)
    answers = {
        row["completion"] for row in reading.records("training_set") if row["origin"] != "general"
    }
    # One more token ends it.
    lengths = {label: counter.count(label) + 1 for label in labels}
    lengths |= {answer: counter.count(answer) for answer in answers}
    longest = max(lengths, key=lengths.__getitem__)
    measured = {"longest_answer_tokens": lengths[longest]}
    text = f"the longest answer has {lengths[longest]} tokens, {maximum} may be generated"
    if lengths[longest] <= maximum:
        return Outcome(True, text, measured)
    hint = f"{longest[:60]!r} would be cut off; raise attributes.task.max_new_tokens"
    return Outcome(False, f"{text}: {hint}", measured)


def _template(reading: Reading) -> Outcome:
    used, now = trained_format(reading).digest, chat_format(reading).digest
    text = f"rendered by template {used[:12]}, in force is {now[:12]}"
    against = {"base_model": reading.digest("base_model")}
    return Outcome(used == now, text, {"template": used}, against)


def _rendered(reading: Reading) -> Outcome:
    chat = chat_format(reading)
    records = {row["record_id"]: row for row in reading.records("cleaned_dataset")}
    bad, rows = [], reading.records("training_set")
    domain = [row for row in rows if row["origin"] == "domain"]
    for row in domain:
        record = records.get(row["record_id"])
        made = record and chat.render(record["input"], record["output"])
        if made != (row["prompt"], row["completion"]):
            bad.append(row["record_id"])
    text = f"{len(bad)} of {len(domain)} examples are not what the template makes of their records"
    against = {name: reading.digest(name) for name in ("base_model", "cleaned_dataset")}
    return Outcome(not bad, text, {"examples": len(bad), "first": bad[:5]}, against)
