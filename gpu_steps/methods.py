"""The three ways to train: `lora`, `qlora` and `full`.

Invariants: `lora` and `qlora` train an adapter and leave the base model as it is; `full` trains
every weight, in float32 with `dtype` for computing, because steps of a full training's size vanish
when they are added to bf16 weights. What a method leaves is one folder: an adapter, or for `full`
the whole model, and the merge tells them apart by what is in them.
"""

from pathlib import Path
from typing import Any

import torch

from gpu_steps import models
from gpu_steps.adapters import add_adapter, load_weights, save_adapter
from gpu_steps.train import FULL, QLORA, Train


def load_base(config: Train) -> Any:
    """Load the base model in the form in which the method holds it."""
    if config.method == QLORA:
        from gpu_steps.quantised import load_quantised  # bitsandbytes: only where it is used

        return load_quantised(config.base_model, config.dtype)
    if config.method == FULL:
        models.require_dtype(config.dtype)
        return models.load_model(config.base_model, "float32")
    return models.load_model(config.base_model, config.dtype)


def trainable(base: Any, config: Train) -> Any:
    """Return the model whose trainable weights are those of the method."""
    if config.lora is not None:
        return add_adapter(base, config.lora)
    return base.requires_grad_(requires_grad=True)


def causal(model: Any) -> Any:
    """Return the causal model itself, under its adapter if it has one."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def options(config: Train) -> dict[str, Any]:
    """Return the trainer's arguments that follow from the method."""
    if config.method == FULL:
        computing = {"bf16": config.dtype == "bfloat16", "fp16": config.dtype == "float16"}
        return computing | {"use_cpu": not torch.cuda.is_available()}
    if config.method == QLORA and torch.cuda.is_available():
        # Pages the optimiser's states out to the host's memory when a long batch needs the room.
        return {"bf16": False, "optim": "paged_adamw_32bit"}
    return {"bf16": False}


def upper_layers(config: Train) -> int | None:
    """Return how many of the upper layers the method trains; None for all."""
    return None if config.lora is None else config.lora.upper_layers


def save(model: Any, config: Train, folder: Path) -> None:
    """Write what was trained: the adapter, or the whole model in float32."""
    if config.lora is not None:
        save_adapter(model, config.base_name, folder)
    else:
        models.save_model(model, folder)


def load_checkpoint(model: Any, folder: Path) -> bool:
    """Put a checkpoint's adapter into the model; False if the model has none."""
    if not hasattr(model, "get_base_model"):
        return False
    load_weights(model, folder)
    return True
