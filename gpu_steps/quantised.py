"""Base models in NF4 with double quantisation, for QLoRA.

Invariants: a quantised base is loaded for training in one way only, so that its 4-bit weights are
the same whenever it is loaded again; `dequantised` gives exactly the weights that these stand for.
What is not quantised (embeddings, norms, head) keeps its precision: PEFT's preparation for k-bit
training would make it float32, twice the memory and on a CPU twice the time of the head.
"""

from pathlib import Path
from typing import Any

import bitsandbytes
import torch
import transformers

from gpu_steps import models


def load_quantised(folder: Path, dtype: str) -> Any:
    """Load the model of a local folder with its linear layers, but for the head, in NF4.

    The quantiser sees bf16 weights, whatever `dtype` is: the precision of computing and of all
    that is not quantised.

    Raises:
        ConfigError: the folder has no model, or `dtype` is unknown.
    """
    models.require_dtype(dtype)
    computing = models.DTYPES[dtype]
    settings = transformers.BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=computing,
    )
    model = models.load_model(folder, "bfloat16", quantization_config=settings)
    for _, layer in quantised_layers(model):
        layer.weight.quant_state.dtype = computing
        # Else a first forward without gradients repacks the weights for a kernel of inference, and
        # what is trained afterwards computes with the wrong ones: it learns nothing.
        layer.support_avx512bf16_for_cpu = False
    for weight in model.parameters():
        if weight.is_floating_point():
            weight.data = weight.data.to(computing)
    return model


def quantised_layers(model: Any) -> list[tuple[str, Any]]:
    """Return the 4-bit layers of a model with their names."""
    kind = bitsandbytes.nn.Linear4bit
    return [(name, module) for name, module in model.named_modules() if isinstance(module, kind)]


@torch.no_grad()
def dequantised(folder: Path) -> Any:
    """Load the model of a local folder in float32, its linear layers as NF4 has rounded them."""
    model = models.load_model(folder, "bfloat16").float()
    rounded = load_quantised(folder, "float32")
    for name, layer in quantised_layers(rounded):
        weight = bitsandbytes.functional.dequantize_4bit(
            layer.weight.data, layer.weight.quant_state
        )
        model.get_submodule(name).weight.copy_(weight)
    return model
