"""Makes, saves and loads LoRA adapters.

Invariants: a saved adapter is safetensors and one JSON file, its bytes follow from the weights and
the settings alone (PEFT writes sets, in an order that changes from process to process), and it
names its base model by name, never by a path.
"""

import json
from pathlib import Path
from typing import Any

import peft
import safetensors.torch
import torch

from gpu_steps.config import ConfigError, StepError
from gpu_steps.output import write_json
from gpu_steps.train import Lora


def add_adapter(model: Any, lora: Lora) -> Any:
    """Wrap `model` with a fresh adapter in the model's own precision.

    Raises:
        ConfigError: a target module does not exist in this model.
    """
    layers = model.config.get_text_config().num_hidden_layers
    upper = lora.upper_layers
    if upper is not None and upper > layers:
        raise ConfigError(f"lora.upper_layers is {upper}, but the model has {layers} layers.")
    targets = _targets(model, lora)
    config = peft.LoraConfig(
        task_type="CAUSAL_LM",
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=targets,
        layers_to_transform=None if upper is None else list(range(layers - upper, layers)),
    )
    return peft.get_peft_model(model, config, autocast_adapter_dtype=False)


def _targets(model: Any, lora: Lora) -> list[str]:
    """Names of the modules to adapt, as PEFT matches them: by the last part of their path."""
    head = model.get_output_embeddings()
    linear = {
        name.rpartition(".")[2]
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and module is not head
    }
    if isinstance(lora.target_modules, str):
        return sorted(linear)
    unknown = [name for name in lora.target_modules if name not in linear]
    if unknown:
        known = ", ".join(sorted(linear))
        msg = f"lora.target_modules: no linear module is named {unknown[0]!r}; there are {known}."
        raise ConfigError(msg)
    return sorted(lora.target_modules)


def save_adapter(model: Any, base_name: str, folder: Path) -> None:
    """Write adapter_model.safetensors and adapter_config.json to a new folder."""
    model.save_pretrained(folder, safe_serialization=True, save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    for key, value in config.items():
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            config[key] = sorted(value)
    config["base_model_name_or_path"] = base_name
    write_json(path, config)
    for file in folder.iterdir():
        file.chmod(0o644)


def load_weights(model: Any, folder: Path) -> None:
    """Put the weights saved in `folder` into the adapter that `model` has already."""
    state = safetensors.torch.load_file(folder / "adapter_model.safetensors")
    loaded = peft.set_peft_model_state_dict(model, state)
    missing = [key for key in loaded.missing_keys if ".lora_" in key]
    if missing or loaded.unexpected_keys:
        raise StepError(f"{folder}: does not fit the adapter; remove it to train from the start.")


def load_adapter(model: Any, folder: Path) -> Any:
    """Put the adapter of `folder` on `model`, in the model's own precision.

    Raises:
        ConfigError: the folder holds no safetensors adapter.
    """
    if not (folder / "adapter_model.safetensors").is_file():
        msg = f"{folder}: is no adapter folder (it has no adapter_model.safetensors)."
        raise ConfigError(msg)
    return peft.PeftModel.from_pretrained(model, folder, autocast_adapter_dtype=False)
