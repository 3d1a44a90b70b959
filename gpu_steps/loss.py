"""Logits of the positions that carry a label, and of no others.

Invariant: they are the library's own, with whatever the architecture does after its vocabulary
head (Gemma's soft-capping, Granite's and Cohere's scaling): its forward computes them, and is only
told which positions to keep. A model that cannot be told computes all, and the labelled are taken.
"""

from typing import Any

import torch


def labelled_logits(causal: Any, inputs: dict[str, Any], labelled: torch.Tensor) -> torch.Tensor:
    """Return the logits (labelled positions, vocabulary) that predict the labelled tokens.

    `labelled` is (batch, tokens - 1), true where the token after the position carries a label.
    """
    keep = torch.nn.functional.pad(labelled, (0, 1))
    logits: torch.Tensor = causal(**inputs, use_cache=False, logits_to_keep=keep).logits
    # Three dimensions: the mask was not understood, and all positions came back.
    return logits[keep] if logits.dim() == 3 else logits
