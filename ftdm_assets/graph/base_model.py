"""The base model: what its family asks for, and the checks that it can be trained and served so."""

import json
import shutil
from pathlib import Path
from typing import Any

from ftdm_assets.chat import base_format, special_token
from ftdm_assets.graph.plan import AssetPlan, Built, CheckPlan, Outcome, Reading, Tools
from ftdm_assets.model_folder import ModelFolder
from ftdm_assets.tokens import TokenCounter

_UNSAFE = {".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".py", ".msgpack", ".h5"}


def asset(model: ModelFolder, group: str) -> AssetPlan:
    """Return the asset of the base model."""
    return AssetPlan(
        name="base_model",
        group=group,
        description="The base model as one safetensors folder with its tokenizer.",
        build=_build,
        # 3: its template breaks the texts of special tokens in what is said.
        version="3",
        config=model.settings.base_model.model_dump(include={"source", "name"}),
        kinds=("huggingface",),
        gpu=True,
    )


def checks(model: ModelFolder) -> list[CheckPlan]:
    """Return the checks of the base model."""
    longest = model.settings.serving.max_model_len
    return [
        safetensors_only("base_model"),
        special_tokens("base_model"),
        CheckPlan(
            "base_model",
            "chat_template",
            "Its chat template is rendered here as by its library, and its answers can end.",
            _chat_template,
        ),
        CheckPlan(
            "base_model",
            "context",
            "What is served fits the base model's context.",
            lambda r: _context(r, longest),
            {"max_model_len": longest},
        ),
        CheckPlan(
            "base_model",
            "known_family",
            "The family's settings are known, not guessed.",
            _known,
            severity="warn",
        ),
    ]


def safetensors_only(asset: str) -> CheckPlan:
    """Return the check that a model's folder holds no pickle and no code."""
    return CheckPlan(
        asset, "safetensors_only", "No pickle, no code.", lambda r: _safe(r.artifact(asset).path)
    )


def special_tokens(asset: str) -> CheckPlan:
    """Return the check that a model can learn to stop: it pads with another token."""
    return CheckPlan(
        asset,
        "special_tokens",
        "The end of turn is one special token, and padding is another.",
        lambda r: _special_tokens(r, asset),
    )


def _build(reading: Reading, tools: Tools) -> Built:
    base = reading.model.settings.base_model
    source = base.source
    if source.startswith("folder:"):
        source = f"folder:{reading.model.resolve(source.removeprefix('folder:'))}"
    output = reading.home / "work" / "base" / base.name
    shutil.rmtree(output, ignore_errors=True)
    tools.step("prepare_base", {"source": source, "output": str(output)})
    found = base_format(output)
    for warning in found.warnings:
        tools.say(f"warning: {warning}")
    artifact = reading.store.put_folder("model", output)
    shutil.rmtree(output)
    size = sum(path.stat().st_size for path in artifact.path.rglob("*") if path.is_file())
    return Built(
        artifact,
        facts={
            "name": base.name,
            "source": base.source,
            "megabytes": size // 2**20,
            "family": found.family,
            "end_of_turn": found.end_of_turn,
            "context_length": found.context_length,
            "target_modules": found.target_modules,
            "own_template": found.own_template,
        },
    )


def _safe(folder: Path) -> Outcome:
    files = [path for path in folder.rglob("*") if path.is_file()]
    unsafe = sorted(path.name for path in files if path.suffix in _UNSAFE)
    weights = sum(path.suffix == ".safetensors" for path in files)
    passed = not unsafe and weights > 0
    text = f"{weights} safetensors files, {len(unsafe)} files that could run code {unsafe[:3]}"
    return Outcome(passed, text, {"safetensors": weights, "unsafe": unsafe})


def _special_tokens(reading: Reading, asset: str) -> Outcome:
    folder = reading.artifact(asset).path
    end = base_format(reading.artifact("base_model").path).end_of_turn
    special = TokenCounter(folder).special()
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    pad, eos = special_token(folder, "pad_token"), special_token(folder, "eos_token")
    wrong = [
        (end not in special, f"the end of turn {end} is no special token"),
        (pad not in special, f"the padding token {pad} is no special token"),
        (pad in (end, eos), f"the padding token {pad} is also the end of turn: it would be lost"),
        (eos != end, f"the tokenizer ends with {eos}, a turn with {end}"),
        (config.get("pad_token_id") != special.get(pad), "config.json pads with another token"),
        (special.get(end) not in _ids(config.get("eos_token_id")), "config.json ends otherwise"),
    ]
    told = [text for is_wrong, text in wrong if is_wrong]
    text = "; ".join(told) or f"a turn ends with {end}, padding is {pad}"
    measured = {"end_of_turn": end, "pad_token": pad, "eos_token": eos}
    against = {} if asset == "base_model" else {"base_model": reading.digest("base_model")}
    return Outcome(not told, text, measured, against)


def _ids(value: Any) -> list[int]:
    return list(value) if isinstance(value, list) else [value]


def _chat_template(reading: Reading) -> Outcome:
    folder = reading.artifact("base_model").path
    found = base_format(folder)
    probe, counter = found.probe, TokenCounter(folder)
    prompt, completion = found.chat(probe["instruction"]).render(probe["input"], probe["answer"])
    markers = [token for token in counter.tokens(prompt) if token in counter.special()]
    goes_on = probe["whole"].removeprefix(prompt).strip()
    wrong = [
        (prompt != probe["prompt"], "it is rendered otherwise here than by its library"),
        (probe["instruction"] not in prompt, "it leaves the instruction out"),
        (probe["input"] not in prompt, "it leaves the text out"),
        (goes_on != completion, f"an answer ends as {goes_on[-20:]!r}, not with the end of turn"),
        (found.known and not markers, "none of its markers is a token of the tokenizer"),
    ]
    told = [text for is_wrong, text in wrong if is_wrong]
    text = "; ".join(told) or f"{len(markers)} markers a question, then {completion!r}"
    return Outcome(
        not told, f"{found.family}: {text}", {"prompt": prompt, "completion": completion}
    )


def _context(reading: Reading, longest: int) -> Outcome:
    family = base_format(reading.artifact("base_model").path)
    context = reading.model.settings.base_model.context_length or family.context_length
    text = f"{longest} tokens are served, the base model's context has {context}"
    hint = "" if longest <= context else "; lower attributes.serving.max_model_len"
    return Outcome(longest <= context, text + hint, {"context_length": context})


def _known(reading: Reading) -> Outcome:
    found = base_format(reading.artifact("base_model").path)
    text = "; ".join(found.warnings) or "its settings come from the table of families"
    passed = found.known and not found.warnings
    return Outcome(passed, f"{found.family}: {text}", {"family": found.family})
